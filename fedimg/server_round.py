"""The coordinator's side of a round.

    instruct   global model      → bytes for every site
    receive    answers           → checked updates
    aggregate  updates           → AggregatedUpdate → next global model
    evaluate   global model      → EvaluationReport on the server's own public set

The server sees only what `receive` accepts: released updates, never data, counts
or reasons. A site that does not answer is missing from the round; a round with
too few answers is an error, never a silent repetition of the last model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from fedimg import training
from fedimg.aggregation import AggregationConfig, weighted_mean
from fedimg.classical import Learner
from fedimg.errors import FederationError, MessageError, TooFewAnswers
from fedimg.evaluation import Measure
from fedimg.evaluation.site_scores import SiteScores
from fedimg.models import Network
from fedimg.privacy.client_level import ClientReleases
from fedimg.privacy.kept_heads import KeptHeads
from fedimg.privacy.request import DISTRIBUTED
from fedimg.robust import least_sites, robust, within_the_median_norm
from fedimg.run_sums import RunSums
from fedimg.secagg.coordinator import VoidSumError
from fedimg.secagg.encoding import OpenedSum
from fedimg.secagg.exchanges import secure_sum
from fedimg.secagg.request import SumRequest
from fedimg.values import (
    AggregatedUpdate,
    ClippedUpdate,
    EvaluationReport,
    NoisedUpdate,
    OpenUpdate,
    RoundInstructions,
    SiteDataset,
    Vector,
)

Task = Literal["train", "evaluate"]
Update = TypeVar("Update", NoisedUpdate | OpenUpdate, ClippedUpdate)
Exchange = Callable[[Mapping[str, bytes]], Mapping[str, bytes | None]]
"""Carries each named site's instructions to it and brings back its answer; None is an absence."""

SummedTraining = Callable[[Vector, tuple[str, ...], int], tuple[Vector, float]]
"""(parameters, clients, round) → (Σ w·update, Σ w): what an engine for many virtual clients offers."""

SeparateTraining = Callable[[Vector, tuple[str, ...], int], Iterable[Vector]]
"""(parameters, clients, round) → each client's clipped update: the same for `client_level`."""


class Optimizer(Protocol):
    """What moves the global model: `ServerOptimizer`, or an extension's `AlgorithmServer`."""

    @property
    def vector(self) -> Vector: ...
    @property
    def released(self) -> Vector: ...
    def apply(self, update: AggregatedUpdate) -> None: ...
    def state(self) -> dict[str, torch.Tensor]: ...
    def restore(self, state: Mapping[str, torch.Tensor]) -> None: ...


@dataclass
class Server:
    """The coordinator: public terms, the global model, and its own public data.

    `weights` are the sites' declared numbers of patients (or ones). `private` says which type of
    update is acceptable: a federation that promised privacy refuses an un-noised update. `heads`: of the
    sites' ledgers; an answer of a ledger that was put back is refused. `clients` is set with
    `client_level`: the coordinator's own releases, which its ledger pays for. `sums` is set where updates
    are added up securely, one for each group of sites: then the coordinator sees no single update. `learner`:
    of a classical model, which follows from the sites' mean statistics. `taken`: whose answers are in the model.
    """

    run_id: str
    terms_digest: str
    network: Network
    measure: Measure
    optimizer: Optimizer
    config: AggregationConfig
    weights: Mapping[str, float]
    public: SiteDataset | None
    private: bool
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    heads: KeptHeads | None = None
    clients: ClientReleases | None = None
    sums: tuple[RunSums, ...] = ()
    learner: Learner | None = None
    taken: Callable[[], Mapping[str, int]] = dict

    @property
    def update_size(self) -> int:
        """Values of an update: as many as are sent to be trained, or as a classical learner's statistics have."""
        return self.learner.update_size if self.learner else len(self.optimizer.vector)


@dataclass(frozen=True)
class RoundResult:
    """Who took part, who did not, and whose answer was refused and why; with `client_level` nobody is named."""

    round: int
    sites: tuple[str, ...]
    missing: tuple[str, ...]
    refused: Mapping[str, str]


def instruct(server: Server, round_number: int, task: Task, vector: Vector) -> bytes:
    """The one message that every site gets this round."""
    run, exact, taken = server.run_id, server.learner is not None, server.taken()
    return RoundInstructions(run, round_number, task, server.terms_digest, vector, exact, taken).to_bytes()


def receive(
    server: Server, answers: Mapping[str, bytes | None], round_number: int, kind: str, size: int
) -> tuple[list[NoisedUpdate | OpenUpdate], RoundResult]:
    """Check every answer before use; one that is not what was agreed is left out, and named."""
    return checked(server, NoisedUpdate if server.private else OpenUpdate, answers, round_number, kind, size)


def checked(
    server: Server,
    expected: type[Update],
    answers: Mapping[str, bytes | None],
    round_number: int,
    kind: str,
    size: int,
) -> tuple[list[Update], RoundResult]:
    accepted, refused = list[Update](), dict[str, str]()
    for name, data in sorted(answers.items()):
        if data is None:
            continue
        try:
            update = expected.from_bytes(data, size)
            if (update.site, update.round, update.kind) != (name, round_number, kind):
                raise MessageError(
                    f"the {kind} of {name} for round {round_number}",
                    f"one of {update.site} for round {update.round}",
                    "the answer was discarded",
                )
            if server.heads is not None and isinstance(update, NoisedUpdate):
                server.heads.accept(name, update.releases)
        except MessageError as error:
            refused[name] = str(error)
            continue
        accepted.append(update)
    names = tuple(update.site for update in accepted)
    missing = tuple(sorted(set(answers) - set(names)))
    return accepted, RoundResult(round_number, names, missing, refused)


def train_round(server: Server, round_number: int, names: tuple[str, ...], exchange: Exchange) -> RoundResult:
    """One round of training: send, receive, take the mean, step. With secure sums the coordinator receives the sum.

    Raises:
        TooFewAnswers: fewer than `min_sites` usable. VoidSumError: too few for a secure sum.
    """
    if server.sums:
        return _train_round_summed_securely(server, round_number, names, exchange)
    message = instruct(server, round_number, "train", server.optimizer.vector)
    answers = exchange(dict.fromkeys(names, message))
    size, answered = server.update_size, {name: answers.get(name) for name in names}
    updates, result = receive(server, answered, round_number, "update", size)
    if len(updates) < max(1, server.config.min_sites):
        raise TooFewAnswers(
            f"usable updates from at least {max(1, server.config.min_sites)} sites in round {round_number}",
            f"{len(updates)} of {len(names)}",
            "read the operator's log of each missing site, then resume the run",
        )
    mean = weighted_mean(updates, server.weights, size)
    if server.config.robust != "none":
        rows = np.stack([update.vector for update in sorted(updates, key=lambda update: update.site)])
        mean = replace(mean, vector=robust(rows, server.config.robust, server.config.liars))
    server.optimizer.apply(mean)
    return result


def _train_round_summed_securely(
    server: Server, round_number: int, names: tuple[str, ...], exchange: Exchange
) -> RoundResult:
    opened, result = _opened(server, ("train", round_number), names, exchange, server.optimizer.vector)
    if server.learner is not None:
        (sums, found), *_ = opened
        server.optimizer.apply(AggregatedUpdate(round_number, sums.mean(found), result.sites))
        return result
    terms, params = server.sums[0].terms, torch.from_numpy(server.optimizer.vector)
    norm = terms.privacy.l2_clip_norm
    part = training.part_of_round(server.network, round_number, params, terms.training, norm)
    means = [sums.mean(found, part.where) for sums, found in opened]
    mean = means[0]
    if len(server.sums) > 1:
        mean = robust(within_the_median_norm(np.stack(means)), server.config.robust, server.config.liars)
    if terms.privacy.mode == DISTRIBUTED:  # what was opened is a gradient: take a site's step along it
        step = training.step_along(part.start, mean[part.where], part.config)
        mean = part.among(step, len(mean))
    server.optimizer.apply(AggregatedUpdate(round_number, mean, result.sites))
    return result


def _opened(
    server: Server, which: tuple[Task, int], names: tuple[str, ...], exchange: Exchange, vector: Vector
) -> tuple[list[tuple[RunSums, OpenedSum]], RoundResult]:
    """The sum of each group over whoever survives the five exchanges, and who did not; VoidSumError for too few groups."""
    task, round_number = which
    request = SumRequest(round_number, task, 0, b"", instruct(server, round_number, task, vector))
    accept = server.heads.accept if server.heads is not None else lambda _name, _releases: None
    found, refused, void = list[tuple[RunSums, OpenedSum]](), dict[str, str](), list[VoidSumError]()
    for sums in server.sums:
        own = tuple(name for name in names if name in sums.roster.identities)
        try:
            over = secure_sum(sums.plan(task), request, own, exchange, accept)
        except VoidSumError as empty:
            void.append(empty)
            continue
        found.append((sums, over.opened))
        refused.update(over.refused)
    over_groups = len(server.sums) > 1 and task == "train"
    if len(found) < (least_sites(server.config.robust, server.config.liars) if over_groups else 1):
        raise void[0]
    survivors = tuple(sorted(name for _, opened in found for name in opened.survivors))
    return found, RoundResult(round_number, survivors, tuple(sorted(set(names) - set(survivors))), refused)


def train_round_summed(
    server: Server, round_number: int, names: tuple[str, ...], train: SummedTraining
) -> RoundResult:
    """The same step for virtual clients without privacy whose engine adds their updates itself."""
    if server.private:
        raise FederationError("privacy=none for a fused engine", "a private run", "set engine.fused=false")
    total, weight = train(server.optimizer.vector, names, round_number)
    if not weight > 0:
        raise FederationError("a positive sum of weights", "zero", "declare each site's number of patients")
    server.optimizer.apply(AggregatedUpdate(round_number, total / weight, names))
    return RoundResult(round_number, names, (), {})


def evaluate_public(server: Server, *, bootstrap: int, seed: int) -> EvaluationReport | None:
    """The global model on the server's own held-out public set; None where it has none."""
    if server.public is None or not len(server.public.labels):
        return None
    labels, first = server.public.labels.numpy(), server.public.first_image
    return server.measure.of_outputs(public_outputs(server), labels, first, bootstrap=bootstrap, seed=seed)


def evaluate_at_sites(
    server: Server,
    round_number: int,
    names: tuple[str, ...],
    exchange: Exchange,
    noise_std: float,
) -> SiteScores | None:
    """One declared evaluation release: noised tables (rows, bins) of the measure, summed over sites."""
    shape = server.measure.shape
    if server.sums:
        opened, _ = _opened(server, ("evaluate", round_number), names, exchange, server.optimizer.released)
        total = np.sum([sums.total("evaluate", found) for sums, found in opened], axis=0)
        stds = [sums.histogram_std(noise_std, found) for sums, found in opened]
        return SiteScores(round_number, total.reshape(shape), float(np.linalg.norm(stds)))
    message = instruct(server, round_number, "evaluate", server.optimizer.released)
    answers = exchange(dict.fromkeys(names, message))
    updates, _ = receive(
        server, {name: answers.get(name) for name in names}, round_number, "histogram", shape[0] * shape[1]
    )
    if not updates:
        return None
    by_site = {update.site: update.vector.reshape(shape) for update in updates}
    return SiteScores.added(round_number, by_site, noise_std)


def quick_metrics(server: Server) -> dict[str, float]:
    """The measure's headline and, of classes, the mean cross-entropy on the public set; empty without one."""
    if server.public is None or not len(server.public.labels):
        return {}
    outputs, labels = public_outputs(server), server.public.labels.numpy()
    row: dict[str, float] = {}
    if server.network.task == "classification":
        likelihood = np.clip(outputs[np.arange(len(labels)), labels], 1e-12, None)
        row["loss"] = float(-np.log(likelihood).mean())
    report = server.measure.of_outputs(outputs, labels, server.public.first_image, bootstrap=0, seed=0)
    found = report.metrics.get(server.measure.headline)
    return row | ({} if found is None else {server.measure.headline: found.value})


def public_outputs(server: Server) -> npt.NDArray[np.float64]:
    if server.public is None:
        raise FederationError("a public set", "none", "give the data source one")
    return server.network.outputs(server.optimizer.released, server.public.images, server.device)
