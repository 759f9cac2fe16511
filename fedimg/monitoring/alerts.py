"""The life of an alert: raised → delivered → acknowledged → confirmed or dismissed; or superseded by a later result.

An alert says that a finding was called. There is none that says it was not: the type refuses a score below its threshold
(21 CFR 892.2080: a triage aid may call attention to a study, never away from it). What a person has taken in hand no
program takes back, and no event removes an alert. Pure: nothing here knows a clock, a store or a network.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from fedimg.codes import Code
from fedimg.errors import DataError

_HEX: Final = re.compile(r"[0-9a-f]{8,128}")
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_WORDS: Final = re.compile(r"[^\x00-\x1f\x7f]{0,200}")


class State(StrEnum):
    RAISED = "raised"
    DELIVERED = "delivered"
    """At least one target has taken it."""
    ACKNOWLEDGED = "acknowledged"
    CONFIRMED = "confirmed"
    DISMISSED = "dismissed"
    SUPERSEDED = "superseded"
    """With later images the finding was not called any more, before a person had acknowledged it."""


OPEN: Final = frozenset({State.RAISED, State.DELIVERED})
"""Nobody has acknowledged it yet."""
DECIDED: Final = frozenset({State.CONFIRMED, State.DISMISSED})


class Dismissal(StrEnum):
    """Why a person dismissed it. A closed list: free words would hold patient data sooner or later."""

    NOT_PRESENT = "not-present"
    ARTEFACT = "artefact"
    KNOWN = "known-already"
    NOT_RELEVANT = "not-relevant"
    OTHER_FINDING = "other-finding"
    WRONG_STUDY = "wrong-study"


@dataclass(frozen=True, slots=True)
class Alert:
    """One finding called in one study by one model.

    Attributes:
        key: `alert_key`; one alert of a study, model and finding, however often it is run again.
        study: the store's key of the study, hex; never a UID.
        finding: its name. code: the same as a concept. kind: tumour, cardiac, stroke, other.
        where: in words, for people. size_mm: largest diameter.
        score, threshold: calibrated probability, and from which on the finding is called: score ≥ threshold.
        raised_at: seconds since 1970. reason: of a dismissal, else "".
        revision: how often a later run of the study has changed it. escalated: how many steps were taken.

    Raises DataError for anything else: an alert that says "not found" among it.
    """

    key: str
    study: str
    finding: str
    code: Code
    kind: str
    where: str
    size_mm: float | None
    score: float
    threshold: float
    model_name: str
    model_version: str
    model_digest: str
    raised_at: float
    state: State = State.RAISED
    reason: str = ""
    revision: int = 0
    escalated: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.threshold <= self.score <= 1):  # false for NaN too
            raise DataError(
                "a score between its threshold and 1",
                "another",
                "raise alerts only of findings that were called",
            )
        if not (
            _KEY.fullmatch(self.key) and _HEX.fullmatch(self.study) and _HEX.fullmatch(self.model_digest)
        ):
            raise DataError(
                "key, study and model digest as hex digits", "another form", "use the store's keys"
            )
        words = (self.finding, self.kind, self.where, self.model_name, self.model_version)
        if not all(_WORDS.fullmatch(text) for text in words) or not self.finding:
            raise DataError(
                "names and words of one line, up to 200 characters", "others", "shorten what the bundle says"
            )
        sizes = () if self.size_mm is None else (self.size_mm,)
        if not all(
            math.isfinite(v) and v >= 0 for v in (*sizes, self.raised_at, self.revision, self.escalated)
        ):
            raise DataError(
                "a size, a time and counts that are not negative", "others", "leave out an unknown size"
            )
        reasons = set(Dismissal) if self.state is State.DISMISSED else {""}
        if self.reason not in reasons:
            raise DataError("a listed reason with a dismissal and none elsewhere", "another", _REASONS)


_REASONS: Final = "give one of " + ", ".join(Dismissal)


def alert_key(study: str, model_digest: str, finding: str) -> str:
    """Hex SHA-256: what an alert is recognised by, here and at whoever receives it.

    Args:
        study: the UID, or better the store's keyed name of it: whoever knows a UID could compute the key from it.
    """
    return hashlib.sha256(json.dumps([study, model_digest, finding]).encode()).hexdigest()


# ---------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Delivered:
    """A target has taken the first message of it."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A person has seen it. Who and when is in the site's audit trail."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A person has read the study: the finding is there."""


@dataclass(frozen=True, slots=True)
class Dismissed:
    """A person has read the study: it is not, or does not matter."""

    reason: Dismissal


@dataclass(frozen=True, slots=True)
class Superseded:
    """The study was run again with later images, and the finding is not called any more."""


@dataclass(frozen=True, slots=True)
class Escalated:
    """One more step of escalation was taken."""


@dataclass(frozen=True, slots=True)
class FoundAgain:
    """The study was run again and the finding is called again, with other evidence. `at`: seconds since 1970."""

    at: float
    score: float
    threshold: float
    where: str
    size_mm: float | None


Event = Delivered | Acknowledged | Confirmed | Dismissed | Superseded | Escalated | FoundAgain

_R, _D, _A, _C, _X, _S = State
TRANSITIONS: Final[Mapping[type[Event], Mapping[State, State]]] = MappingProxyType(
    {
        Delivered: {_R: _D},
        # Also of what a program has superseded: a person may know better.
        Acknowledged: {_R: _A, _D: _A, _S: _A},
        Confirmed: {_A: _C},
        Dismissed: {_A: _X},
        # Not of what a person has in hand: there the changed result stands beside the alert.
        Superseded: {_R: _S, _D: _S},
        Escalated: {_R: _R, _D: _D},
        # Raised once more where a program had superseded it; a person's decision stands, with the new evidence.
        FoundAgain: {_R: _R, _D: _D, _A: _A, _C: _C, _X: _X, _S: _R},
    }
)


class TransitionRefused(DataError):
    """An event that an alert of this state does not take; the alert is as it was."""


def may(alert: Alert, event: type[Event]) -> bool:
    """Whether `after` takes it."""
    return alert.state in TRANSITIONS[event]


def after(alert: Alert, event: Event) -> Alert:
    """The alert when `event` has happened. Raises TransitionRefused for every pair that TRANSITIONS does not list."""
    state = TRANSITIONS[type(event)].get(alert.state)
    if state is None:
        words = ", ".join(sorted(TRANSITIONS[type(event)]))
        raise TransitionRefused(
            f"an alert that is {words}", f"one that is {alert.state}", "look at the alert again"
        )
    match event:
        case Dismissed(reason):
            return replace(alert, state=state, reason=Dismissal(reason).value)
        case Superseded():
            return replace(alert, state=state, revision=alert.revision + 1)
        case Escalated():
            return replace(alert, escalated=alert.escalated + 1)
        case FoundAgain(at, score, threshold, where, size_mm):
            fresh = replace(
                alert,
                state=state,
                score=score,
                threshold=threshold,
                where=where,
                size_mm=size_mm,
                revision=alert.revision + 1,
            )
            # A new raising: its escalation begins anew.
            return replace(fresh, raised_at=at, escalated=0) if alert.state is State.SUPERSEDED else fresh
        case _:
            return replace(alert, state=state)


# --------------------------------------------------------------------------------------- de-duplication


def one_of_each(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    """Of several places of one finding the one with the highest score, in order of their first appearance."""
    best: dict[str, Alert] = {}
    for alert in alerts:
        known = best.get(alert.key)
        if known is None or alert.score > known.score:
            best[alert.key] = alert
    return tuple(best.values())


def deduplicated(known: Alert | None, fresh: Alert) -> Alert:
    """What the store keeps under a key when a run has called the finding: `known` itself where it says nothing new.

    Scores that differ by less than 0.01 and sizes by less than 1 mm say nothing new. Raises DataError for another key.
    """
    if known is None:
        return fresh
    if known.key != fresh.key:
        raise DataError("two alerts of one key", "others", "look the alert up by its key")
    same = known.state is not State.SUPERSEDED and known.where == fresh.where
    same = same and abs(known.score - fresh.score) < 0.01 and known.threshold == fresh.threshold
    if same and _near(known.size_mm, fresh.size_mm):
        return known
    again = FoundAgain(fresh.raised_at, fresh.score, fresh.threshold, fresh.where, fresh.size_mm)
    return after(known, again)


def _near(a: float | None, b: float | None) -> bool:
    return a is b is None or (a is not None and b is not None and abs(a - b) < 1)
