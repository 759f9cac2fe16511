"""What a run of the battery says: one line a check, and a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

# Chance that a correct mechanism fails, over all checks of one run together.
FALSE_ALARM = 1e-4

Figures: TypeAlias = "dict[str, list[tuple[float, ...]]]"


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: "group.what".
        p: chance of what was seen, or worse, under the claim; 0 or 1 where no chance is involved; None where
            the mechanism lacks what the check needs.
        detail: what was measured beside what was claimed; or what is missing.
    """

    name: str
    p: float | None
    detail: str

    @property
    def group(self) -> str:
        return self.name.split(".", 1)[0]


@dataclass(frozen=True)
class Report:
    """All checks of one run. A check fails where its p is below `threshold` (Bonferroni over the run's checks).

    `figures` are numbers for pictures: "quantiles" (expected, measured) of the noise, "batches" (size, count,
    expected count).
    """

    mechanism: str
    checks: tuple[Check, ...]
    seconds: float
    figures: Figures = field(default_factory=dict)

    @property
    def threshold(self) -> float:
        return FALSE_ALARM / max(1, sum(check.p is not None for check in self.checks))

    def verdict_of(self, check: Check) -> str:
        """One of "pass", "fail" and "not checkable"."""
        if check.p is None:
            return "not checkable"
        return "pass" if check.p >= self.threshold else "fail"

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(check.name for check in self.checks if self.verdict_of(check) == "fail")

    @property
    def verdict(self) -> str:
        """Passed is where something was checked and nothing failed."""
        return "fail" if self.failed or all(check.p is None for check in self.checks) else "pass"

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "audit": "battery",
            "mechanism": self.mechanism,
            "verdict": self.verdict,
            "seconds": round(self.seconds, 3),
            "threshold": self.threshold,
            "not_checkable": sum(check.p is None for check in self.checks),
            "checks": [
                {"name": c.name, "verdict": self.verdict_of(c), "p": c.p, "detail": c.detail}
                for c in self.checks
            ],
        }
