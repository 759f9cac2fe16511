"""One hospital's local training: minibatch SGD as a functional step.

The step is FedAvg's (McMahan et al. 2017, arXiv 1602.05629, algorithm 1, ClientUpdate), with FedProx's proximal term
(Li et al. 2020, arXiv 1812.06127, eq. 2), the momentum of `torch.optim.SGD` and a bound on a minibatch's gradient
(Pascanu et al. 2013, arXiv 1211.5063, algorithm 1). It is a pure function of tensors, so that the same step runs alone,
on an accelerator, and under `vmap` for many virtual clients at once (`fused.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch

from fedimg.errors import ConfigError
from fedimg.models.losses import cross_entropy
from fedimg.training.algorithm import AlgorithmConfig
from fedimg.values import SiteDataset

Indices = npt.NDArray[np.int64]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
WeightedLoss = Callable[[torch.Tensor, torch.Tensor, tuple[float, ...]], torch.Tensor]
"""The same with one public factor a class: built-in losses that can take them."""


class Network(Protocol):
    """What training asks of a model: a pure function of flat parameters (P,)."""

    @property
    def number_of_parameters(self) -> int: ...

    def apply(self, flat: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """(P,) and (B, C, *spatial) float32 → logits (B, classes)."""
        ...


class Entropy(Protocol):
    """Where randomness comes from: the operating system, or a seed in the insecure test mode."""

    def bytes(self, n: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class LocalTraining:
    """How a site trains between receiving the global model and sending its update.

    Attributes:
        optimizer: "sgd" is the only one: an adaptive method would carry state across rounds.
        loss: name of the loss of one example; see `fedimg.models.losses`. "several" with `model.task=several`:
        head_losses, head_weights: then each head's, in the order of `model.heads`, and its public factor; ()
            takes each task's own, and ones.
        learning_rate, momentum: as `torch.optim.SGD`; the velocity starts at zero each round.
        private_learning_rate: of private training, whose steps are clipped; None takes `learning_rate`.
        local_epochs, batch_size: open training (no privacy); batch size in images.
        gradient_norm: open training; a minibatch's longer gradient is shortened to this L2 norm, 0 leaves it. Nothing of
            privacy: it bounds no patient.
        local_steps: private training; noised steps a round.
        proximal_mu: FedProx's μ; 0 is FedAvg.
        class_weights: one public factor a class on the example's loss, on each voxel's, or on each finding's where it
            is there; None weighs all alike. Nothing is divided by the sum of the factors.
        images_per_patient: open training uses at most so many images of a patient an epoch,
            drawn afresh each time; 0 = all.
        chunk: virtual clients trained together under `vmap`; more memory, not another result.
        algorithm: what is done beyond this about sites that differ.
    """

    optimizer: str = "sgd"
    loss: str = "cross_entropy"
    head_losses: tuple[str, ...] = ()
    head_weights: tuple[float, ...] = ()
    learning_rate: float = 0.1
    private_learning_rate: float | None = None
    momentum: float = 0.0
    local_epochs: int = 1
    batch_size: int = 32
    gradient_norm: float = 0.0
    local_steps: int = 1
    proximal_mu: float = 0.0
    class_weights: tuple[float, ...] | None = None
    images_per_patient: int = 0
    chunk: int = 8
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig)

    def __post_init__(self) -> None:
        _require(self.optimizer == "sgd", "optimizer", "sgd", self.optimizer)
        for name in ("learning_rate", "private_learning_rate"):
            rate = getattr(self, name)
            if rate is not None or name == "learning_rate":
                _require(0 < rate < float("inf"), name, "a positive number", rate)
        _require(0 <= self.momentum < 1, "momentum", "a number in [0, 1)", self.momentum)
        for name in ("proximal_mu", "gradient_norm"):
            _require(0 <= getattr(self, name) < float("inf"), name, "a number ≥ 0", getattr(self, name))
        _require(
            self.images_per_patient >= 0, "images_per_patient", "an integer ≥ 0", self.images_per_patient
        )
        for name in ("local_epochs", "batch_size", "local_steps", "chunk"):
            _require(getattr(self, name) >= 1, name, "an integer ≥ 1", getattr(self, name))
        positive = all(0 < weight < float("inf") for weight in self.head_weights)
        _require(positive, "head_weights", "a positive number for each head", self.head_weights)
        if self.class_weights is not None:
            positive = len(self.class_weights) > 0 and all(0 < w < float("inf") for w in self.class_weights)
            _require(positive, "class_weights", "a positive number for each class", self.class_weights)


def _require(holds: bool, key: str, expected: str, found: object) -> None:
    if not holds:
        raise ConfigError(f"training.{key} to be {expected}", str(found), f"correct training.{key}")


class State(NamedTuple):
    """A client's parameters and momentum buffer, (P,) float32 each."""

    params: torch.Tensor
    velocity: torch.Tensor


class Batch(NamedTuple):
    """One minibatch: images (B, C, *spatial) float32, labels (B,) int64, weights (B,) float32.

    A weight of 0 marks padding: the row has no influence, and a batch of nothing but padding
    leaves the state as it is.
    """

    images: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor


def class_weighted(loss: Loss, config: LocalTraining) -> Loss:
    """`loss` with public factors: on an example's value its class's, or inside the loss where an image has several."""
    weights = config.class_weights
    if weights is None:
        return loss

    def weighted(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if labels.dim() > 1:
            return cast("WeightedLoss", loss)(logits, labels, weights)
        if labels.is_floating_point():
            raise ConfigError("no class weights with labels that are numbers", "some", "leave them unset")
        losses = loss(logits, labels)
        return losses * torch.tensor(weights, dtype=losses.dtype, device=losses.device)[labels]

    return weighted


def descend(
    state: State,
    gradient: torch.Tensor,
    anchor: torch.Tensor,
    active: torch.Tensor,
    config: LocalTraining,
    correction: torch.Tensor | None = None,
) -> State:
    """SGD along a gradient (P,) of the loss: correction, proximal term, momentum, step.

    `anchor` (P,) is the global model that the round began with; `active` () is 1, or 0 for a step
    that must change nothing; `correction` (P,) is added to the gradient. Shared by open and private training.
    """
    params, velocity = state
    if correction is not None:
        gradient = gradient + correction
    if config.proximal_mu > 0:
        gradient = torch.add(gradient, params - anchor, alpha=config.proximal_mu)
    if config.momentum > 0:
        velocity = torch.where(active > 0, torch.add(gradient, velocity, alpha=config.momentum), velocity)
        gradient = velocity
    return State(torch.addcmul(params, gradient, active * -config.learning_rate), velocity)


def local_step(
    network: Network,
    state: State,
    batch: Batch,
    anchor: torch.Tensor,
    config: LocalTraining,
    loss: Loss = cross_entropy,
) -> State:
    """One SGD step on the mean of a minibatch's (class-weighted) losses.

    Pure, float32, without data-dependent control flow: it runs under `torch.func.vmap`.
    """
    gradient, active = _gradient(network, state.params, batch, config, loss)
    return descend(state, gradient, anchor, active, config)


def _gradient(
    network: Network, params: torch.Tensor, batch: Batch, config: LocalTraining, loss: Loss
) -> tuple[torch.Tensor, torch.Tensor]:
    """(P,) of a minibatch's mean loss, and whether it has an image: () 1 or 0."""
    per_example = class_weighted(loss, config)
    total = batch.weights.sum()
    active = (total > 0).to(torch.float32)

    def objective(flat: torch.Tensor) -> torch.Tensor:
        losses = per_example(network.apply(flat, batch.images), batch.labels)
        return (losses * batch.weights).sum() / torch.clamp(total, min=1.0)

    gradient = torch.func.grad(objective)(params)
    if config.gradient_norm > 0:
        gradient = gradient * torch.clamp(config.gradient_norm / (gradient.norm() + 1e-6), max=1.0)
    return gradient, active


def permutation(n: int, entropy: Entropy) -> Indices:
    """A uniformly random order of range(n): the ranks of n 64-bit keys (ties: n² / 2⁶⁵)."""
    keys = np.frombuffer(entropy.bytes(8 * n), dtype="<u8")
    return np.argsort(keys, kind="stable").astype(np.int64)


def minibatches(dataset: SiteDataset, config: LocalTraining, entropy: Entropy) -> Iterator[Indices]:
    """Image indices of every local step of a round, shuffled afresh each epoch."""
    for _ in range(config.local_epochs):
        order = permutation(int(dataset.first_image[-1]), entropy)
        if config.images_per_patient:
            order = order[_among_the_first(dataset, order, config.images_per_patient)]
        for start in range(0, len(order), config.batch_size):
            yield order[start : start + config.batch_size]


def number_of_steps(dataset: SiteDataset, config: LocalTraining) -> int:
    """How many `minibatches` gives in a round."""
    images = np.diff(dataset.first_image)
    if config.images_per_patient:
        images = np.minimum(images, config.images_per_patient)
    return config.local_epochs * -(-int(images.sum()) // config.batch_size)


def _among_the_first(dataset: SiteDataset, order: Indices, limit: int) -> npt.NDArray[np.bool_]:
    """Which entries of `order` are among the first `limit` images of their patient there."""
    patient = np.searchsorted(dataset.first_image, order, side="right") - 1
    grouped = np.argsort(patient, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    starts = np.searchsorted(patient[grouped], patient[grouped], side="left")
    rank[grouped] = np.arange(len(order)) - starts
    return rank < limit


class Course(NamedTuple):
    """Where a round's training begins, what draws it, and what is added to every gradient; (P,) float32 each.

    FedAvg and FedProx begin at the global model that draws them, and add nothing.
    """

    start: torch.Tensor
    anchor: torch.Tensor
    correction: torch.Tensor | None = None

    @classmethod
    def at(cls, params: torch.Tensor, correction: torch.Tensor | None = None) -> Course:
        """From the global model (P,), which is not changed."""
        anchor = params.detach().to(torch.float32)
        return cls(anchor, anchor, correction)


def train_open(
    network: Network,
    params: torch.Tensor,
    dataset: SiteDataset,
    config: LocalTraining,
    entropy: Entropy,
    loss: Loss = cross_entropy,
) -> torch.Tensor:
    """A round of local training without any privacy.

    Args:
        params: (P,) float32, the global model; not changed. Its device is where training runs.
        entropy: shuffles the images.

    Returns:
        (P,) float32 local parameters; the global ones for a site without images.
    """
    return train_along(network, Course.at(params), dataset, config, entropy, loss)


def train_along(
    network: Network,
    course: Course,
    dataset: SiteDataset,
    config: LocalTraining,
    entropy: Entropy,
    loss: Loss = cross_entropy,
) -> torch.Tensor:
    """The same on another course than FedAvg's."""
    start, anchor, correction = course
    state = State(start, torch.zeros_like(start))
    images, labels = dataset.images.to(anchor.device), dataset.labels.to(anchor.device)
    for indices in minibatches(dataset, config, entropy):
        index = torch.from_numpy(indices).to(anchor.device)
        weights = torch.ones(len(indices), dtype=torch.float32, device=anchor.device)
        batch = Batch(images[index], labels[index], weights)
        gradient, active = _gradient(network, state.params, batch, config, loss)
        state = descend(state, gradient, anchor, active, config, correction)
    return state.params
