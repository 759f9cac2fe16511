"""What is pushed of an alert, to whom when nobody acknowledges it, and how many are pushed at all.

Escalation: every step once, in order, while nobody has acknowledged. Rate limit: beyond `most` in a window an alert is
kept and shown but not pushed; how many, is shown and sent as one summary. Neither touches the worklist. Alarms that come
too often are not heard any more (Joint Commission, National Patient Safety Goal 06.01.01). Pure.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any, Self

from fedimg.errors import ConfigError, DataError
from fedimg.monitoring.alerts import OPEN, Alert, State


class Message(StrEnum):
    """What is pushed of an alert."""

    RAISED = "raised"
    UPDATED = "updated"
    ESCALATED = "escalated"
    SUPERSEDED = "superseded"


def message(before: Alert | None, now: Alert) -> Message | None:
    """What has to be pushed when an alert went from `before` (None: it is new) to `now`; None: nothing."""
    if before is None:
        return Message.RAISED
    if now.state is not before.state and now.state is State.SUPERSEDED:
        return Message.SUPERSEDED
    if before.state is State.SUPERSEDED and now.state is State.RAISED:
        return Message.RAISED
    if now.revision > before.revision:
        return Message.UPDATED
    return Message.ESCALATED if now.escalated > before.escalated else None


def message_key(alert: Alert, kind: Message) -> str:
    """The idempotency key of one message: equal however often it is sent or made, other for every other message.

    Letters, digits and dashes only. What the alert is, how often it was revised, what is said; of an escalation the step.
    """
    step = f"-{alert.escalated}" if kind is Message.ESCALATED else ""
    return f"{alert.key}-{alert.revision}-{kind}{step}"


@dataclass(frozen=True, slots=True)
class Step:
    """Unacknowledged `after_s` seconds after it was raised, an alert goes to `target` (a name of the settings) too."""

    after_s: float
    target: str


def check_steps(steps: Sequence[Step]) -> None:
    """Raises ConfigError unless times are positive and rise."""
    times = [0.0, *(step.after_s for step in steps)]
    if not all(math.isfinite(b) and a < b for a, b in pairwise(times)):
        raise ConfigError(
            "steps of escalation at rising times above 0 s", "others", "sort them by their seconds"
        )


def due_step(alert: Alert, steps: Sequence[Step], now: float) -> Step | None:
    """The one to take now, if any; then `after(alert, Escalated())`, so that each is taken once."""
    due = next_escalation(alert, steps)
    return steps[alert.escalated] if due is not None and now >= due else None


def next_escalation(alert: Alert, steps: Sequence[Step]) -> float | None:
    """When to look again, seconds since 1970; None where no step is left, or a person has it in hand."""
    if alert.state not in OPEN or alert.escalated >= len(steps):
        return None
    return alert.raised_at + steps[alert.escalated].after_s


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most so many pushes of a finding in any window of so many seconds."""

    most: int = 10
    window_s: float = 600.0

    def __post_init__(self) -> None:
        if self.most < 1 or not 0 < self.window_s < math.inf:
            found = f"{self.most} in {self.window_s} s"
            raise ConfigError("one push or more in a window of seconds", found, "set a limit above 0")


@dataclass(frozen=True, slots=True)
class Summary:
    """One message for all that were not pushed. `key`: of its delivery."""

    finding: str
    suppressed: tuple[str, ...]
    since: float
    until: float

    @property
    def key(self) -> str:
        said = json.dumps([self.finding, self.since, self.until]).encode()
        return f"{hashlib.sha256(said).hexdigest()}-0-suppressed"


@dataclass(frozen=True, slots=True)
class Pushes:
    """What is remembered of one finding (or of one step of its escalation).

    Attributes:
        times: of the pushes of the last window, rising. suppressed: keys of alerts since the last summary, each once.
        since: when the first of these came; 0 without any.
    """

    finding: str
    times: tuple[float, ...] = ()
    suppressed: tuple[str, ...] = ()
    since: float = 0.0

    def offer(self, key: str, now: float, limit: RateLimit) -> tuple[Pushes, bool]:
        """Whether the alert is pushed; else it is counted among the suppressed. Nothing is ever neither."""
        times = self._recent(now, limit)
        if len(times) < limit.most:
            # A clock that was set back must not shorten the window.
            return Pushes(self.finding, (*times, max(now, *times, 0.0)), self.suppressed, self.since), True
        kept = self.suppressed if key in self.suppressed else (*self.suppressed, key)
        return Pushes(self.finding, times, kept, self.since if self.suppressed else now), False

    def summary(self, now: float, limit: RateLimit) -> tuple[Pushes, Summary | None]:
        """Once a window has passed since the first suppressed one: all of them, in one message."""
        due = self.summary_at(limit)
        if due is None or now < due:
            return self, None
        told = Summary(self.finding, self.suppressed, self.since, now)
        return Pushes(self.finding, self._recent(now, limit)), told

    def summary_at(self, limit: RateLimit) -> float | None:
        """When `summary` has one; None where nothing was suppressed."""
        return self.since + limit.window_s if self.suppressed else None

    def as_json(self) -> dict[str, Any]:
        """For the store."""
        return {
            "finding": self.finding,
            "times": list(self.times),
            "suppressed": list(self.suppressed),
            "since": self.since,
        }

    @classmethod
    def from_json(cls, body: Any) -> Self:
        """Raises DataError for another form."""
        try:
            times, suppressed = (tuple(body[name]) for name in ("times", "suppressed"))
            found = cls(body["finding"], times, suppressed, float(body["since"]))
            sound = all(isinstance(t, int | float) and math.isfinite(t) for t in (*times, found.since))
            sound = sound and all(isinstance(t, str) for t in (found.finding, *suppressed))
        except (TypeError, KeyError, ValueError):
            sound, found = False, cls("")
        if not sound:
            raise DataError("the pushes of a finding, as they were stored", "another form", "delete the row")
        return found

    def _recent(self, now: float, limit: RateLimit) -> tuple[float, ...]:
        return tuple(time for time in self.times if time > now - limit.window_s)
