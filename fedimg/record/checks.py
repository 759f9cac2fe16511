"""Named findings about a record."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `found` says what was there."""

    name: str
    passed: bool
    found: str


@dataclass
class Findings:
    """Checks in the order in which they were made, and remarks on what could not be checked."""

    checks: list[Check] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def check(self, name: str, passed: bool, success: str = "", failure: str = "") -> None:
        """Note a check, with what to say in either case."""
        self.checks.append(Check(name, passed, success if passed else failure))

    def remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)
