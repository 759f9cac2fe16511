"""The order in which studies wait to be read, and what that order costs those who are not called.

A priority is raised and never lowered (21 CFR 892.2080): not by a later result, not by a dismissal. Waiting is that of one
reader who reads without interruption, two classes, Poisson arrivals and one law of reading times (Cobham 1954, Operations
Research 2:70): with ρ = arrivals × reading time, ρ_h the part of the called ones, and s the reading time,

    W_high = ρ s ½(1 + c²) ÷ (1 − ρ_h)        W_low = ρ s ½(1 + c²) ÷ ((1 − ρ_h)(1 − ρ))

where c is standard deviation ÷ mean of reading times: 1 for exponential ones, with which the factor ½(1 + c²) is 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from fedimg.errors import ConfigError, DataError
from fedimg.monitoring.operating_point import Expected
from fedimg.values import Interval

URGENCY: Final[Mapping[str, int]] = MappingProxyType({"other": 1, "tumour": 1, "cardiac": 2, "stroke": 3})
"""Priority that an alert of a kind raises a study to; 0 is a study without one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A study that waits. `study`: the store's key. `stat`: the order says so. `arrived_at`: seconds since 1970."""

    study: str
    arrived_at: float
    stat: bool = False
    priority: int = 0

    def raised(self, priority: int) -> Entry:
        """With at least this priority."""
        return replace(self, priority=max(self.priority, priority))

    def said_stat(self) -> Entry:
        """An object of the study has said STAT. There is no way back."""
        return replace(self, stat=True)


def urgency(kind: str) -> int:
    """Raises DataError for a kind that is not listed."""
    if kind not in URGENCY:
        raise DataError(f"one of {', '.join(URGENCY)}", "another kind of finding", "name it in the bundle")
    return URGENCY[kind]


def ordered(entries: Iterable[Entry]) -> list[Entry]:
    """STAT first, then priority, then arrival; ties by key, so that every view shows the same order."""
    return sorted(entries, key=lambda e: (not e.stat, -e.priority, e.arrived_at, e.study))


# --------------------------------------------------------------------------------------------- waiting


@dataclass(frozen=True, slots=True)
class Reading:
    """One reader's day.

    Attributes:
        arrivals_per_hour: of all studies. minutes: mean time to read one.
        variation: standard deviation ÷ mean of reading times; 1 where it is not known (exponential).
    """

    arrivals_per_hour: float
    minutes: float
    variation: float = 1.0

    def __post_init__(self) -> None:
        values = self.arrivals_per_hour, self.minutes
        if not (all(0 < v < math.inf for v in values) and 0 <= self.variation < math.inf):
            raise ConfigError(
                "arrivals an hour and minutes of reading above 0", "others", "measure or state both"
            )
        if self.load >= 1:
            raise ConfigError(
                "a reader who keeps up: arrivals an hour × minutes ÷ 60 below 1",
                f"{self.load:.2f} readers' work for one, so that waiting grows without end",
                "state what comes to one reader, or count more of them",
            )

    @property
    def load(self) -> float:
        """ρ: the share of time in which the reader reads."""
        return self.arrivals_per_hour * self.minutes / 60

    @property
    def _rest(self) -> float:
        """Minutes that an arriving study finds left of the one that is read, on average."""
        return self.load * self.minutes * (1 + self.variation**2) / 2

    def wait(self) -> float:
        """Mean minutes in order of arrival."""
        return self._rest / (1 - self.load)

    def waits(self, share_called: float) -> tuple[float, float]:
        """Mean minutes of the called and of the others, where the called are read first."""
        ahead = 1 - self.load * share_called
        return self._rest / ahead, self._rest / (ahead * (1 - self.load))


@dataclass(frozen=True, slots=True)
class WaitCard:
    """Mean minutes before reading begins.

    Attributes:
        share_called: of all studies.
        in_order: without triage, everybody. called, others: with it.
        with_finding: with triage, studies that have the finding, those among them that were not called.
    """

    share_called: float
    in_order: float
    called: float
    others: float
    with_finding: float

    @property
    def gained(self) -> float:
        """Minutes that a called study waits less."""
        return self.in_order - self.called

    @property
    def delayed(self) -> float:
        """Minutes that every other study waits more."""
        return self.others - self.in_order

    @property
    def gained_with_finding(self) -> float:
        """Minutes that a study with the finding waits less, on average; below 0 where triage harms them."""
        return self.in_order - self.with_finding


def wait_card(reading: Reading, expected: Expected) -> WaitCard:
    """At an operating point's expected share of calls at this site's prevalence (`operating_point.expected`)."""
    share = expected.alerts_per_100.value / 100
    called, others = reading.waits(share)
    # P(called | finding) by Bayes: PPV × P(called) ÷ prevalence.
    found = min(1.0, expected.ppv.value * share / expected.prevalence)
    return WaitCard(share, reading.wait(), called, others, found * called + (1 - found) * others)


def alerts_per_day(expected: Expected, studies_per_day: float) -> Interval:
    """How many alerts a day. Raises ConfigError unless studies a day are above 0."""
    if not 0 < studies_per_day < math.inf:
        raise ConfigError("studies a day above 0", "another number", "count those that the model may look at")
    per = expected.alerts_per_100
    return Interval(*(value * studies_per_day / 100 for value in (per.value, per.low, per.high)))


def arrivals_per_hour(times: Sequence[float], begin: float, end: float) -> float:
    """Of studies that arrived at `times` (seconds) within [begin, end). Raises DataError without a span or any of them."""
    inside = sum(begin <= time < end for time in times)
    if not inside or not end > begin:
        raise DataError("studies within a span of time", "none", "wait until some have arrived")
    return 3600 * inside / (end - begin)
