"""One round of questions: the newest day first, of each day its studies, of those that have grown the series and images.

A study is looked into when it is new, when it says another number of images than before, when something of it is to be
tried again, and once in `again_s`. What fails is set aside with a pause that doubles, and is left after the last try: no
image, series or study holds up the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final

from sites.watch.dicomweb_poll_answers import Level, Row
from sites.watch.dicomweb_poll_http import Fetched, Session
from sites.watch.dicomweb_poll_memory import Key, Memory, State
from sites.watch.dicomweb_poll_trouble import Unanswered
from sites.watch.spool import Received, Spool

Asked = tuple[Key, tuple[str, str, str]]
"""An image, with the UIDs of study, series and instance."""
_RUN: Final = 5  # images of a series one after the other that fail: the series is set aside
_STUDIES: Final = 3  # studies one after the other of which nothing came: the archive is left alone


def day_of(now: float) -> int:
    """By this machine's own time zone, as a StudyDate is written in the hospital's; as `date.toordinal` counts."""
    return datetime.fromtimestamp(now, UTC).astimezone().toordinal()


@dataclass(frozen=True, slots=True)
class WalkSettings:
    """Attributes:

    modalities: of series that are taken; none named: all. newer_s: after so long new studies are asked for before older
    ones go on. again_s: after so long a study is looked into although it says that it has not grown. at_once: images.
    """

    modalities: tuple[str, ...] = ()
    newer_s: float = 30.0
    again_s: float = 3600.0
    at_once: int = 4


@dataclass(slots=True)
class Round:
    """What one round has met.

    Attributes:
        begin, today: first and last of its days. seen: studies, and how many images they said.
        barren: studies in a row of which nothing came but faults.
    """

    begin: int
    today: int
    seen: dict[bytes, int] = field(default_factory=dict)
    barren: int = 0


@dataclass(slots=True)
class _Looked:
    """At a study, or a series of it.

    Attributes:
        due: when it is to be looked at again. taken, refused: images. waits: something of it is to be tried again.
        fault: the last one. run: images in a row that failed.
    """

    due: float
    taken: int = 0
    refused: int = 0
    waits: bool = False
    fault: Unanswered | None = None
    run: int = 0

    @property
    def state(self) -> State:
        return State.WAITING if self.waits else State.LOOKED

    def wait(self, due: float) -> None:
        self.waits, self.due = True, min(self.due, due)

    def add(self, other: _Looked) -> None:
        self.taken, self.refused = self.taken + other.taken, self.refused + other.refused
        self.due, self.waits = min(self.due, other.due), self.waits or other.waits
        self.fault = other.fault or self.fault


@dataclass(slots=True)
class Walk:
    """By one thread. Of each image that is on the disk `on_received` hears, of a study `on_released` once all of it is.

    Attributes:
        now: seconds since 1970.
    """

    session: Session
    memory: Memory
    spool: Spool
    settings: WalkSettings
    on_received: Callable[[Received], None]
    on_released: Callable[[frozenset[str]], None]
    now: Callable[[], float] = time.time

    async def go_on(self, round_: Round) -> bool:
        """Whether the round is whole. Raises Unanswered where days are not answered or studies fail in a row, Full."""
        begun = time.monotonic()
        today = max(round_.today, day_of(self.now()))  # a long round goes on over midnight
        for day in range(today + 1, round_.begin - 1, -1):  # the archive's clock may be ahead
            for study in await self._studies(day):
                key = self._key("study", day, study.uid)
                if round_.seen.get(key.digest) == study.images:
                    continue
                round_.seen[key.digest] = study.images
                if not self.memory.is_due(key, study.images, self.now()):
                    continue
                await self._look(key, study, round_)
                if time.monotonic() - begun >= self.settings.newer_s:
                    return False
        return True

    async def _studies(self, day: int) -> list[Row]:
        """Of one day, by what it says: an archive that does not know the filter sends others."""
        written, found = date.fromordinal(day).strftime("%Y%m%d"), dict[str, Row]()
        for modality in self.settings.modalities or ("",):
            query = {"StudyDate": written} | ({"ModalitiesInStudy": modality} if modality else {})
            rows = await self.session.search(Level.STUDY, (), query)
            found |= {row.uid: row for row in rows if row.date in ("", written)}
        return list(found.values())

    async def _look(self, key: Key, study: Row, round_: Round) -> None:
        """Into one study; what fails is its own affair, unless nothing comes of one study after the other."""
        looked = _Looked(self.now() + self.settings.again_s)
        try:
            listed = await self.session.search(Level.SERIES, (study.uid,), {}, study.holds)
        except Unanswered as fault:
            looked.fault = fault
            self._charge(key, looked, study.images)
        else:
            for series in listed:
                if not self.settings.modalities or series.modality in ("", *self.settings.modalities):
                    looked.add(await self._series(key, study, series))
            self.memory.settle(key, looked.state, study.images, looked.due)
        if looked.taken and not looked.waits:
            self.on_released(frozenset({study.uid}))
        came = looked.fault is None or looked.taken or looked.refused
        round_.barren = 0 if came else round_.barren + 1
        if round_.barren >= _STUDIES and looked.fault is not None:
            raise Unanswered(looked.fault.trouble, looked.fault.pause_s)

    async def _series(self, above: Key, study: Row, series: Row) -> _Looked:
        """Raises Full."""
        key, own = (
            self._key("series", above.day, study.uid, series.uid),
            _Looked(self.now() + self.settings.again_s),
        )
        if not self.memory.is_due(key, series.images, self.now()):
            item = self.memory.find(key)
            if item is not None and item.state in (State.WAITING, State.FAILING):
                own.wait(item.due)
            return own
        try:
            listed = await self.session.search(Level.INSTANCE, (study.uid, series.uid), {}, series.holds)
        except Unanswered as fault:
            own.fault = fault
            self._charge(key, own, series.images)
            return own
        all_ = [(study.uid, series.uid, row.uid) for row in listed]
        keyed = [(self._key("instance", above.day, *uids), uids) for uids in all_]
        wanted = [one for one in keyed if self._is_wanted(one[0], own)]
        for begin in range(0, len(wanted), self.settings.at_once):
            await self._images(wanted[begin : begin + self.settings.at_once], own)
            if own.run >= _RUN:
                self._charge(key, own, series.images)
                return own
        self.memory.settle(key, own.state, series.images, own.due)
        return own

    def _is_wanted(self, key: Key, own: _Looked) -> bool:
        """Not what was taken, refused or left; nor what fails and is not due yet, for which the series waits."""
        item = self.memory.find(key)
        if item is None or item.state is not State.FAILING:
            return item is None
        if item.due > self.now():
            own.wait(item.due)
            return False
        return True

    async def _images(self, group: Sequence[Asked], own: _Looked) -> None:
        """At once. Raises Full; what came of the others is noted before."""
        asked = (self.session.fetch(uids, self.spool, self.on_received) for _, uids in group)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        other: BaseException | None = None
        for (key, _), answer in zip(group, answers, strict=True):
            if isinstance(answer, Fetched):
                self.memory.settle(key, State(answer.value))
                self.spool.counts.add(f"poll.{answer.value}")
                own.run = 0
                own.taken, own.refused = (
                    own.taken + (answer is Fetched.TAKEN),
                    own.refused + (answer is Fetched.REFUSED),
                )
            elif isinstance(answer, Unanswered):
                own.run, own.fault = own.run + 1, answer
                self._charge(key, own)
            else:
                other = answer
        if other is not None:
            raise other

    def _charge(self, key: Key, own: _Looked, said: int = -1) -> None:
        """One failure more; what is left after the last try is not waited for."""
        item = self.memory.charge(key, self.now(), said)
        if item.state is State.LEFT:
            self.spool.counts.add("poll.left")
        else:
            own.wait(item.due)

    def _key(self, kind: str, day: int, *uids: str) -> Key:
        return Key(self.spool.digest(f"poll {kind}", *(uid.encode() for uid in uids)), kind, day)
