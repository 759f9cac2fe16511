"""When a study is whole: DICOM has no message for it, so it follows from associations, gaps and silence.

A study is taken for complete (a) when the association that brought it was released and no series has a gap, else (b)
when nothing more came for `quiet_s`, else (c), while images keep coming, after `longest_s`, as a part. An image that
comes later opens the study again. Times are given by the caller; nothing here reads a clock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np

from fedimg.errors import ConfigError

_LARGEST_GAP_RATIO = 1.5
"""As in `imaging.series`: a gap this many times the usual one means that a slice is missing."""
_SAME_MM = 1e-3


class Completeness(StrEnum):
    """Why a study was taken for complete."""

    COMPLETE = "complete"
    QUIET = "quiet"
    PARTIAL = "partial"


@dataclass(frozen=True)
class AssemblyConfig:
    """Attributes:
    quiet_s: silence after which a study counts as complete. longest_s: waiting after its first image, at most.
    """

    quiet_s: float = 5.0
    longest_s: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.quiet_s <= self.longest_s < float("inf"):
            found = f"{self.quiet_s:g} and {self.longest_s:g}"
            raise ConfigError("0 < quiet_s ≤ longest_s", found, "change the settings' assembly")


@dataclass(frozen=True, slots=True)
class Plane:
    """Where an image stands in its series: along the normal in mm, and by its number; None where it does not say."""

    series: str
    position_mm: float | None
    number: int | None


@dataclass(slots=True)
class _Open:
    first_at: float
    last_at: float
    released: bool = False
    gaps: bool = False


class Assembler:
    """Studies that are arriving. `planes` gives all images of a study that were received so far, early ones too.

    Guarantee: every study that was received is told by `complete` once after its last image, `longest_s` after its first
    or `quiet_s` after its last one at the latest, whatever the order of events.
    """

    def __init__(
        self, planes: Callable[[str], Iterable[Plane]], config: AssemblyConfig | None = None
    ) -> None:
        self._planes, self._config = planes, config or AssemblyConfig()
        self._open: dict[str, _Open] = {}

    def received(self, study: str, at: float) -> None:
        """An image of it is there."""
        one = self._open.setdefault(study, _Open(at, at))
        one.last_at, one.released, one.gaps = max(one.last_at, at), False, False

    def released(self, studies: Iterable[str]) -> None:
        """The association that brought images of these has ended as it should; others are not waited for."""
        for study in studies:
            if one := self._open.get(study):
                one.released, one.gaps = True, not gap_free(self._planes(study))

    def complete(self, now: float) -> list[tuple[str, Completeness]]:
        """What is whole by now, each once."""
        found = [(study, reason) for study, one in self._open.items() if (reason := self._why(one, now))]
        for study, _ in found:
            del self._open[study]
        return found

    def next_at(self) -> float | None:
        """When `complete` may have something, if nothing happens until then; None while nothing is open."""
        return min((self._due(one) for one in self._open.values()), default=None)

    def _why(self, one: _Open, now: float) -> Completeness | None:
        if one.released and not one.gaps:
            return Completeness.COMPLETE
        if now < self._due(one):
            return None
        quiet = now >= one.last_at + self._config.quiet_s
        return Completeness.QUIET if quiet else Completeness.PARTIAL

    def _due(self, one: _Open) -> float:
        if one.released and not one.gaps:
            return one.last_at
        return min(one.last_at + self._config.quiet_s, one.first_at + self._config.longest_s)


def gap_free(planes: Iterable[Plane]) -> bool:
    """Whether no series lacks a slice between two that are there. That the last ones are missing nothing can show."""
    series: dict[str, list[Plane]] = defaultdict(list)
    for plane in planes:
        series[plane.series].append(plane)
    return not any(_evidence(own) == "gap" for own in series.values())


def _evidence(planes: list[Plane]) -> Literal["gap", "whole", "none"]:
    """By place where three or more say theirs, else by number."""
    places = [one.position_mm for one in planes if one.position_mm is not None]
    distinct = np.unique(np.round(np.array(places, dtype=np.float64) / _SAME_MM)) * _SAME_MM
    if len(places) == len(planes) and len(distinct) >= 3:
        gaps = np.diff(distinct)
        return "gap" if gaps.max() > _LARGEST_GAP_RATIO * float(np.median(gaps)) else "whole"
    numbers = {one.number for one in planes if one.number is not None}
    if len(numbers) < 2:
        return "none"
    return "whole" if max(numbers) - min(numbers) + 1 == len(numbers) else "gap"
