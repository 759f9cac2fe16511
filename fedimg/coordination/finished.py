"""A finished run as plain values: what its record and its report are made of, however the coordinator learnt of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fedimg.config import Config
from fedimg.coordination.rounds import History
from fedimg.crypto.keys import SigningKey
from fedimg.privacy.plan import PrivacyPlan
from fedimg.report import ComparisonRow, ImagePair, IntakeRow, LedgerRow, Unit
from fedimg.terms import Terms


@dataclass(frozen=True)
class Participant:
    """Who took part: a site, or with `client_level` the coordinator, whose ledger is charged.

    Attributes:
        plan: what its ledger reserved; None where it released nothing itself.
        part: of the release record, signed by the site where it could be asked.
        receipts: its commitment to its receipts as it joined; "" where that is in its part only.
        battery: the verdict that its installation began with; None where none was asked.
        left: of a site that did not come back: the last round before that, and what it had spent.
        ledger: its budget's course, where that is known here.
    """

    plan: PrivacyPlan | None
    part: Mapping[str, Any]
    receipts: str = ""
    battery: Mapping[str, Any] | None = None
    left: Mapping[str, Any] | None = None
    ledger: LedgerRow | None = None


@dataclass(frozen=True)
class DataFacts:
    """What is said of the data.

    Attributes:
        cards: what they are and how they were admitted. unit: what the source knows of.
        public: generated, or declared public: only then may counts stand in a report. generated: show no person.
        public_set: whether there is a set to measure the model on.
    """

    cards: tuple[str, ...]
    classes: tuple[str, ...]
    unit: Literal["patient", "image"]
    public: bool
    generated: bool
    public_set: bool
    intake: tuple[IntakeRow, ...] = ()
    kept_intake: tuple[tuple[str, int, str], ...] = ()
    compression: tuple[tuple[str, float], ...] = ()
    images: tuple[ImagePair, ...] = ()


@dataclass(frozen=True)
class Finished:
    """A run after its last round.

    Attributes:
        quorums: (K, t, c) of the secure sums of each group of sites; empty without any.
        unit: what ε is for. comparison: other trainings, each with its mode of privacy; note: why there are none.
        key: the coordinator's own, which signs the record. simulated: all sites were in one hand.
    """

    config: Config
    terms: Terms
    history: History
    participants: Mapping[str, Participant]
    data: DataFacts
    quorums: Sequence[tuple[int, int, int]]
    unit: Unit
    key: SigningKey = field(repr=False)
    simulated: bool
    comparison: Sequence[tuple[ComparisonRow, str]] = ()
    note: str = ""

    @property
    def plans(self) -> dict[str, PrivacyPlan]:
        """Of those whose ledger was charged, by name."""
        found = {name: one.plan for name, one in sorted(self.participants.items())}
        return {name: plan for name, plan in found.items() if plan is not None}

    @property
    def left(self) -> dict[str, Mapping[str, Any]]:
        found = {name: one.left for name, one in sorted(self.participants.items())}
        return {name: left for name, left in found.items() if left is not None}
