"""A site-inference probe: does the released model's answer about a case tell which hospital it came from?

A linear probe is trained by cross-validation on what the model says (its logits, their squares and products with
the label) and asked for the site. Under the null hypothesis the answers of cases with equal labels are exchangeable
between sites, so sites are permuted within labels: what a site's share of diseased patients tells is not counted.
A probe that succeeds may see nothing but the hospitals' different machines; one that fails shows that this probe
failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedimg.audit.bounds import clopper_pearson
from fedimg.errors import DataError
from fedimg.values import Interval, Vector

Matrix = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
LEVEL = 0.01
_RIDGE = 1e-2
_MOST_FOLDS = 5


@dataclass(frozen=True)
class SiteProbe:
    """How often the probe names the right site.

    Attributes:
        accuracy: with a 95 % Clopper–Pearson interval. chance: its mean over permutations within labels.
        p_value: of the permutation test, (1 + as good ones) ÷ (1 + permutations).
    """

    accuracy: Interval
    chance: float
    p_value: float
    patients: int
    sites: int
    permutations: int

    @property
    def tells(self) -> bool:
        return self.p_value < LEVEL and self.accuracy.value > self.chance

    def as_dict(self) -> dict[str, Any]:
        return {
            "accuracy": [self.accuracy.value, self.accuracy.low, self.accuracy.high],
            "chance": self.chance,
            "p_value": self.p_value,
            "patients": self.patients,
            "sites": self.sites,
            "permutations": self.permutations,
            "tells_sites": self.tells,
        }


def probe(
    answers: Matrix,
    labels: Indices,
    sites: Indices,
    generator: np.random.Generator,
    permutations: int = 499,
) -> SiteProbe:
    """Probe (N, k) answers about N patients, with labels and sites (N,) by number. A second of one core.

    Raises:
        DataError: fewer than two sites, or fewer than ten patients at one.
    """
    names, sites = np.unique(sites, return_inverse=True)
    counts = np.bincount(sites)
    if len(names) < 2 or counts.min() < 10:
        raise DataError(
            "at least two sites with ten patients each",
            f"{len(names)} sites, the smallest with {counts.min()}",
            "probe with more patients",
        )
    seen = _seen(answers, labels)
    fold = generator.permutation(len(sites)) % _MOST_FOLDS
    maps = [_map(seen, fold == k) for k in range(_MOST_FOLDS)]

    def right(of: Indices) -> int:
        truth = np.eye(len(names))[of]
        hits = 0
        for k, hat in enumerate(maps):
            # a site's own mean is taken off, so that no site is named for its size
            kept = truth[fold != k] - truth[fold != k].mean(axis=0)
            spread = np.sqrt(truth[fold != k].mean(axis=0)) + 1e-12
            hits += int((np.argmax(hat @ kept / spread, axis=1) == of[fold == k]).sum())
        return hits

    found = right(sites)
    by_chance = np.array([right(_permuted(sites, labels, generator)) for _ in range(permutations)])
    return SiteProbe(
        clopper_pearson(found, len(sites)),
        float(by_chance.mean() / len(sites)),
        float((1 + (by_chance >= found).sum()) / (1 + permutations)),
        len(sites),
        len(names),
        permutations,
    )


def _seen(answers: Matrix, labels: Indices) -> Matrix:
    """(N, F): what the probe is told, standardised."""
    centred = answers - answers.mean(axis=1, keepdims=True)
    one_hot = np.eye(int(labels.max()) + 1)[labels]
    products = (one_hot[:, :, None] * centred[:, None, :]).reshape(len(labels), -1)
    seen = np.concatenate([centred, centred**2, products, one_hot], axis=1)
    return np.asarray((seen - seen.mean(axis=0)) / (seen.std(axis=0) + 1e-12), dtype=np.float64)


def _map(seen: Matrix, held_out: npt.NDArray[np.bool_]) -> Matrix:
    """Ridge regression as a linear map from the kept patients' targets to the held-out ones' predictions."""
    kept, asked = seen[~held_out], seen[held_out]
    gram = kept.T @ kept + _RIDGE * len(kept) * np.eye(kept.shape[1])
    return np.asarray(asked @ np.linalg.solve(gram, kept.T), dtype=np.float64)


def _permuted(sites: Indices, labels: Indices, generator: np.random.Generator) -> Indices:
    shuffled = sites.copy()
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        shuffled[places] = sites[generator.permutation(places)]
    return shuffled


def by_patient(values: Vector, first_image: Indices) -> Matrix:
    """(N, k) of images → (U, k): each patient's mean."""
    lengths = np.diff(first_image)[:, None]
    return np.asarray(np.add.reduceat(values, first_image[:-1], axis=0) / lengths, dtype=np.float64)
