"""Features in bins, and the best split of a node from a histogram: what all trees share.

Bins are equal parts of a public range: quantiles would be numbers of patients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from fedimg.models.classical_config import ClassicalConfig
from fedimg.values import Integers, Vector

_TIE, _LEAST_GAIN = 1e-9, 1e-12


@dataclass(frozen=True)
class Bins:
    """Cell b of a feature holds edge b − 1 < x ≤ edge b; float32 numbers, as the network compares them."""

    edges: Vector

    @classmethod
    def of(cls, config: ClassicalConfig) -> Bins:
        inner = np.linspace(-config.limit, config.limit, config.bins + 1)[1:-1]
        return cls(inner.astype(np.float32).astype(np.float64))

    @property
    def count(self) -> int:
        return len(self.edges) + 1

    def cells(self, features: Vector) -> Integers:
        """(n, d) → (n, d)."""
        return np.searchsorted(self.edges, features, side="left").astype(np.int64)


def features_of_trees(config: ClassicalConfig, size: int, trees: int) -> Integers:
    """(trees, kept): which features each tree may look at, ascending. A public draw."""
    kept = config.features_per_tree or size
    if kept >= size:
        return np.tile(np.arange(size), (trees, 1))
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randperm(size, generator=generator)[:kept].sort().values for _ in range(trees)]
    return np.stack([one.numpy() for one in drawn]).astype(np.int64)


def nodes_at(level: int, cells: Integers | Vector, feature: Integers, cell: Integers | Vector) -> Integers:
    """(n,) numbers from 0 of the nodes at `level` in which rows of `cells` (n, d), or of features themselves, lie.

    Args:
        feature, cell: of every node of the tree in breadth-first order; a row goes right where its cell of the
            node's feature is larger than the node's (or its feature than an edge), and left where the feature is −1.
    """
    node = np.zeros(len(cells), dtype=np.int64)
    rows = np.arange(len(cells))
    for _ in range(level):
        split = feature[node]
        right = (cells[rows, np.maximum(split, 0)] > cell[node]) & (split >= 0)
        node = 2 * node + 1 + right
    return np.asarray(node - (2**level - 1))


def filled(nodes: Integers, cells: Integers, values: Vector, shape: tuple[int, int, int]) -> Vector:
    """(n, nodes · d · bins · c): a row holds its values (n, c) in the cell of every feature, at its node.

    Args:
        shape: (nodes, d, bins).
    """
    n, (count, size, bins) = len(cells), shape
    rows = np.zeros((n, count, size, bins, values.shape[1]))
    rows[np.arange(n)[:, None], nodes[:, None], np.arange(size)[None, :], cells] = values[:, None, :]
    return rows.reshape(n, -1)


@dataclass(frozen=True)
class Split:
    """Of one node; `feature` −1: none is worth it, and everything goes left. left, right: (c,) sums."""

    feature: int
    bin: int
    left: Vector
    right: Vector


def best_split(
    histogram: Vector,
    score: Callable[[Vector], Vector],
    weight: Callable[[Vector], Vector],
    least_weight: float,
) -> Split:
    """The split of a histogram (d, bins, c) whose two sides score most together; the first one among equals.

    Args:
        score, weight: (…, c) sums → (…), of one side. least_weight: of each side.
    """
    left = histogram.cumsum(axis=1)[:, :-1]
    # every feature's cells add up to the same but for noise, of which the mean has least
    total = histogram.sum(axis=1).mean(axis=0)
    right = histogram.sum(axis=1, keepdims=True) - left
    gain = score(left) + score(right) - score(total)
    gain = np.where((weight(left) >= least_weight) & (weight(right) >= least_weight), gain, -np.inf)
    most = gain.max(initial=-np.inf)
    if most <= _LEAST_GAIN:
        return Split(-1, 0, total, total)
    # sums over other sites in another order differ in their last digits, and must not settle a tie
    place = int((gain >= most - _TIE * abs(most)).argmax())
    feature, cell = divmod(place, gain.shape[1])
    return Split(feature, cell, left[feature, cell], right[feature, cell])
