"""One run over the link, from the members' joining to its record.

    gather    members        → those who have joined, and their plans
    rounds    `coordination.rounds`, whose carrier is the link
    close     the run's end  → the sites' signed parts
    record    a finished run → model, signed record, report

A server that was ended and started again takes the run up at its last complete round: what is needed stands in the
run's folder, and the sites have their plans and ledgers. Sites that are not there are waited for, visibly and not for
ever; whoever comes back takes part in the next round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from fedimg.config import Config
from fedimg.coordination import rounds, summary
from fedimg.coordination.claims import quorums_of
from fedimg.coordination.finished import DataFacts, Finished
from fedimg.coordination.folder import RunFolder
from fedimg.coordination.rounds import Carrier, History
from fedimg.coordination.terms import own_network, terms_of
from fedimg.crypto.keys import SigningKey
from fedimg.errors import FederationError, TooFewAnswers
from fedimg.federation.conversation import Program, RoundMessage
from fedimg.privacy.kept_heads import KeptHeads
from fedimg.robust import least_sites
from fedimg.run_sums import sums_of
from fedimg.secagg.request import SumRequest, is_request
from fedimg.secagg.roster import Roster
from fedimg.server_round import Server
from fedimg.values import SiteDataset
from server.closing import Closing
from server.gathering import Gathering
from server.link import Link
from server.registry import Registry, Stage

_ROSTER = "roster.json"
_POLL_S, _IDLE_S = 0.2, 1.0
_OFFER_S = 30.0  # for messages that a site answers at once, or not
_END_S = 120.0  # for sites that are away when a run ends; later they are told, and not waited for


@dataclass
class Conductor:
    """Conducts runs, one after the other.

    Attributes:
        link: to the members. registry: says where the run stands. heads: of the members' ledgers. key: signs records.
        public: reads the coordinator's own test set as a run's terms have it; None where there is none.
        say: hears what changed, in plain words.
    """

    link: Link
    registry: Registry
    heads: KeptHeads
    program: Program
    key: SigningKey = field(repr=False)
    public: Callable[[Config], SiteDataset | None] = lambda _config: None
    say: Callable[[str, str], None] = lambda _event, _text: None

    def conduct(self, config: Config, folder: RunFolder, roster: Roster) -> None:
        """Do what is left of a run.

        Args:
            roster: the members as of now; a run that has begun keeps those it began with.

        Raises:
            StopAsked: someone has asked for it. FedimgError: the run cannot go on; it can be resumed.
        """
        run, network = folder.run_id, own_network(terms_of(config, folder.run_id))
        folder.note_start(network.origin)
        # a file of weights is this machine's: sites get parameters
        terms = terms_of(replace(config, model=replace(config.model, weights=None)), run)
        roster = _kept_roster(folder, roster)
        secure = config.secagg.name != "none"
        sums = sums_of(terms, roster, terms.update_size(network)) if secure else ()
        gathering = Gathering(terms, self.program, folder, self.heads, roster, unit_of(config), sums)
        if folder.last_round() < config.rounds:  # else only its end is left, for which nobody has to be there
            self._start(gathering, config)
        server = rounds.make_server(config, terms, network, dict(roster.weights), self.public(config), None)
        server.heads, server.sums = self.heads, sums
        history = self._rounds(server, _Carried(self, gathering, config))
        self.registry.move(run, Stage.CLOSING)
        closing = Closing(gathering, self.say)
        self.registry.owe(run, closing.open())
        self.link.until(lambda: self._close(closing, run), min(config.federation.deadline_s, _END_S))
        self._record(config, history, closing)
        self.registry.move(run, Stage.FINISHED)

    def _rounds(self, server: Server, carried: _Carried) -> History:
        """To the last round. One with too few answers is asked again: who has answered sends the same bytes again."""
        gathering, config, tries = carried.gathering, carried.config, 0
        folder = gathering.folder
        while True:
            before = folder.last_round()
            try:
                return rounds.run_rounds(
                    server,
                    gathering.names,
                    Carrier(carried.exchange),
                    config,
                    gathering.terms,
                    folder=folder,
                    plans=lambda: gathering.plans,
                    progress=lambda _stage, done, _total: self._progress(folder.run_id, done),
                )
            except TooFewAnswers as too_few:
                tries = tries + 1 if folder.last_round() == before else 1
                if tries >= config.secagg.void_rounds:
                    raise
                self.say("asking again", f"found {too_few.found}")

    def _start(self, gathering: Gathering, config: Config) -> None:
        """Wait for the first members; a run that has begun goes on with those that it needs."""
        members = len(gathering.names)
        asked = config.federation.start_with or members
        least = needed(config, members) if gathering.joined else asked
        self.wait(gathering, least, config, Stage.GATHERING)
        self.registry.move(gathering.terms.run_id, Stage.RUNNING)
        self.say("rounds", f"of {config.rounds}")

    def wait(self, gathering: Gathering, least: int, config: Config, stage: Stage) -> None:
        """Offer the run until `least` members have joined and are connected, with the reason in the registry.

        Raises:
            FederationError: they have not come within `federation.patience_s`.
        """
        run, begun, limits = gathering.terms.run_id, time.monotonic(), config.federation
        while True:
            self.link.check_stop(run)
            connected = {k: since for k, since in self.link.connected().items() if k in gathering.names}
            gathering.offer(connected, lambda asked: self.link.ask(asked, _OFFER_S, run))
            waited = time.monotonic() - begun
            # who is preparing may take part from round 1, but not hold up the others for ever
            preparing = "is preparing" in gathering.standing.values() and waited < limits.deadline_s
            if len(gathering.present) >= least and not (preparing and stage is Stage.GATHERING):
                return
            reason = _waiting_for(gathering, least)
            self.registry.move(run, stage, reason)
            self.say("waiting", reason)
            if waited > limits.patience_s:
                raise FederationError(
                    f"{least} sites that have joined, within {limits.patience_s:g} s",
                    reason,
                    "bring them back, then `fedimg runs resume`",
                )
            time.sleep(_POLL_S if preparing else _IDLE_S)

    def _progress(self, run: str, done: int) -> None:
        self.registry.move(run, Stage.RUNNING, "", done)
        self.say("round", f"{done}")

    def _close(self, closing: Closing, run: str) -> bool:
        """Ask those whose part is missing and who are there; whether there is nobody left to ask."""
        asked = closing.questions(self.link.connected())
        closing.take(self.link.ask(asked, _OFFER_S) if asked else {})
        for name in closing.answered():
            self.registry.settle(run, name)
        return not closing.open()

    def _record(self, config: Config, history: History, closing: Closing) -> None:
        gathering = closing.gathering
        data = DataFacts(
            (
                "Each site's data are its own; what it admitted, and what it held back, stands in its own report.",
            ),
            config.data.classes or tuple(f"class {k}" for k in range(config.model.classes)),
            unit_of(config),
            public=False,
            generated=False,
            public_set=history.final is not None,
        )
        finished = Finished(
            config,
            gathering.terms,
            history,
            closing.participants(history),
            data,
            quorums_of(config, gathering.roster if config.secagg.name != "none" else None),
            data.unit,
            self.key,
            simulated=False,
        )
        summary.write(finished, gathering.folder)


def unit_of(config: Config) -> Literal["patient", "image"]:
    """Of declared public arrays nobody knows a patient."""
    return "image" if config.data.name == "medmnist" else "patient"


def needed(config: Config, sites: int) -> int:
    """The least number of sites with which a round can be done."""
    aggregation = config.aggregation
    if config.secagg.name == "none":
        rule = least_sites(aggregation.robust, aggregation.liars) if aggregation.robust != "none" else 1
        return max(1, rule, aggregation.min_sites)
    each = sites // config.secagg.groups
    return config.secagg.threshold_among(each) * config.secagg.groups


@dataclass
class _Carried:
    """The link as a run's rounds see it."""

    conductor: Conductor
    gathering: Gathering
    config: Config

    def exchange(self, outgoing: Mapping[str, bytes]) -> dict[str, bytes | None]:
        """A round's first message waits for enough sites; who does not answer is out of it, and asked again next time."""
        link, run, limits = self.conductor.link, self.gathering.terms.run_id, self.config.federation
        link.check_stop(run)
        first = next(iter(outgoing.values()))
        begins = not is_request(first) or SumRequest.from_bytes(first).step == 0
        if begins:
            least = needed(self.config, len(self.gathering.names))
            self.conductor.wait(self.gathering, least, self.config, Stage.WAITING)
            self.conductor.registry.move(run, Stage.RUNNING)
        asked = {
            name: RoundMessage(run, data).to_bytes()
            for name, data in outgoing.items()
            if name in self.gathering.present
        }
        answers = link.ask(asked, limits.deadline_s, run)
        for name in asked:
            if answers.get(name) is None:
                self.gathering.lost(name)
                self.conductor.say("no answer", name)
        return {name: answers.get(name) for name in outgoing}


def _kept_roster(folder: RunFolder, now: Roster) -> Roster:
    """The members that the run began with: later ones are of later runs."""
    file = folder.path / _ROSTER
    if not file.exists():
        now.save(file)
    return Roster.load(file)


def _waiting_for(gathering: Gathering, least: int) -> str:
    """Why a run does not go on, for people: names of sites and what they say, nothing else."""
    missing = [name for name in gathering.names if name not in gathering.present]
    told = "; ".join(f"{name}: {gathering.standing.get(name, 'not connected')}" for name in missing)
    return f"{len(gathering.present)} of {least} sites that are needed; {told}"
