"""Studies from a folder, brought at a chosen rate: for a demonstration, and for tests that cannot wait.

Time is virtual: `speed` times as fast as the real one, or, with a clock of its own, as fast as the machine is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from fedimg.dicom.arrival import ArrivalLimits, examine
from fedimg.dicom.refusal import Quarantined
from fedimg.errors import ConfigError, DataError
from sites.watch.spool import Full, Received, Spool

_SOURCE: Final = "replay"


class Clock(Protocol):
    """Seconds, and a wait for some of them; `wait` says False where it was called off."""

    def now(self) -> float: ...

    def wait(self, seconds: float) -> bool: ...


@dataclass
class RealClock:
    """`speed` virtual seconds for each real one."""

    speed: float = 1.0
    _off: threading.Event = field(default_factory=threading.Event, repr=False)

    def now(self) -> float:
        return time.monotonic() * self.speed

    def wait(self, seconds: float) -> bool:
        return not self._off.wait(seconds / self.speed)

    def call_off(self) -> None:
        self._off.set()


@dataclass
class VirtualClock:
    """Waits take no time; `now` goes on by what was waited."""

    seconds: float = 0.0

    def now(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> bool:
        self.seconds += max(seconds, 0.0)
        return True


@dataclass(frozen=True, slots=True)
class Rate:
    """In virtual time. Attributes: studies_per_hour: begun. instances_per_s: within a study."""

    studies_per_hour: float = 60.0
    instances_per_s: float = 30.0

    def __post_init__(self) -> None:
        """Raises ConfigError for rates that are not above zero."""
        if not (self.studies_per_hour > 0 and self.instances_per_s > 0):
            raise ConfigError("rates above zero", "another", "see the rates of the replay")


class ReplaySource:
    """Sends the studies of a folder, in the order of their first files' names, instances in order within each.

    A study is released when its last instance is there. Files that are no instances are refused and counted.

    Args:
        folder: files of whole studies, in folders or not. Every file's header is read once, before anything is sent.

    Raises:
        DataError: no instance is in it.
    """

    def __init__(
        self,
        folder: Path,
        spool: Spool,
        on_received: Callable[[Received], None],
        on_released: Callable[[frozenset[str]], None],
        rate: Rate | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._spool, self._on_received, self._on_released = spool, on_received, on_released
        self._rate, self._clock = rate or Rate(), clock or RealClock()
        self._studies = _studies_of(folder, spool)
        if not self._studies:
            raise DataError("DICOM instances in the folder", "none", "name a folder of DICOM files")

    @property
    def studies(self) -> int:
        return len(self._studies)

    def __iter__(self) -> Iterator[Received]:
        """Send, and say what was received; ends with the last study, or where its clock is called off.

        Where the disk is full it waits for the time of a study and tries again.
        """
        begin = self._clock.now()
        for number, (study, paths) in enumerate(self._studies.items()):
            due = begin + number * 3600.0 / self._rate.studies_per_hour
            for path in paths:
                if not self._clock.wait(max(due - self._clock.now(), 0.0)):
                    return
                due = max(due, self._clock.now()) + 1.0 / self._rate.instances_per_s
                received = self._send(path)
                if received is not None:
                    yield received
            self._on_released(frozenset({study}))

    def run(self) -> int:
        """Send all; how many instances were received."""
        return sum(1 for _ in self)

    def _send(self, path: Path) -> Received | None:
        while True:
            try:
                received = self._spool.take(path, _SOURCE)
            except Quarantined:
                return None  # counted; it was an instance when its folder was read
            except Full:
                if not self._clock.wait(3600.0 / self._rate.studies_per_hour):
                    return None
            else:
                self._on_received(received)
                return received


def _studies_of(folder: Path, spool: Spool) -> dict[str, list[Path]]:
    found: dict[str, list[tuple[str, int, Path]]] = {}
    limits: ArrivalLimits = spool.limits.arrival
    for path in sorted(one for one in folder.rglob("*") if one.is_file() and not one.is_symlink()):
        try:
            arrival = examine(path, limits)
        except Quarantined as refusal:
            spool.refuse(refusal)
            continue
        found.setdefault(arrival.study_uid, []).append((arrival.series_uid, arrival.number or 0, path))
    return {study: [path for _, _, path in sorted(files)] for study, files in found.items()}
