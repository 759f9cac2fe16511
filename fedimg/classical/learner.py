"""One protocol for classical learning: sites sum statistics over patients, the coordinator makes a model of the sum.

    rows      parameters, features, labels → (n, k), one row an image     at a site
    updated   parameters, the mean row     → the next parameters          at the coordinator

A sum over sites is the sum over all their patients: without noise a federation learns what one hospital with all the
data would, in the same rounds. With privacy the rows go where gradients go, clipped, summed, noised and charged
(`fedimg.privacy.plan`); by construction they are at most 1 long, so that clipping at 1 changes nothing, but for the
`svm`, whose loss has no bound. What `updated` does is post-processing.

Trees, k-means and regression from such sums: C. Chu et al., "Map-Reduce for Machine Learning on Multicore", NeurIPS
2006; with noise: A. Blum et al., "Practical Privacy: The SuLQ Framework", PODS 2005.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from fedimg.models import ModelConfig, Network
from fedimg.values import Integers, SiteDataset, Vector

Labels = npt.NDArray[np.int64]
# Values of rows that are held at once: 64 MiB.
_BLOCK = 1 << 23


class Learner(Protocol):
    """How one kind of network is learnt. Parameters are flat (P,) float64 vectors of that network.

    Attributes:
        update_size: k, of a row and of every round's sum.
    """

    @property
    def update_size(self) -> int: ...

    def rows(self, vector: Vector, number: int, features: Vector, labels: Labels) -> Vector:
        """(P,), the round from 1, (n, d) finite and (n,) → (n, k): what each image adds to the sum."""
        ...

    def updated(self, vector: Vector, number: int, mean: Vector) -> Vector:
        """(P,), the round and the sum over patients ÷ the declared number of them, (k,) → (P,)."""
        ...


class Parameters:
    """A flat vector's parameters by name, as float64 arrays that write through to it."""

    def __init__(self, network: Network, vector: Vector) -> None:
        self.vector = np.array(vector, dtype=np.float64)
        parts = network.layout.unflatten(torch.from_numpy(self.vector))
        self._parts = {name: part.numpy() for name, part in parts.items()}

    def __getitem__(self, name: str) -> Vector:
        return self._parts[name]

    def __setitem__(self, name: str, value: Vector) -> None:
        self._parts[name][...] = value


def patient_rows(
    learner: Learner,
    vector: Vector,
    number: int,
    data: SiteDataset,
    patients: Integers | None = None,
    *,
    failed: Callable[[Exception], None] = lambda _fault: None,
) -> Iterator[Vector]:
    """Blocks of (patients, k): of each patient the mean of his images' rows.

    A patient counts once, however many images he has. NaN, and so nothing in any sum, is the row of one with a feature
    that is not finite, or whose images make the learner fail: an error would be an answer about that patient.

    Args:
        patients: which of them, ascending; None: all. failed: is told of such failures, for the site's own operator.
    """
    chosen = np.arange(data.number_of_patients) if patients is None else np.asarray(patients)
    most = max(1, _BLOCK // learner.update_size)
    for block in _blocks(chosen, data.first_image, most):
        counts = np.diff(data.first_image)[block]
        images = np.concatenate([data.images_of(int(u)) for u in block])
        try:
            total = _sums(learner, vector, number, data, images, counts, most)
        except Exception as fault:  # noqa: BLE001 - some patient's images: found out one by one
            failed(fault)
            total = np.full((len(block), learner.update_size), np.nan)
            for place, patient in enumerate(block if len(block) > 1 else ()):
                alone = patient_rows(learner, vector, number, data, np.array([patient]), failed=failed)
                total[place] = next(alone)[0] * counts[place]
        yield total / counts[:, None]


def _sums(
    learner: Learner,
    vector: Vector,
    number: int,
    data: SiteDataset,
    images: Integers,
    counts: Integers,
    most: int,
) -> Vector:
    """(U, k): of patients with so many images each the sum of their rows, `most` images at a time."""
    total = np.zeros((len(counts), learner.update_size))
    patient = np.repeat(np.arange(len(counts)), counts)
    for start in range(0, len(images), most):
        now = slice(start, start + most)
        index = torch.from_numpy(images[now])
        features, labels = data.images[index].double().numpy(), data.labels[index].numpy()
        known = np.isfinite(features).all(axis=1)
        rows = learner.rows(vector, number, np.where(known[:, None], features, 0.0), labels)
        rows[~known] = np.nan
        there, firsts = np.unique(patient[now], return_index=True)
        total[there] += np.add.reduceat(rows, firsts, axis=0)
    return total


def _blocks(patients: Integers, first_image: Integers, most: int) -> Iterator[Integers]:
    """Patients with images, in order, so many at once that their images are at most `most`, or one alone."""
    counts = np.diff(first_image)
    block: list[int] = []
    images = 0
    for patient in (int(u) for u in patients if counts[u]):
        if block and images + counts[patient] > most:
            yield np.array(block)
            block, images = [], 0
        block.append(patient)
        images += int(counts[patient])
    if block:
        yield np.array(block)


def open_mean(
    learner: Learner,
    vector: Vector,
    number: int,
    data: SiteDataset,
    declared_patients: int,
    failed: Callable[[Exception], None] = lambda _fault: None,
) -> Vector:
    """Without privacy: the sum of a site's rows ÷ its declared size, (k,). A row that is not finite is left out."""
    total = np.zeros(learner.update_size)
    for rows in patient_rows(learner, vector, number, data, failed=failed):
        total += rows[np.isfinite(rows).all(axis=1)].sum(axis=0)
    return total / declared_patients


def rounds_of(config: ModelConfig) -> tuple[int, int | None]:
    """The least and the most rounds that a classical network is learnt in; None: as many as there are."""
    own = config.classical
    exactly = {
        "ridge": 1,
        "pca": 1,
        "extra_trees": 1,
        "decision_tree": own.depth,
        "gradient_boosting": 1 + own.trees * own.depth,
    }
    if config.name in exactly:
        return exactly[config.name], exactly[config.name]
    return (2 if config.name == "kmeans" else 1), None


def one_hot(labels: Labels, classes: int) -> Vector:
    """(n,) → (n, classes)."""
    return np.eye(classes)[labels]


def smoothed(counts: Vector, pseudo: float) -> Vector:
    """(…, classes) counts, noised or not → shares that add up to 1; `pseudo` of them are spread evenly."""
    filled = np.maximum(counts, 0.0) + pseudo / counts.shape[-1]
    return np.asarray(filled / filled.sum(axis=-1, keepdims=True))


def widened(rows: Vector, size: int) -> Vector:
    """(n, m) → (n, size), zeros behind: a round's row may be shorter than the longest one."""
    return np.pad(rows, ((0, 0), (0, size - rows.shape[1])))


def concatenated(parts: Sequence[Vector], n: int) -> Vector:
    """(n, …) arrays → (n, Σ)."""
    return np.concatenate([part.reshape(n, -1) for part in parts], axis=1)
