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

from fedimg import client_round, restored
from fedimg.audit import conformance
from fedimg.client_round import Site
from fedimg.config import agreed
from fedimg.errors import FedimgError, MessageError, PolicyRefused
from fedimg.federation.conversation import (
    Ending,
    Joining,
    Offer,
    Program,
    RoundMessage,
    kind_of,
)
from fedimg.home import SiteHome
from fedimg.operator_log import tell_operator
from fedimg.outbox import Outbox
from fedimg.privacy.chain import head_of
from fedimg.privacy.policy import SitePolicy
from fedimg.record import code
from fedimg.secagg.roster import Roster
from fedimg.terms import Terms
from fedimg.values import NoisedUpdate
from sites import closing
from sites.offers import Offers

# A site that could not join tries again when it is asked after this long: its operator may have mended it.
_AGAIN_S = 30.0
# The same refusal is told once in so long, however often a coordinator asks.
_TOLD_S = 600.0
# Runs whose model and data stay in memory; the one that was idle longest joins again when it is asked.
_MOST_RUNS = 4


@dataclass(frozen=True)
class Bench:
    """Where a site computes: the device, and torch's threads."""

    device: torch.device
    threads: int = 1


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
    program: Program = field(default_factory=code.program)
    _sites: dict[str, Site] = field(default_factory=dict, init=False)
    _preparing: dict[str, threading.Thread] = field(default_factory=dict, init=False)
    _failed: dict[str, float] = field(default_factory=dict, init=False)
    _told: dict[tuple[str, ...], float] = field(default_factory=dict, init=False)
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock, init=False)

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
            self._tell(step, fault)
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
            self._decline(
                run,
                PolicyRefused(
                    f"a coordinator of fedimg {self.program.version}, code {self.program.digest[:12]}",
                    f"{offer.program.version}, code {offer.program.digest[:12]}",
                    "install the same release at both ends; nothing was joined",
                ),
            )
            return Joining(run, "version", self.program)
        if self.offers.ended(run) is not None:
            raise PolicyRefused("a run that has not ended here", "one that has", "start a new run")
        if (joined := self._sites.get(run)) is not None:
            _check_same(joined.terms, offer)
            return self._joined(joined)
        if (over := restored.refusal(self.home.root, run)) is not None:
            self._decline(run, over)
            return None
        terms = agreed.read(offer.terms)
        _check_same(terms, offer)
        _ = terms.extensions  # of what is not installed here a person need not judge
        self.offers.keep(run, terms)
        if not self.offers.agreed(run, terms, SitePolicy.load(self.home.policy), self.program.digest):
            self._decline(
                run,
                PolicyRefused(
                    "a person who agrees to this run, or a policy that does so beforehand",
                    f"run {run}, plan {terms.digest[:12]}, {_asked(terms)}, code {self.program.digest[:12]}",
                    f"look at it with `fedimg site approve HOME`, then `fedimg site approve HOME {terms.digest[:12]}`",
                ),
            )
            return Joining(run, "approval", self.program)
        if offer.members and Roster.load(self.home.roster).digest != offer.members:
            self._decline(
                run,
                PolicyRefused(
                    "the members that this site has pinned",
                    f"others in run {run}",
                    "accept the coordinator's latest bundle; for a run of before, nothing can be done here",
                ),
            )
            return Joining(run, "members", self.program)
        if time.monotonic() - self._failed.get(run, -_AGAIN_S) < _AGAIN_S:
            return None  # why, was told when it failed
        self._prepare(terms, offer.head)
        return Joining(run, "preparing", self.program)

    def _prepare(self, terms: Terms, head: str) -> None:
        """Join beside the link, which meanwhile says that this site is there."""
        run = terms.run_id
        if (thread := self._preparing.get(run)) is not None and thread.is_alive():
            return
        self._preparing = {name: one for name, one in self._preparing.items() if one.is_alive()}
        self.say("preparing", run)
        thread = threading.Thread(target=self._join, args=(terms, head), name=f"join {run}", daemon=True)
        self._preparing[run] = thread
        thread.start()

    def _join(self, terms: Terms, head: str) -> None:
        run = terms.run_id
        step = (
            f"joining; the coordinator has seen entry {head.partition('-')[0]} of this ledger"
            if head
            else "joining"
        )
        try:
            torch.set_num_threads(self.bench.threads)  # OpenMP counts for each thread by itself
            known = head_of(head) if head else None
            with self._one_at_a_time:
                site = client_round.join(self.home, self.name, terms, self.bench.device, known_head=known)
                self.offers.join(run, site.receipts)
        except Exception as fault:  # noqa: BLE001 - for this site's operator; the coordinator sees a site that declines
            tell_operator(self.home.root, step, fault)
            self._failed[run] = time.monotonic()
            self.say("could not join", run)
        else:
            self._failed.pop(run, None)
            for idle in list(self._sites)[: max(0, len(self._sites) - _MOST_RUNS + 1)]:
                self._forget(idle)
            self._sites[run] = site
            if self.offers.ended(run) is not None:  # it came while this site was joining
                self._forget(run)
            self.say("joined", run)

    def _joined(self, site: Site) -> Joining:
        ledger, run = site.ledger, site.terms.run_id
        return Joining(
            run,
            "joined",
            self.program,
            closing.unit_of(self.home),
            site.plan.as_json() if site.plan is not None else None,
            self.offers.join(run, site.receipts),
            ledger.head.name if ledger is not None else "",
            ledger.last_reserved if ledger is not None else 0,
            conformance.kept(self.home.root, run),
            self._pending(site),
        )

    def _pending(self, site: Site) -> tuple[str, ...]:
        """Entries behind answers on the disk, which go out once more when the same is asked once more."""
        if site.plan is None:
            return ()
        answers = Outbox(self.home.root / "outbox" / site.terms.run_id).last()
        return tuple(name for data in answers for name in NoisedUpdate.from_bytes(data, None).releases)

    def _round(self, message: RoundMessage) -> bytes | None:
        site = self._sites.pop(message.run, None)
        if site is None or self.offers.ended(message.run) is not None:
            raise PolicyRefused(
                "a run that this site has joined, in this process",
                "another",
                "nothing: it joins when it is offered the run again",
            )
        self._sites[message.run] = site  # the last one in use is the last to go
        return client_round.answer(site, message.body)

    def _ended(self, run: str) -> bytes | None:
        """Close the run in the ledger and sign. The same question again has the same answer."""
        if (answered := self.offers.ended(run)) is not None:
            return answered
        if (over := restored.refusal(self.home.root, run)) is not None:
            self._decline(run, over)
            return None
        if (thread := self._preparing.get(run)) is not None and thread.is_alive():
            raise PolicyRefused("a run's end when this site has joined it", "one before", "it is told again")
        answer = closing.close(self.home, self.name, run)
        self._forget(run)
        self.say("ended", run)
        return answer

    def _forget(self, run: str) -> None:
        site = self._sites.pop(run, None)
        if site is not None and site.ledger is not None:
            site.ledger.disconnect()

    def _decline(self, run: str, why: FedimgError) -> None:
        if self._tell("a run's terms", why):
            self.say("declined, see operator.log", run)

    def _tell(self, step: str, fault: Exception) -> bool:
        """Whether it was told: the same is not told again and again."""
        what = (step, type(fault).__name__, str(fault) if isinstance(fault, FedimgError) else "")
        now = time.monotonic()
        self._told = {told: at for told, at in self._told.items() if now - at < _TOLD_S}
        if what in self._told:
            return False
        self._told[what] = now
        tell_operator(self.home.root, step, fault)
        return True


def _check_same(terms: Terms, offer: Offer) -> None:
    if terms.run_id != offer.run or terms.digest != offer.digest:
        raise MessageError("terms under their own digest and name", "others", "nothing was joined")


def _asked(terms: Terms) -> str:
    if terms.privacy.mode == "none":
        return "privacy=none: no promise at all"
    return f"ε = {terms.privacy.epsilon:g} at δ = {terms.privacy.delta:g} ({terms.privacy.mode})"
