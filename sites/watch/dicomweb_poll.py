"""An archive that is asked again and again for what is new, by DICOMweb: searches (QIDO-RS) and images (WADO-RS).

For archives that do not send. Every image goes the way of all others: into the spool as it comes, examined, on the disk
before it is noted as taken. A kill at any moment loses nothing: what was not noted is asked for again, and a repeat is
absorbed by spool and store. An archive that fails is left alone for a while that doubles, and asked again for ever.
"""

from __future__ import annotations

import asyncio
import base64
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from fedimg.crypto.keys import read_private
from fedimg.errors import DataError, FedimgError
from sites.watch.delivering import Retries
from sites.watch.dicomweb_poll_http import AskLimits, session
from sites.watch.dicomweb_poll_memory import JITTER, RETRIES, Memory
from sites.watch.dicomweb_poll_trouble import Trouble, Unanswered
from sites.watch.dicomweb_poll_walk import Round, Walk, WalkSettings, day_of
from sites.watch.posting import Endpoint
from sites.watch.spool import Full, Received, Spool
from sites.watch.stow_client import read_token

_LOGIN: Final = re.compile(r"[^:\x00-\x1f\x7f]{1,200}:[^\x00-\x1f\x7f]{1,200}")  # RFC 7617 2
_LONGEST_PAUSE_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class DicomWebPollSettings:
    """Attributes:

    endpoint: its url is what stands before /studies. token: file of a bearer token; login: file of user:password.
    every_s: between two rounds. overlap_days, first_days: see `PollSettings`. retries: of one image that fails.
    """

    endpoint: Endpoint
    token: Path | None = None
    login: Path | None = None
    modalities: tuple[str, ...] = ()
    every_s: float = 30.0
    again_s: float = 3600.0
    overlap_days: int = 2
    first_days: int = 1
    limits: AskLimits = field(default_factory=AskLimits)
    retries: Retries = RETRIES


class DicomWebPoll:
    """Asks while it is entered; the arguments are those of `DicomScp`.

    Raises:
        ConfigError, DataError: files of certificates, token or login that are not what they should be.
    """

    def __init__(
        self,
        settings: DicomWebPollSettings,
        spool: Spool,
        on_received: Callable[[Received], None],
        on_released: Callable[[frozenset[str]], None],
        now: Callable[[], float] = time.time,
        jitter: Callable[[], float] = JITTER,
    ) -> None:
        self._settings, self._spool, self._now, self._jitter = settings, spool, now, jitter
        self._on_received, self._on_released = on_received, on_released
        self._context = settings.endpoint.context()
        authorization(settings.token, settings.login)
        self._archive = spool.digest("poll archive", settings.endpoint.url.encode()).hex()
        self._memory = Memory(spool.root, settings.retries, jitter)
        self._memory.forgive(self._begin())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending, self._begun = asyncio.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="poll", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(self, *_: object) -> None:
        """What is under way is broken off: it is asked for again."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(timeout=30)
        if not self._thread.is_alive():
            self._memory.close()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            self._begun.set()
            runner.run(self._until_ended())

    async def _until_ended(self) -> None:
        asking = asyncio.create_task(self._asking())
        await self._ending.wait()
        asking.cancel()
        await asyncio.wait({asking})

    async def _asking(self) -> None:
        every = self._settings.every_s
        pauses, failures = Retries(1, every, max(every, _LONGEST_PAUSE_S)), 0
        while True:
            trouble, pause = await self.round()
            failures = failures + 1 if trouble else 0
            wait = pauses.pause(failures, self._jitter()) if trouble else every * (1 + self._jitter() / 5)
            await asyncio.sleep(max(wait, pause))

    async def round(self) -> tuple[str, float]:
        """Ask once for all that is new: the trouble that ended it, "" where it was whole; and for how long the archive wants to be left alone."""
        trouble, pause = "", 0.0
        try:
            await self._ask_all()
        except Unanswered as fault:
            trouble, pause = fault.trouble.value, fault.pause_s
        except Full:
            trouble = Trouble.DISK.value
        except FedimgError:  # the file with the token, while it is being exchanged
            trouble = Trouble.LOGIN.value
        except Exception:  # noqa: BLE001 - its text may quote anything; the next round begins anew
            trouble = Trouble.OTHER.value
            self._spool.counts.add("poll.faults")
        self._spool.counts.add("poll.rounds_broken_off" if trouble else "poll.rounds")
        self._note(trouble)
        return trouble, pause

    async def _ask_all(self) -> None:
        """One round, which is whole when this returns."""
        memory, settings = self._memory, self._settings
        headers = authorization(settings.token, settings.login)
        begin = self._begin()
        round_ = Round(begin, self._today())
        walk_settings = WalkSettings(
            settings.modalities, settings.every_s, settings.again_s, settings.limits.at_once
        )
        whole = False
        while not whole:
            async with session(
                settings.endpoint, self._context, headers, settings.limits, self._spool.counts
            ) as asked:
                walk = Walk(
                    asked, memory, self._spool, walk_settings, self._on_received, self._on_released, self._now
                )
                whole = await walk.go_on(round_)
        memory.whole(self._archive, begin, round_.today)

    def _note(self, trouble: str) -> None:
        """For `fedimg watch status`; where the disk does not take it, the metrics have it."""
        try:
            self._memory.trouble(trouble)
        except Exception:  # noqa: BLE001 - as above
            self._spool.counts.add("poll.faults")

    def _begin(self) -> int:
        own = self._settings
        return self._memory.begin(self._archive, self._today(), own.overlap_days, own.first_days, self._now())

    def _today(self) -> int:
        return day_of(self._now())


def authorization(token: Path | None, login: Path | None) -> Mapping[str, str]:
    """The header, none without a file. Raises DataError for a file that others may read, or that holds something else."""
    if token is not None:
        return {"authorization": f"Bearer {read_token(token)}"}
    if login is None:
        return {}
    remedy = "write user:password on one line into a file of mode 0600"
    text = read_private(login, remedy).decode("utf-8", "replace").strip("\r\n")
    if not _LOGIN.fullmatch(text):
        raise DataError("user:password on one line", "another text", remedy)
    return {"authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
