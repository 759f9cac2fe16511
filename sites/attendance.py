"""What a site answers a coordinator: it looks at a run's terms, joins, takes part in its rounds, and closes it.

    offered   terms      → where this site stands with them
    round     a message  → `client_round.answer`, which is all that a round is
    ended     the end    → this site's signed part of the release record

Model, data and ledger of a run stay in this process from joining to its end. A site that was restarted has the terms
on its disk, and joins again when it is offered them again: its plan and its ledger are as it left them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from fedimg import client_round, record, restored
from fedimg.audit import conformance
from fedimg.client_round import Site
from fedimg.config import agreed
from fedimg.errors import FedimgError, MessageError, PolicyRefused
from fedimg.federation.conversation import (
    Ended,
    Ending,
    Joining,
    Offer,
    Program,
    RoundMessage,
    Unit,
    kind_of,
)
from fedimg.home import SiteHome
from fedimg.operator_log import tell_operator
from fedimg.privacy import kept_plan
from fedimg.privacy.chain import head_of
from fedimg.privacy.ledger import Ledger
from fedimg.privacy.policy import SitePolicy
from fedimg.record import SiteFacts, code
from fedimg.terms import Terms
from sites.offers import Offers

# A site that could not join tries again when it is asked after this long: its operator may have mended it.
_AGAIN_S = 30.0


@dataclass(frozen=True)
class Bench:
    """Where a site computes: the device, and torch's threads."""

    device: torch.device
    threads: int = 1


def own_program() -> Program:
    """The one that runs here."""
    found = code.installed()
    return Program(found["fedimg"], found["digest"])


@dataclass
class Attendance:
    """A site's runs.

    Attributes:
        name: this site's in the federation. say: hears what changed, in plain words and without anything of a patient.
    """

    home: SiteHome
    name: str
    bench: Bench
    say: Callable[[str, str], None] = lambda _event, _run: None
    program: Program = field(default_factory=own_program)
    _sites: dict[str, Site] = field(default_factory=dict, init=False)
    _preparing: dict[str, threading.Thread] = field(default_factory=dict, init=False)
    _failed: dict[str, float] = field(default_factory=dict, init=False)
    _told: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.offers = Offers(self.home)

    def answer(self, data: bytes) -> bytes | None:
        """An answer, or None to decline; why, is told to this site's operator and to nobody else."""
        step = "receiving a message"
        try:
            kind = kind_of(data)
            if kind == b"OFFR":
                step = "a run's terms"
                said = self._offered(Offer.from_bytes(data))
                return said.to_bytes() if said is not None else None
            if kind == b"ROUN":
                step = "a round"
                return self._round(RoundMessage.from_bytes(data))
            if kind == b"ENDS":
                step = "a run's end"
                return self._ended(Ending.from_bytes(data).run)
            raise MessageError("an offer, a round or an end", "another message", "it was discarded")
        except Exception as fault:  # noqa: BLE001 - whatever happens at a site, the wire says only "no answer"
            tell_operator(self.home.root, step, fault)
            return None

    def close(self) -> None:
        """Let go of what is open; every run can be taken up again."""
        for thread in list(self._preparing.values()):
            thread.join(timeout=1)
        for run in list(self._sites):
            self._forget(run)

    def _offered(self, offer: Offer) -> Joining | None:
        run = offer.run
        if offer.program != self.program:
            self._tell_once(
                f"{run} version",
                PolicyRefused(
                    f"a coordinator of fedimg {self.program.version}, code {self.program.digest[:12]}",
                    f"{offer.program.version}, code {offer.program.digest[:12]}",
                    "install the same release at both ends; nothing was joined",
                ),
            )
            return Joining(run, "version", self.program)
        if (joined := self._sites.get(run)) is not None:
            self._check_same(joined.terms, offer)
            return self._joined(joined)
        if (over := restored.refusal(self.home.root, run)) is not None:
            self._tell_once(f"{run} restored", over)
            return None
        terms = agreed.read(offer.terms)
        self._check_same(terms, offer)
        if self.offers.ended(run) is not None:
            raise PolicyRefused("a run that has not ended here", "one that has", "start a new run")
        self.offers.keep(run, terms)
        if not self.offers.agreed(run, terms, SitePolicy.load(self.home.policy), self.program.digest):
            self._tell_once(
                f"{run} approval",
                PolicyRefused(
                    "a person who agrees to this run, or a policy that does so beforehand",
                    f"run {run}, plan {terms.digest[:12]}, {_asked(terms)}, code {self.program.digest[:12]}",
                    f"look at it with `fedimg site approve HOME`, then `fedimg site approve HOME {terms.digest[:12]}`",
                ),
            )
            return Joining(run, "approval", self.program)
        if time.monotonic() - self._failed.get(run, -_AGAIN_S) < _AGAIN_S:
            return None  # why, was told when it failed
        self._prepare(terms, offer.head)
        return Joining(run, "preparing", self.program)

    def _check_same(self, terms: Terms, offer: Offer) -> None:
        if terms.run_id != offer.run or terms.digest != offer.digest:
            raise MessageError("terms under their own digest and name", "others", "nothing was joined")

    def _prepare(self, terms: Terms, head: str) -> None:
        """Join beside the link, which meanwhile says that this site is there."""
        run = terms.run_id
        if (thread := self._preparing.get(run)) is not None and thread.is_alive():
            return
        self.say("preparing", run)
        thread = threading.Thread(target=self._join, args=(terms, head), name=f"join {run}", daemon=True)
        self._preparing[run] = thread
        thread.start()

    def _join(self, terms: Terms, head: str) -> None:
        run = terms.run_id
        try:
            torch.set_num_threads(self.bench.threads)  # OpenMP counts for each thread by itself
            known = head_of(head) if head else None
            site = client_round.join(self.home, self.name, terms, self.bench.device, known_head=known)
            self.offers.join(run, site.receipts)
        except Exception as fault:  # noqa: BLE001 - for this site's operator; the coordinator sees a site that declines
            tell_operator(self.home.root, "joining", fault)
            self._failed[run] = time.monotonic()
            self.say("could not join", run)
        else:
            self._failed.pop(run, None)
            self._sites[run] = site
            self.say("joined", run)

    def _joined(self, site: Site) -> Joining:
        ledger, run = site.ledger, site.terms.run_id
        return Joining(
            run,
            "joined",
            self.program,
            self._unit(),
            site.plan.as_json() if site.plan is not None else None,
            site.receipts,
            ledger.head.name if ledger is not None else "",
            ledger.last_reserved if ledger is not None else 0,
            conformance.kept(self.home.root, run),
        )

    def _unit(self) -> Unit:
        """Of arrays that were declared public there is no patient number: their units are images."""
        return "image" if (self.home.root / "declared_public.json").exists() else "patient"

    def _round(self, message: RoundMessage) -> bytes | None:
        site = self._sites.get(message.run)
        if site is None:
            raise PolicyRefused(
                "a run that this site has joined, in this process",
                "another",
                "nothing: it joins when it is offered the run again",
            )
        return client_round.answer(site, message.body)

    def _ended(self, run: str) -> bytes | None:
        """Close the run in the ledger and sign. The same question again has the same answer."""
        if (answered := self.offers.ended(run)) is not None:
            return answered
        if (over := restored.refusal(self.home.root, run)) is not None:
            self._tell_once(f"{run} end", over)
            return None
        terms, receipts = self.offers.terms(run), self.offers.joined_with(run)
        if terms is None or receipts is None:
            raise PolicyRefused("a run that this site took part in", "another", "nothing was closed")
        plan = kept_plan.kept(self.home.root / "plans" / f"{run}.json", terms.privacy, terms.digest)
        insecure = terms.insecure_seed is not None
        facts = SiteFacts(run, self.name, terms.digest, plan, self._unit(), insecure, receipts)
        answer = Ended(run, record.signed_part(self.home, facts)).to_bytes()
        if plan is not None:
            ledger = Ledger.open(self.home.ledger, self.home.signing_key)
            try:
                ledger.close(run)
            finally:
                ledger.disconnect()
        self.offers.end(run, answer)
        self._forget(run)
        self.say("ended", run)
        return answer

    def _forget(self, run: str) -> None:
        site = self._sites.pop(run, None)
        if site is not None and site.ledger is not None:
            site.ledger.disconnect()

    def _tell_once(self, what: str, why: FedimgError) -> None:
        if what not in self._told:
            self._told.add(what)
            tell_operator(self.home.root, "a run's terms", why)
            self.say("declined, see operator.log", what.split(maxsplit=1)[0])


def _asked(terms: Terms) -> str:
    if terms.privacy.mode == "none":
        return "privacy=none: no promise at all"
    return f"ε = {terms.privacy.epsilon:g} at δ = {terms.privacy.delta:g} ({terms.privacy.mode})"
