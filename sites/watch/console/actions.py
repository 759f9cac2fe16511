"""What a person may do at the console. The watcher's centre does it, in its own transaction, with an audit entry."""

from __future__ import annotations

from typing import Final, Protocol

from fedimg.monitoring.alerts import Dismissal

REASONS: Final = tuple(one.value for one in Dismissal)
"""Why an alert is dismissed: a closed list, so that it can be counted and holds no patient data."""


class Actions(Protocol):
    """`who`: as the login says. All of them raise DataError for what is not there and for what cannot be."""

    def acknowledge(self, alert: str, who: str) -> None: ...

    def confirm(self, alert: str, who: str) -> None: ...

    def dismiss(self, alert: str, reason: str, who: str) -> None:
        """`reason`: one of `REASONS`."""

    def read(self, study: str, who: str) -> None:
        """A person has read the study."""

    def label(self, study: str, finding: str, present: bool, who: str) -> None: ...

    def seen(self, about: str, what: str, who: str) -> None:
        """An audit entry of a view of patient data. On the disk when it returns."""

    def again(self, delivery: int, who: str) -> None:
        """Try a dead delivery again."""
