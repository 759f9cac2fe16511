"""A site's privacy ledger: what was promised, what was spent, and what is left. For good.

Charge before release: a charge is on the disk before the noised value exists, so after a crash the
ledger may overstate, never understate. Noise, seeds, samples and masks are never on the disk.

Two promises stand side by side. *One run* has (q, σ, T) fixed before round 1 and an ε by privacy loss
distributions. *The ledger's life* is an RDP filter of one integer order, fixed with (ε_max, δ) when the
ledger is opened: a run is let in iff the sum of all ρ, spent or reserved, stays within the budget. It
promises (ε_max, δ) over all runs, however adaptively they are chosen, and nothing smaller.

Each patient has a record of their own, charged the declared ρ of every release that they could have
been in, sampled or not. The site's number, shown, refusing and setting σ, is that of a patient who has
been there since the ledger was opened; single records decide inside who is left out, and never leave.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, Self

from fedimg.crypto.keys import SigningKey
from fedimg.errors import BudgetExhausted, LedgerError
from fedimg.privacy import recovery
from fedimg.privacy.chain import START, Chain, Head, follow, refuse
from fedimg.privacy.patient_side import PatientSide
from fedimg.privacy.patients import PatientRecords
from fedimg.privacy.statement import (
    EXTRACT_DOMAIN,
    EXTRACT_FORMAT,
    Allowance,
    LedgerTerms,
    RunSpend,
    Statement,
    apply,
    replay,
    verify,
)

__all__ = ["Allowance", "Head", "Ledger", "LedgerTerms", "RunSpend", "Statement", "verify"]


class Declares(Protocol):
    """A plan, as far as the ledger is concerned."""

    @property
    def digest(self) -> str: ...

    @property
    def allowances(self) -> tuple[Allowance, ...]: ...


class Ledger(PatientSide):
    """See the module.

    Several processes may hold one ledger open, for a run each: every decision is made alone with the file and
    on every entry that there is. A second process that writes for the same run makes this one refuse.
    """

    def __init__(self, chain: Chain, key: SigningKey) -> None:
        self._chain, self._key = chain, key
        self._terms, self._runs, self._lost = replay(chain.bodies)
        self._replayed = len(chain.bodies)
        committed = _last_commitment(chain)
        self._patients = PatientRecords(chain.connection, key, new=committed is None)
        if committed is not None:
            self._patients.check(*committed)
        self._active: str | None = None

    @classmethod
    def create(cls, path: Path, signing_key: SigningKey, terms: LedgerTerms) -> Self:
        """Open a new ledger, whole or not at all. Raises LedgerError where one exists: a site has one, for good."""
        values = {
            "epsilon_max": terms.epsilon_max,
            "delta": terms.delta,
            "order": terms.order,
            "scratch": terms.scratch,
            "key": signing_key.public_bytes.hex(),
        }
        return cls(Chain.create(path, signing_key, _entry("open", values)), signing_key)

    @classmethod
    def open(cls, path: Path, signing_key: SigningKey, known_head: Head | None = None) -> Self:
        """Open an existing one. Raises LedgerError: missing, unreadable, short, forked or tampered with."""
        chain = Chain.open(path, signing_key, known_head)
        try:
            return cls(chain, signing_key)
        except LedgerError:
            chain.close()
            raise

    @classmethod
    def recover(
        cls, path: Path, signing_key: SigningKey, backup: Path, seen: Head, reserved: int | None = None
    ) -> Self:
        """After the loss of the disk: the backup, and everything that was reserved counts as spent.

        Args:
            backup: an older file of this ledger, or a signed extract of it.
            seen: the last head that the server knows.
            reserved: the number of the last reservation that the server knows. Where that is behind the
                backup, or unknown while entries are missing, all that was left counts as spent.

        Raises:
            LedgerError: a ledger is there, or the backup is not this site's, or another history than the head's.
        """
        source, kept = recovery.source_of(backup, signing_key.public_bytes)

        def last(chain: Chain) -> bytes:
            values = recovery.entry(chain.bodies, chain.head, seen, reserved, patients_kept=kept)
            patients = PatientRecords(chain.connection, signing_key, new=not kept)
            return _entry("recover", values | {"patients": patients.commitment(chain.head.digest)})

        return cls(Chain.restore(path, signing_key, source, last), signing_key)

    @property
    def terms(self) -> LedgerTerms:
        return self._terms

    @property
    def head(self) -> Head:
        """What a server keeps, so that a rollback shows."""
        return self._chain.head

    @property
    def statement(self) -> Statement:
        return Statement(self._terms, self._runs, self._chain.head, self._lost, tuple(self._chain.bodies))

    @property
    def remaining(self) -> float:
        return self.statement.remaining

    @property
    def last_reserved(self) -> int:
        """The number of the last reservation, 0 before the first: the server keeps it beside the head."""
        numbered = zip(follow(self._chain.bodies), self._chain.bodies, strict=True)
        return max((head.sequence for (head, _), body in numbered if _is(body, "reserve")), default=0)

    def reserve(self, run: str, plan: Declares) -> None:
        """Set the whole declared cost aside, retries included, before round 1; then charge this run.

        Reserving the same plan again for the same open run resumes it and reserves nothing.

        Raises:
            BudgetExhausted: the plan does not fit what is left.
            LedgerError: the run is closed, or was reserved with another plan.
        """
        spend = RunSpend(run, plan.digest, {a.release: a for a in plan.allowances})

        def reservation() -> bytes | None:
            if (known := self._runs.get(run)) is not None:
                _check_open(known, plan.digest)
                return None
            cost, left = spend.rho(self._terms.order), self.remaining
            if not cost <= left:
                raise BudgetExhausted(
                    f"a plan costing at most {left:.4g} at Rényi order {self._terms.order}",
                    f"{cost:.4g}",
                    "ask for a smaller ε or fewer rounds; this site's ledger has no more to give",
                )
            return _entry("reserve", {"run": run, "plan": plan.digest, "allowances": _written(plan)})

        self._active = None
        self._append(reservation)
        self._active = run

    def charge(self, plan_digest: str, release: str) -> str:
        """Write one release of the reserved run to the disk, *before* it is made.

        Returns:
            The release's name.

        Raises:
            BudgetExhausted: everything declared, retries included, is spent.
            LedgerError: no such plan is reserved, another process has written for this run, or the entry could
                not be made durable.
        """

        def charged() -> bytes:
            run = self._runs.get(self._active or "")
            if run is None or run.plan != plan_digest or run.closed or release not in run.allowances:
                raise LedgerError(
                    "a release of the reserved plan", "another one", "reserve the plan before round 1"
                )
            if run.charged.get(release, 0) >= run.allowances[release].most:
                raise BudgetExhausted(
                    f"at most {run.allowances[release].most} releases of kind {release} in this run",
                    "one more",
                    "start a new run; the declared releases and retries are spent",
                )
            self._patients.refresh()
            committed = self._patients.commitment(self._chain.head.digest)
            return _entry("charge", {"run": run.run, "release": release, "patients": committed})

        return self._append(charged).name

    def close(self, run: str) -> None:
        """End a run: what it reserved and did not spend is free again. Closing twice changes nothing."""

        def closed() -> bytes | None:
            spend = self._runs.get(run)
            if spend is None:
                raise LedgerError("a reserved run", "none of that name", "see `fedimg ledger show`")
            return None if spend.closed else _entry("close", {"run": run})

        self._append(closed)

    def _append(self, decide: Callable[[], bytes | None]) -> Head:
        """Add what is decided once everything that other processes have added is taken up."""
        added: list[bytes] = []

        def after(others: Sequence[bytes]) -> bytes | None:
            if self._replayed != len(self._chain.bodies):
                self._terms, self._runs, self._lost = replay(self._chain.bodies)
                self._replayed = len(self._chain.bodies)
            self._refuse_second_writer(others)
            body = decide()
            added.extend(() if body is None else (body,))
            return body

        head = self._chain.append(after)
        for body in added:
            apply(self._runs, json.loads(body))
            self._replayed += 1
        return head

    def _refuse_second_writer(self, others: Sequence[bytes]) -> None:
        active = self._active
        if active is not None and any(json.loads(body).get("run") == active for body in others):
            self._active = None
            raise refuse(
                "entries for this run written by another process",
                "stop the other process and open it again",
            )

    def extract(self) -> bytes:
        """The whole ledger as signed JSON, for the run folder and for auditors; no patient data in it."""
        head = self._chain.head
        signature = self._key.sign(EXTRACT_DOMAIN + head.digest)
        document = {
            "format": EXTRACT_FORMAT,
            "public_key": self._key.public_bytes.hex(),
            "entries": [body.decode() for body in self._chain.bodies],
            "sequence": head.sequence,
            "digest": head.digest.hex(),
            "signature": signature.hex(),
        }
        return json.dumps(document, sort_keys=True, indent=1).encode()

    def disconnect(self) -> None:
        """Close the file. The ledger can be opened again."""
        self._chain.close()


def _is(body: bytes, kind: str) -> bool:
    return bool(json.loads(body)["kind"] == kind)


def _last_commitment(chain: Chain) -> tuple[str, bytes] | None:
    """The last entry's commitment to the patients' records, and the digest that the entry follows."""
    heads = [START, *(head.digest for head, _ in follow(chain.bodies))]
    for number in range(len(chain.bodies) - 1, -1, -1):
        committed = json.loads(chain.bodies[number]).get("patients")
        if isinstance(committed, str):
            return committed, heads[number]
    return None


def _check_open(known: RunSpend, digest: str) -> None:
    """Raises LedgerError where a run cannot go on."""
    if known.closed or known.plan != digest:
        found = "a closed one" if known.closed else "another plan"
        raise LedgerError(f"run {known.run} to be open with this plan", found, "start a new run")


def _written(plan: Declares) -> list[dict[str, Any]]:
    return [
        {
            "release": a.release,
            "noise": a.noise_multiplier,
            "rate": a.sampling_rate,
            "count": a.count,
            "retries": a.retries,
            "role": a.role,
        }
        for a in plan.allowances
    ]


def _entry(kind: str, values: Mapping[str, Any]) -> bytes:
    entry = {"kind": kind, "time": _now(), **values}
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
