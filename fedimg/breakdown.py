"""Performance by group as plain values: what an evaluation finds and a report shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fedimg.values import EvaluationReport, Interval


@dataclass(frozen=True, slots=True)
class GroupResult:
    """Of one group.

    Attributes:
        report: as the whole set's. noise_share: by metric the part of its interval's variance that the noise of
            differential privacy has; the rest is that there are so few patients. Empty where there is no noise; without a
            metric that stands at the end of its scale.
    """

    name: str
    report: EvaluationReport
    noise_share: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gap:
    """The clearest difference of a metric between two groups.

    Attributes:
        least, most: the groups. difference: with an interval that holds for all pairs of groups at once, this one,
            which was chosen after looking, among them. by_chance: half its width: what these two may differ by though
            they are alike. not_excluded: the largest difference of any two groups that the figures allow.
    """

    metric: str
    least: str
    most: str
    difference: Interval
    by_chance: float
    not_excluded: float

    @property
    def told_apart(self) -> bool:
        """Whether the difference is more than chance and noise explain."""
        return self.difference.low > 0


@dataclass(frozen=True, slots=True)
class Breakdown:
    """By one attribute ("sex", "age_band", "scanner" or "site"): every group of it, and the largest gap, if two can be
    compared. `absent` says why there are no groups; "" where there are.
    """

    source: Literal["public", "sites"]
    attribute: str
    groups: tuple[GroupResult, ...] = ()
    gap: Gap | None = None
    absent: str = ""
