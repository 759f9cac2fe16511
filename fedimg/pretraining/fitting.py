"""Plain training on images that are nobody's secret: Adam (Kingma and Ba 2015, arXiv 1412.6980), no privacy.

All randomness comes from one seed, so the same images, seed and library versions give the same weights on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from fedimg.errors import ConfigError
from fedimg.models import Network
from fedimg.pretraining.tasks import Task
from fedimg.values import SiteDataset, Vector

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Fitting:
    """How long and how fast; the learning rate is Adam's."""

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not 0 < self.learning_rate < math.inf:
            raise ConfigError(
                "--epochs and --batch-size from 1, --learning-rate above 0", "another number", "correct them"
            )


@dataclass(frozen=True)
class Fitted:
    """(P,) float64 parameters, and the mean loss of images that were held out, before and after."""

    vector: Vector
    before: float
    after: float


def fit(
    network: Network,
    task: Task,
    train: SiteDataset,
    held_out: SiteDataset,
    fitting: Fitting,
    seed: int,
    progress: Progress,
) -> Fitted:
    """Raises ConfigError where the loss stops being a number."""
    generator = torch.Generator().manual_seed(seed)
    flat = torch.from_numpy(network.initial.astype(np.float32)).requires_grad_()
    optimizer = torch.optim.Adam([flat], lr=fitting.learning_rate)
    before = _mean_loss(network, task, flat, held_out, seed)
    for epoch in range(fitting.epochs):
        for batch in torch.randperm(len(train.images), generator=generator).split(fitting.batch_size):
            seen, answers = task.examples(train.images[batch], train.labels[batch], generator)
            loss = task.loss(network.apply(flat, network.features(seen)), answers).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        progress("pre-training", epoch + 1, fitting.epochs)
    after = _mean_loss(network, task, flat, held_out, seed)
    if not (math.isfinite(after) and bool(torch.isfinite(flat).all())):
        raise ConfigError("a loss that stays a number", "one that is none", "lower --learning-rate")
    return Fitted(flat.detach().double().numpy(), before, after)


def _mean_loss(network: Network, task: Task, flat: torch.Tensor, held_out: SiteDataset, seed: int) -> float:
    """The same examples each time it is asked."""
    generator, total = torch.Generator().manual_seed(seed + 1), 0.0
    with torch.no_grad():
        for images, labels in _in_parts(held_out):
            seen, answers = task.examples(images, labels, generator)
            total += float(task.loss(network.apply(flat, network.features(seen)), answers).sum())
    return total / len(held_out.images)


def _in_parts(data: SiteDataset) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return zip(data.images.split(64), data.labels.split(64), strict=True)
