"""What every side of the comparison trains: the same data, cohorts, batches, model and settings.

Needs numpy and torch only, since it runs in the peers' environment too. The controller writes the
arrays once; each side reads them.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Problem:
    """Sizes and settings; `warm_up` rounds are trained but not timed."""

    folder: str
    clients: int = 1000
    images: int = 20
    size: int = 28
    classes: int = 10
    cohort: int = 100
    batch_size: int = 10
    learning_rate: float = 0.1
    warm_up: int = 2
    rounds: int = 4
    seed: int = 0
    workers: int = 0

    def as_mapping(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def total_rounds(self) -> int:
        return self.warm_up + self.rounds

    def cohorts(self) -> list[list[int]]:
        """Which clients train in each round, in order."""
        return [
            np.random.default_rng((self.seed, 1, number))
            .choice(self.clients, self.cohort, replace=False)
            .tolist()
            for number in range(self.total_rounds)
        ]

    def client(self, number: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """One client's images (N, 1, H, W) and labels (N,), generated: each class has its own blob."""
        random = np.random.default_rng((self.seed, 2, number))
        labels = random.integers(0, self.classes, self.images)
        images = random.standard_normal((self.images, 1, self.size, self.size), dtype=np.float32)
        corner = 2 + labels * (self.size - 8) // self.classes
        for image, start in zip(images, corner, strict=True):
            image[0, start : start + 6, start : start + 6] += 2.0
        return images, labels

    def write(self, orders: npt.NDArray[np.int64]) -> None:
        """Data and initial weights for the sides; `orders` (clients, images) is the shuffled order."""
        folder = Path(self.folder)
        images = np.lib.format.open_memmap(
            folder / "images.npy", "w+", np.float32, (self.clients, self.images, 1, self.size, self.size)
        )
        labels = np.zeros((self.clients, self.images), np.int64)
        for number in range(self.clients):
            images[number], labels[number] = self.client(number)
        images.flush()
        np.save(folder / "labels.npy", labels)
        np.save(folder / "orders.npy", orders)
        torch.manual_seed(self.seed)
        np.save(folder / "initial.npy", flat_weights(Cnn(self.classes, self.size)))
        (folder / "problem.json").write_text(json.dumps(self.as_mapping()))

    def shuffled(self) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """All clients' images and labels in the order of their batches, in memory."""
        folder = Path(self.folder)
        orders = np.load(folder / "orders.npy")
        images, labels = np.load(folder / "images.npy"), np.load(folder / "labels.npy")
        rows = np.arange(self.clients)[:, None]
        return images[rows, orders], labels[rows, orders]

    def initial(self) -> FloatArray:
        return np.asarray(np.load(Path(self.folder) / "initial.npy"), dtype=np.float32)


def read_problem(folder: str) -> Problem:
    return Problem(**json.loads((Path(folder) / "problem.json").read_text()))


class Cnn(nn.Module):
    """Two convolutions with pooling and two linear layers: 105,866 parameters at 28² and 10 classes."""

    def __init__(self, classes: int = 10, size: int = 28) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(32 * (size // 4) ** 2, 64)
        self.fc2 = nn.Linear(64, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.pool(torch.relu(self.conv1(images)))
        hidden = self.pool(torch.relu(self.conv2(hidden)))
        hidden = torch.relu(self.fc1(torch.flatten(hidden, 1)))
        return torch.as_tensor(self.fc2(hidden))


def flat_weights(module: nn.Module) -> FloatArray:
    """All parameters in one vector (P,), in the module's order."""
    return nn.utils.parameters_to_vector(module.parameters()).detach().numpy().astype(np.float32)


def load_flat(module: nn.Module, flat: FloatArray) -> nn.Module:
    nn.utils.vector_to_parameters(torch.from_numpy(flat.copy()), module.parameters())
    return module


class RoundClock:
    """Seconds of each round after the warm-up."""

    def __init__(self, problem: Problem) -> None:
        self._warm_up = problem.warm_up
        self._marks = [time.perf_counter()]

    def mark(self) -> None:
        """Call at the end of every round."""
        self._marks.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        return [float(seconds) for seconds in np.diff(self._marks)[self._warm_up :]]


def peak_mb(process: int | str = "self") -> float:
    """The most memory a process has held, in MB (Linux; its shared libraries counted in)."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def finish(problem: Problem, side: str, clock: RoundClock, weights: FloatArray, **more: float) -> None:
    """Write the trained weights and the measurement for the controller."""
    np.save(Path(problem.folder) / f"weights-{side}.npy", weights)
    result: dict[str, Any] = {"seconds": clock.seconds, **more}
    (Path(problem.folder) / f"result-{side}.json").write_text(json.dumps(result))


def main_arguments() -> tuple[Problem, str]:
    """`python side.py FOLDER NAME` → the problem, and the name under which to write the result."""
    return read_problem(sys.argv[1]), sys.argv[2]
