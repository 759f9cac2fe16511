"""Who of a federation's members has joined one run: asked by the coordinator, judged, and kept in the run's folder.

RUN/joined.json    name → plan, commitment to receipts, unit, battery: what a site said when it joined first

What a site says is not believed beyond what it could have said: its plan has to follow from this run's request and the
size that it has declared, be the same when it comes back, and its ledger's head stand behind the one known. What it says
first stands. Whatever else it answers is a refused answer, and nothing but that. Who does not join is asked again from
time to time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedimg import record
from fedimg.config import agreed
from fedimg.coordination.folder import RunFolder
from fedimg.errors import DataError, FedimgError, MessageError
from fedimg.federation.conversation import Joining, Offer, Program
from fedimg.privacy.calibration import is_plan_for
from fedimg.privacy.chain import head_of
from fedimg.privacy.kept_heads import KeptHeads
from fedimg.privacy.plan import PrivacyPlan
from fedimg.record import schema
from fedimg.run_sums import RunSums
from fedimg.secagg.roster import Roster
from fedimg.terms import Terms

_FILE = "joined.json"
# A member that declines, or says nothing, is not asked before every message.
_AGAIN_S = 10.0
_VERDICT = schema.fields(
    {
        "audit": schema.one_of("battery"),
        "verdict": schema.one_of("pass"),
        "checks": schema.count,
        "not_checkable": schema.each(schema.name, 100),
        "seconds": schema.number,
    }
)
Ask = Callable[[Mapping[str, bytes]], Mapping[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Joined:
    """What a site has said of itself. `plan`: None with `privacy=none`."""

    plan: PrivacyPlan | None
    receipts: str
    unit: str
    battery: Mapping[str, Any] | None

    def as_json(self) -> dict[str, Any]:
        plan = self.plan.as_json() if self.plan is not None else None
        return {"plan": plan, "receipts": self.receipts, "unit": self.unit, "battery": self.battery}

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> Joined:
        """Raises DataError, KeyError or TypeError."""
        plan = record.plan_from_json(entry["plan"]) if entry["plan"] is not None else None
        return cls(plan, str(entry["receipts"]), str(entry["unit"]), entry["battery"])


@dataclass
class Gathering:
    """The members' standing in one run.

    Attributes:
        roster: the members that the run began with. unit: of its patients, as the run was asked for.
        sums: of the run, by which shared noise is divided; empty without. heads: of the members' ledgers.
        joined: by name, from the first time on. present: those of them who are there now, and since when.
        standing: of the others, what they said last, in words for people.
    """

    terms: Terms
    program: Program
    folder: RunFolder
    heads: KeptHeads
    roster: Roster
    unit: str = "patient"
    sums: tuple[RunSums, ...] = ()
    joined: dict[str, Joined] = field(default_factory=dict)
    present: dict[str, str] = field(default_factory=dict)
    standing: dict[str, str] = field(default_factory=dict)
    _not_before: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        path = self.folder.path / _FILE
        if not path.exists():
            return
        try:
            entries = json.loads(path.read_text("utf-8"))
            self.joined = {str(name): Joined.read(entry) for name, entry in entries.items()}
        except (ValueError, KeyError, TypeError, AttributeError, DataError):
            raise DataError(
                f"a readable {_FILE} in the run's folder", "another file", "restore it, or start a new run"
            ) from None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the members that the run began with, whether they have joined or not."""
        return tuple(sorted(self.roster.identities))

    @property
    def plans(self) -> dict[str, PrivacyPlan]:
        """Of those who have joined; empty with `privacy=none`."""
        return {name: one.plan for name, one in self.joined.items() if one.plan is not None}

    def offer(self, connected: Mapping[str, str], ask: Ask) -> None:
        """Offer the run to those who are connected and have not joined since they are; `connected`: since when."""
        self.present = {name: since for name, since in self.present.items() if connected.get(name) == since}
        now = time.monotonic()
        asked = {
            name: since
            for name, since in connected.items()
            if name not in self.present and self._not_before.get(f"{name} {since}", 0.0) <= now
        }
        for name in [name for name in self.standing if name not in connected]:
            del self.standing[name]
        if not asked:
            return
        answers = ask({name: self._offer_to(name).to_bytes() for name in asked})
        before = len(self.joined)
        for name, since in asked.items():
            if answers.get(name) is None:
                self._not_before[f"{name} {since}"] = time.monotonic() + _AGAIN_S
            self.standing[name] = self._heard(name, answers.get(name))
            if self.standing[name] == "joined":
                del self.standing[name]
                self.present[name] = since
        if len(self.joined) > before:
            entries = {name: one.as_json() for name, one in sorted(self.joined.items())}
            self.folder.write_json(_FILE, entries)

    def lost(self, name: str) -> None:
        """A site that did not answer is offered the run again: it may have been started anew."""
        self.present.pop(name, None)

    def _offer_to(self, name: str) -> Offer:
        known = self.heads.known(name)
        head = known.name if known is not None else ""
        members = self.roster.digest if self.sums else ""
        terms = agreed.plain(self.terms)
        return Offer(self.terms.run_id, self.program, terms, self.terms.digest, head, members)

    def _heard(self, name: str, answer: bytes | None) -> str:
        """What a site's answer says; "joined" once it has joined."""
        if answer is None:
            return "declines; its operator can see why (`fedimg site log`)"
        try:
            said = Joining.from_bytes(answer)
            if said.run != self.terms.run_id:
                raise MessageError("an answer for this run", "for another", "it was discarded")
            if said.state == "joined":
                self._take(name, said)
        except FedimgError as fault:
            return f"its answer was refused: expected {fault.expected}, found {fault.found}"
        except Exception as fault:  # noqa: BLE001 - a site's bytes: whatever they do here, they are a refused answer
            return f"its answer was refused: {type(fault).__name__}"
        if said.state == "version":
            return (
                f"runs fedimg {said.program.version}, code {said.program.digest[:12]}; here it is "
                f"{self.program.version}, code {self.program.digest[:12]}: install the same release at both ends"
            )
        words = {
            "preparing": "is preparing",
            "approval": "waits for its operator's consent",
            "members": "has pinned other members than this run began with",
        }
        return words.get(said.state, said.state)

    def _take(self, name: str, said: Joining) -> None:
        """Raises MessageError, DataError, PolicyRefused for what no site of this run could say."""
        plan = record.plan_from_json(said.plan) if said.plan is not None else None
        if (plan is None) != (self.terms.privacy.mode == "none"):
            raise MessageError("a plan where the run has privacy", "another", "the answer was discarded")
        if said.unit != self.unit:
            raise MessageError(
                f"a site of {self.unit}s, as the run is", f"one of {said.unit}s", "see data.name of the run"
            )
        known = self.joined.get(name)
        if known is not None and known.plan != plan:
            raise MessageError("the plan that this site joined with", "another", "start a new run")
        if known is None and plan is not None:
            self._judge(name, plan)
        if said.battery is not None:
            _VERDICT(dict(said.battery), "a battery's verdict")
        if said.head:
            self._take_head(name, said)
        self.joined.setdefault(name, Joined(plan, said.receipts, said.unit, said.battery))

    def _judge(self, name: str, plan: PrivacyPlan) -> None:
        """Refuse a plan that a site of that size could not have made for this run."""
        declared, own = (
            int(self.roster.weights[name]),
            [s for s in self.sums if name in s.roster.identities],
        )
        for sums in own:
            sums.check_plan(plan)
        if plan.declared_patients != declared:
            raise MessageError(
                f"a plan for {declared} patients, as the site's membership says",
                f"one for {plan.declared_patients}" if plan.declared_patients < 10**9 else "one for more",
                "the site asks again (`fedimg provision csr`) after it has changed its size",
            )
        if not is_plan_for(plan, self.terms.privacy, declared, own[0].shares if own else None):
            raise MessageError("a plan for what this run asks for", "another", "the answer was discarded")

    def _take_head(self, name: str, said: Joining) -> None:
        head, known = head_of(said.head), self.heads.known(name)
        if known is not None and (
            head.sequence < known.sequence or (head.sequence == known.sequence and head != known)
        ):
            raise MessageError(
                f"a ledger with entry {known.sequence} or a later one",
                f"one that ends at {head.sequence}: it was put back or forked",
                "the site recovers its ledger with `fedimg ledger recover`",
            )
        self.heads.joined(name, head, said.reserved, said.pending)
