"""A source that asks an archive of the tests, one round at a time, on a day of its own."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from pathlib import Path

from sites.watch.delivering import Retries
from sites.watch.dicomweb_poll import DicomWebPoll, DicomWebPollSettings
from sites.watch.dicomweb_poll_http import AskLimits
from sites.watch.posting import Endpoint
from tests.watch.archive import Held
from tests.watch.arriving import SERIES, STUDY, Told, instance, uid_of

NOON = datetime(2026, 1, 2, 12).astimezone().timestamp()
TODAY = "20260102"
DAY_S = 86400.0


class Clock:
    now = NOON

    def __call__(self):
        return self.now


def held(number=1, study=STUDY, series=SERIES, date=TODAY, **more):
    """An image of the archive, as it says it is."""
    content = instance(number, StudyInstanceUID=study, SeriesInstanceUID=series, StudyDate=date, **more)
    return Held(study, series, uid_of(number), content, date)


class Asking:
    """source: what asks. told: what it told. clock: by which it knows the day."""

    def __init__(self, spool, url, limits=None, endpoint=None, **settings):
        self.told, self.clock = Told(), Clock()
        quick = {"answer_s": 5.0, "page": 3} | (limits or {})
        chosen = DicomWebPollSettings(
            Endpoint(url, timeout_s=5.0, **(endpoint or {})),
            **{"retries": Retries(3, 30.0, 600.0), "limits": AskLimits(**quick)} | settings,
        )
        self.source = DicomWebPoll(
            chosen, spool, self.told.received.append, self.told.released.append, self.clock, lambda: 1.0
        )

    def look(self, later_s=0.0):
        """One round; the trouble that ended it, "" where it was whole."""
        self.clock.now += later_s
        return asyncio.run(self.source.round())[0]

    def numbers(self):
        return sorted(one.arrival.number for one in self.told.received)


@contextlib.contextmanager
def asking(spool, url, **settings):
    one = Asking(spool, url, **settings)
    yield one
    one.source._memory.close()


def counted(spool):
    """Less how often was asked, which is not the point."""
    return {k: v for k, v in spool.counts.read().items() if k not in ("poll.asked", "poll.rounds")}


def private(folder: Path, text: str, mode=0o600) -> Path:
    path = folder / "secret"
    path.touch(mode=mode)
    path.write_text(text)
    return path
