"""The coordinator's loop: rounds, evaluations, checkpoints. Engines give it a `Carrier`."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import torch

from fedimg import aggregation, server_clients, server_groups, server_round, training
from fedimg.aggregation import AggregationConfig, ServerOptimizer
from fedimg.breakdown import Breakdown
from fedimg.classical import LearnerServer, learner_of
from fedimg.client_round import Terms
from fedimg.config import Config
from fedimg.coordination.folder import RunFolder
from fedimg.coordination.traffic import MeteredExchange
from fedimg.errors import ConfigError, FederationError
from fedimg.evaluation.site_scores import SiteScores
from fedimg.heterogeneity import HeterogeneityServer
from fedimg.models import Network
from fedimg.models.algorithms import AlgorithmServer, load_algorithm
from fedimg.models.centring import stage_ends
from fedimg.models.extensions import find
from fedimg.privacy.client_level import ClientReleases
from fedimg.privacy.plan import PrivacyPlan
from fedimg.secagg.coordinator import VoidSumError
from fedimg.server_round import Exchange, Optimizer, SeparateTraining, Server, SummedTraining
from fedimg.values import EvaluationReport, SiteDataset, Vector

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Carrier:
    """What an engine offers: messages to sites and back, and for many virtual clients at once their sum
    (`privacy=none`) or their clipped updates (`client_level`).
    """

    exchange: Exchange
    summed: SummedTraining | None = None
    separate: SeparateTraining | None = None


@dataclass
class History:
    """What happened: per round loss and headline on the public set, and who was missing.

    `at_sites` is the last evaluation that sites answered, `public_groups` the final one by group.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    final: EvaluationReport | None = None
    at_sites: SiteScores | None = None
    public_groups: tuple[Breakdown, ...] = ()
    released: Vector | None = None


def make_server(
    config: Config,
    terms: Terms,
    network: Network,
    weights: dict[str, float],
    public: SiteDataset | None,
    clients: ClientReleases | None = None,
) -> Server:
    """The coordinator of one run. Weights are declared sizes, or equal, never actual counts.

    With `client_level` (`clients`) they are not used: every client counts once.
    """
    if config.aggregation.weights == "uniform":
        weights = dict.fromkeys(weights, 1.0)
    learner, ends = learner_of(network, terms.model), stage_ends(network.centring_rounds)
    optimizer: Optimizer
    if learner is not None:
        optimizer = LearnerServer(learner, network.initial)
    else:
        optimizer = _optimizer(config.aggregation, network.initial, ends)
    algorithm = terms.training.algorithm
    taken: Callable[[], Mapping[str, int]] = dict
    if algorithm.name != "none":
        optimizer = HeterogeneityServer(algorithm, optimizer, weights)
        taken = optimizer.taken
    if training.kept_parameters(network, algorithm) is not None:
        public = None  # no site's model is the coordinator's
    return Server(
        terms.run_id,
        terms.digest,
        network,
        terms.measure,
        optimizer,
        config.aggregation,
        weights,
        public,
        private=terms.privacy.mode != "none",
        device=torch.device("cpu"),
        clients=clients,
        learner=learner,
        taken=taken,
    )


def _optimizer(config: AggregationConfig, initial: Vector, stage_ends: tuple[int, ...] = ()) -> Optimizer:
    """Built in by name, else the extension of that name that is installed at this server."""
    if config.name in aggregation.BUILTIN:
        return ServerOptimizer(config, initial, stage_ends)
    if stage_ends:
        raise ConfigError("a built-in aggregation after centring", config.name, "set model.centring_rounds=0")
    found = find("fedimg.algorithms", config.name, aggregation.BUILTIN)
    return AlgorithmServer(load_algorithm(config.name, (found.digest,)), initial)


def cohort(names: Sequence[str], size: int, round_number: int, terms: Terms) -> tuple[str, ...]:
    """The sites asked this round: all, or `size` drawn uniformly without replacement."""
    if size <= 0 or size >= len(names):
        return tuple(names)
    chance: Random = secrets.SystemRandom()
    if terms.insecure_seed is not None:
        chance = Random(f"{terms.insecure_seed}/{round_number}")  # noqa: S311 - the insecure test mode
    return tuple(sorted(chance.sample(list(names), size)))


def run_rounds(
    server: Server,
    names: tuple[str, ...],
    carrier: Carrier,
    config: Config,
    terms: Terms,
    *,
    folder: RunFolder | None = None,
    plans: Callable[[], Mapping[str, PrivacyPlan]] = dict,
    progress: Progress | None = None,
) -> History:
    """Train to the last declared round, from the newest checkpoint if the folder has one.

    Args:
        names: who is asked in every round. plans: of whoever has joined so far, more of them as sites join later; a
            row of the history says what each has spent.

    Raises:
        FederationError: a round with too few answers; what was done stays in the folder.
    """
    history, first = History(), 1
    if folder is not None and (checkpoint := folder.last_checkpoint()) is not None:
        first = checkpoint[0] + 1
        server.optimizer.restore(SiteScores.beside(checkpoint[1]))
        history.at_sites = SiteScores.restored(checkpoint[1])
        history.rows = [row for row in folder.metrics() if row["round"] < first]
    ask_sites = terms.evaluation_rounds
    metered = MeteredExchange(carrier.exchange)
    carrier = replace(carrier, exchange=metered)
    for number in range(first, terms.rounds + 1):
        begun = time.monotonic()
        row = {"round": number} | _train(server, number, names, carrier, config, terms)
        taken = time.monotonic() - begun
        if number % config.evaluation.every == 0 or number == terms.rounds:
            # a model that has diverged has no loss
            row |= {k: v for k, v in server_round.quick_metrics(server).items() if math.isfinite(v)}
        if number in ask_sites:
            asked = server, number, names, carrier.exchange
            if server.clients is not None:
                scores: SiteScores | None = server_clients.evaluate_clients(*asked)
            else:
                scores = _at_sites(asked, _noise_std(plans()))
            history.at_sites = scores or history.at_sites
        if (
            server.clients is None
        ):  # whom it sampled could be told from who sent something, and how many from the time
            row["seconds"] = round(taken, 6)
            row |= metered.taken() if carrier.summed is None else {}
        if not config.insecure_test_mode and (known := plans()):
            row["epsilon"] = _spent(known, number, sum(1 for asked_in in ask_sites if asked_in <= number))
        history.rows.append(row)
        if folder is not None:
            folder.append_metrics(row)
            folder.save_checkpoint(number, _state(server, history))
        _go_on(history.rows, config)
        if progress is not None:
            progress("rounds", number, terms.rounds)
    history.final = server_round.evaluate_public(
        server, bootstrap=config.evaluation.bootstrap, seed=config.seed
    )
    history.public_groups = server_groups.breakdowns_public(
        server, bootstrap=config.evaluation.bootstrap, seed=config.seed
    )
    history.released = server.optimizer.released
    return history


def _train(
    server: Server, number: int, names: tuple[str, ...], carrier: Carrier, config: Config, terms: Terms
) -> dict[str, Any]:
    """One round, and who was in it; nobody is named with `client_level`, where whom it sampled is a secret."""
    if server.clients is not None:
        server_clients.train_round_clients(server, number, names, carrier.exchange, carrier.separate)
        return {}
    asked = cohort(names, config.aggregation.cohort, number, terms)
    if carrier.summed is not None:
        result = server_round.train_round_summed(server, number, asked, carrier.summed)
    else:
        try:
            result = server_round.train_round(server, number, asked, carrier.exchange)
        except VoidSumError as void:
            return {"sites": [], "missing": list(asked), "void": str(void)}
    return {"sites": list(result.sites), "missing": list(result.missing)}


def _go_on(rows: Sequence[Mapping[str, Any]], config: Config) -> None:
    """A void round leaves the model as it was and is not repeated, charged though it is; many in a row end the run."""
    most = config.secagg.void_rounds
    last = rows[-most:]
    if len(last) == most and all("void" in row for row in last):
        raise FederationError(
            f"a sum that could be opened in one of {most} rounds",
            f"none; the last one: {last[-1]['void']}",
            "bring enough sites back, then resume the run",
        )


def _at_sites(asked: tuple[Server, int, tuple[str, ...], Exchange], noise_std: float) -> SiteScores | None:
    """None where no site answered, or too few for a secure sum; what they spent is spent."""
    try:
        return server_round.evaluate_at_sites(*asked, noise_std)
    except VoidSumError:
        return None


def _noise_std(plans: Mapping[str, PrivacyPlan]) -> float:
    """Of the noise in a cell of a site's histogram, where it has most."""
    return max((plan.evaluation_noise_multiplier for plan in plans.values()), default=0.0)


def _state(server: Server, history: History) -> dict[str, torch.Tensor]:
    """The server's whole state after a round: a release that was paid for is not made twice."""
    return server.optimizer.state() | (history.at_sites.state() if history.at_sites is not None else {})


def _spent(plans: Mapping[str, PrivacyPlan], round_number: int, evaluations: int) -> dict[str, float]:
    """Each site's ε after a round of an unbroken run, without the retries that its plan sets aside."""
    return {
        name: plan.epsilon_after(round_number * plan.request.releases_per_round, evaluations)
        for name, plan in plans.items()
    }
