"""fedimg's own side: the pool of workers that fuse virtual clients, as simulation uses it."""

from __future__ import annotations

from functools import cached_property
from multiprocessing import active_children, current_process
from pathlib import Path

import numpy as np
import torch
from benchmark_simulation_peers.problem import (
    Cnn,
    FloatArray,
    Problem,
    RoundClock,
    finish,
    main_arguments,
    peak_mb,
)

from fedimg.fusion import ClientPool
from fedimg.privacy.noise import Entropy, InsecureSeededEntropy
from fedimg.training import LocalTraining
from fedimg.values import SiteDataset


class FlatCnn:
    """The benchmark's module as a function of one flat parameter vector."""

    def __init__(self, problem: Problem) -> None:
        self._module = Cnn(problem.classes, problem.size)
        self._shapes = {name: p.shape for name, p in self._module.named_parameters()}
        self._sizes = [shape.numel() for shape in self._shapes.values()]

    @property
    def number_of_parameters(self) -> int:
        return sum(self._sizes)

    def apply(self, flat: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        parts = zip(self._shapes.items(), flat.split(self._sizes), strict=True)
        named = {name: part.view(shape) for (name, shape), part in parts}
        logits: torch.Tensor = torch.func.functional_call(self._module, named, (images,))
        return logits


class Clients:
    """The virtual clients. Their order of images is the same every round, so that peers can share it."""

    def __init__(self, problem: Problem, *, generated: bool = False, chunk: int = 10) -> None:
        self._problem, self._generated = problem, generated
        self.training = LocalTraining(
            learning_rate=problem.learning_rate, batch_size=problem.batch_size, chunk=chunk
        )

    @cached_property
    def _images(self) -> FloatArray:
        return np.asarray(np.load(Path(self._problem.folder) / "images.npy", mmap_mode="r"))

    @cached_property
    def _labels(self) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        return np.asarray(np.load(Path(self._problem.folder) / "labels.npy"))

    def network(self) -> FlatCnn:
        return FlatCnn(self._problem)

    def dataset(self, client: int) -> SiteDataset:
        if self._generated:
            images, labels = self._problem.client(client)
        else:
            images, labels = self._images[client].copy(), self._labels[client]
        patients = tuple(f"{n:02}" for n in range(len(labels)))
        first = np.arange(len(labels) + 1)
        return SiteDataset(torch.from_numpy(images), torch.from_numpy(labels), patients, first)

    def entropy(self, client: int, _round_number: int) -> Entropy:
        return InsecureSeededEntropy(self._problem.seed, f"client-{client}")

    def weight(self, _client: int) -> float:
        return float(self._problem.images)


def run(problem: Problem, side: str, *, generated: bool = False) -> None:
    """Train all rounds; a round's mean update is added to the global model as it is (FedAvg)."""
    clients = Clients(problem, generated=generated)
    clock, params = RoundClock(problem), problem.initial().astype(np.float64)
    with ClientPool(clients, len(params), problem.workers) as pool:
        for number, cohort in enumerate(problem.cohorts()):
            total, weight = pool.train(params, cohort, number)
            params = params + total / weight
            clock.mark()
        workers = max(peak_mb(worker.pid or "self") for worker in active_children() or [current_process()])
    finish(problem, side, clock, params.astype(np.float32), parent_mb=peak_mb(), worker_mb=workers)


if __name__ == "__main__":
    given, name = main_arguments()
    run(given, name, generated=name.startswith("memory"))
