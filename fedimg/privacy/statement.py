"""What a ledger's entries add up to, and how anyone can check an extract of them offline."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedimg.crypto.keys import verify as verify_signature
from fedimg.errors import ConfigError
from fedimg.privacy.chain import START, Head, follow, refuse
from fedimg.privacy.events import Event
from fedimg.privacy.renyi import filter_budget, rdp

EXTRACT_DOMAIN = b"fedimg-ledger-extract-v1"
EXTRACT_FORMAT = "fedimg-ledger-extract-1"


@dataclass(frozen=True, slots=True)
class LedgerTerms:
    """Fixed when the ledger is opened, never changed.

    Attributes:
        epsilon_max, delta: what all runs together may cost one patient.
        order: the integer Rényi order of the filter.
        scratch: a simulation's ledger, thrown away with its run; reports say so.
    """

    epsilon_max: float
    delta: float
    order: int
    scratch: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon_max) and self.budget > 0):
            raise ConfigError(
                f"an ε_max with room at order {self.order} and δ = {self.delta:g}",
                f"{self.epsilon_max:g}",
                "raise ε_max, δ or the order",
            )

    @property
    def budget(self) -> float:
        """The Σρ that the filter lets in."""
        return filter_budget(self.epsilon_max, self.delta, self.order)


@dataclass(frozen=True, slots=True)
class Allowance:
    """One kind of release in a plan: `count` of them declared, `retries` more after crashes.

    `role` names the patients that it looks at: no patient has two roles in one run.
    """

    release: str
    noise_multiplier: float
    sampling_rate: float
    count: int
    retries: int
    role: str = ""

    @property
    def most(self) -> int:
        return self.count + self.retries

    def rho(self, order: int, count: int) -> float:
        """What `count` such releases cost at the filter's order."""
        return rdp(Event(self.noise_multiplier, self.sampling_rate, count), order)


@dataclass(slots=True)
class RunSpend:
    """One run's entries, added up: `charged` counts releases by kind.

    `everyone`: records of who took part were lost, so it counts for every patient.
    """

    run: str
    plan: str
    allowances: dict[str, Allowance]
    charged: dict[str, int] = field(default_factory=dict)
    closed: bool = False
    everyone: bool = False

    def rho(self, order: int) -> float:
        """What stands against the budget: everything reserved while open, what was charged once closed.

        Roles are disjoint groups of patients, so the costliest role bounds every patient's cost.
        """
        charged = {a.release: a.most for a in self.allowances.values()} if not self.closed else self.charged
        return max(self._by_role(order, charged).values(), default=0.0)

    def spent(self, order: int) -> float:
        """What was charged so far, of the costliest role."""
        return max(self._by_role(order, self.charged).values(), default=0.0)

    def spent_in(self, order: int, role: str) -> float:
        """What was charged so far to each patient of one role."""
        return self._by_role(order, self.charged).get(role, 0.0)

    def _by_role(self, order: int, counts: Mapping[str, int]) -> dict[str, float]:
        costs: dict[str, list[float]] = {}
        for a in self.allowances.values():
            costs.setdefault(a.role, []).append(a.rho(order, counts.get(a.release, 0)))
        return {role: math.fsum(parts) for role, parts in costs.items()}


@dataclass(frozen=True, slots=True)
class Statement:
    """A ledger as its entries tell it: of a patient who has been there since it was opened.

    `lost`: Σρ that a recovery wrote off because nobody knows what it went to.
    """

    terms: LedgerTerms
    runs: Mapping[str, RunSpend]
    head: Head
    lost: float = 0.0
    entries: Sequence[bytes] = field(default=(), repr=False)

    @property
    def committed(self) -> float:
        """Σρ of all runs, spent or reserved, and what was written off."""
        return math.fsum([self.lost, *(run.rho(self.terms.order) for run in self.runs.values())])

    @property
    def remaining(self) -> float:
        """The Σρ that a further run may cost."""
        return self.terms.budget - self.committed

    @property
    def epsilon_spent(self) -> float:
        """ε at the ledger's δ of all that is spent or reserved; 0 before the first run."""
        # budget = ε_max − conv(α, δ), so Σρ + conv = Σρ + ε_max − budget
        committed = self.committed
        return committed + self.terms.epsilon_max - self.terms.budget if committed else 0.0

    @property
    def epsilon_left(self) -> float:
        """What is left of ε_max."""
        return max(0.0, self.terms.epsilon_max - self.epsilon_spent)


def verify(extract: bytes, public_key: bytes) -> Statement:
    """Check an extract offline and add it up.

    Raises:
        LedgerError: not an extract, tampered with, or not signed by this key.
    """
    try:
        document = json.loads(extract)
        if document["format"] != EXTRACT_FORMAT:
            raise refuse("another format", "ask the site for an extract of this version")
        bodies = [str(body).encode() for body in document["entries"]]
        signature = bytes.fromhex(document["signature"])
    except (ValueError, KeyError, TypeError) as failure:
        raise refuse("bytes that are no ledger extract", "ask the site for its extract again") from failure
    head = [Head(0, START), *(head for head, _ in follow(bodies))][-1]
    if not verify_signature(public_key, signature, EXTRACT_DOMAIN + head.digest):
        raise refuse(
            "an extract that this site did not sign as it stands", "ask the site for its extract again"
        )
    terms, runs, lost = replay(bodies)
    return Statement(terms, runs, head, lost, tuple(bodies))


def heads(extract: bytes) -> list[str]:
    """The chain's digest after each entry of an extract, hex; check the extract with `verify` first."""
    bodies = [str(body).encode() for body in json.loads(extract)["entries"]]
    return [head.digest.hex() for head, _ in follow(bodies)]


def replay(bodies: Sequence[bytes]) -> tuple[LedgerTerms, dict[str, RunSpend], float]:
    """Add entries up: terms, runs, and what recoveries wrote off.

    Raises:
        LedgerError: entries that no ledger writes.
    """
    try:
        entries = [json.loads(body) for body in bodies]
        if not entries or entries[0]["kind"] != "open":
            raise refuse("no opening entry")
        first = entries[0]
        terms = LedgerTerms(first["epsilon_max"], first["delta"], first["order"], first["scratch"])
        runs: dict[str, RunSpend] = {}
        lost = 0.0
        for entry in entries[1:]:
            if entry["kind"] == "recover":
                lost += write_off(runs, entry)
            else:
                apply(runs, entry)
    except (ValueError, KeyError, TypeError, ConfigError) as failure:
        raise refuse("entries that no ledger writes") from failure
    return terms, runs, lost


def write_off(runs: Mapping[str, RunSpend], entry: Mapping[str, Any]) -> float:
    """What a recovery says: everything reserved counts as spent, for every patient. Returns Σρ written off.

    Without the records of patients every run counts for everyone.
    """
    for run in runs.values():
        if not run.closed:
            run.charged = {a.release: a.most for a in run.allowances.values()}
            run.closed = run.everyone = True
        run.everyone = run.everyone or not entry["patients_kept"]
    lost = float(entry["lost"])
    if not (math.isfinite(lost) and lost >= 0):
        raise refuse("entries that no ledger writes")
    return lost


def apply(runs: dict[str, RunSpend], entry: Mapping[str, Any]) -> None:
    """Add one entry of a run to `runs`. Raises LedgerError for one that no ledger writes."""
    kind, name = entry["kind"], entry["run"]
    if kind == "reserve" and name not in runs:
        allowances = (
            Allowance(a["release"], a["noise"], a["rate"], a["count"], a["retries"], a.get("role", ""))
            for a in entry["allowances"]
        )
        runs[name] = RunSpend(name, entry["plan"], {a.release: a for a in allowances})
        return
    run = runs[name]
    if kind == "charge" and not run.closed:
        charged = run.charged.get(entry["release"], 0) + 1
        if charged <= run.allowances[entry["release"]].most:
            run.charged[entry["release"]] = charged
            return
    if kind == "close" and not run.closed:
        run.closed = True
        return
    raise refuse("entries that no ledger writes")
