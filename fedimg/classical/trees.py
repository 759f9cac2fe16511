"""Decision trees: one grown level by level from histograms, boosted ones, and many with splits drawn ahead of all data.

A round releases the histogram of one level of one tree: of every node, feature and bin the classes' counts, or the sums
of gradient and curvature. A row touches one cell of every feature, so it is divided by √d and more, to be at most 1 long.
Histograms in place of data: K. Cheng et al., "SecureBoost", arXiv 1901.08755, and T. Chen and C. Guestrin, "XGBoost",
KDD 2016, section 3.3; trees from noised counts: S. Fletcher and M. Islam, ACM Computing Surveys 52, 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import softmax

from fedimg.classical.histograms import Bins, best_split, features_of_trees, filled, nodes_at
from fedimg.classical.learner import Labels, Parameters, one_hot, smoothed, widened
from fedimg.models import ModelConfig, Network
from fedimg.models.classical_config import ClassicalConfig, problems_of
from fedimg.values import Integers, Vector

_LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class _Grown:
    """What trees that are grown level by level have in common."""

    network: Network
    config: ModelConfig

    @property
    def _own(self) -> ClassicalConfig:
        return self.config.classical

    @cached_property
    def _bins(self) -> Bins:
        return Bins.of(self._own)

    @cached_property
    def _features(self) -> Integers:
        return features_of_trees(self._own, self.network.feature_shape[0], self._trees)

    @property
    def _trees(self) -> int:
        return 1

    def _shape(self, level: int) -> tuple[int, int, int]:
        return 2**level, self._features.shape[1], self._bins.count

    def _histogram(self, found: Parameters, tree: int, level: int, cells: Integers, values: Vector) -> Vector:
        """(n, c) values into the cells of a tree's level, (n, cells · c)."""
        nodes = nodes_at(level, cells, *self._splits(found, tree))
        return filled(nodes, cells[:, self._features[tree]], values, self._shape(level))

    def _splits(self, found: Parameters, tree: int) -> tuple[Integers, Integers]:
        """Features and bins of a tree's nodes; a value is an edge."""
        feature = _features_in(found, tree, self.network)
        return feature, np.searchsorted(self._bins.edges, found["split_value"][tree]).astype(np.int64)

    def _note(self, found: Parameters, tree: int, node: int, feature: int, cell: int) -> None:
        found["split_feature"][tree, node] = self._features[tree, feature] if feature >= 0 else -1
        found["split_value"][tree, node] = self._bins.edges[cell] if feature >= 0 else 0.0

    def _leaves_below(self, level: int, node: int) -> slice:
        """Leaves under a node (from 0) of a level."""
        each = 2 ** (self._own.depth - level)
        return slice(node * each, (node + 1) * each)


class DecisionTree(_Grown):
    """By Gini impurity; a leaf says its patients' shares of the classes."""

    @property
    def update_size(self) -> int:
        nodes, size, bins = self._shape(self._own.depth - 1)
        return nodes * size * bins * self.config.classes

    def rows(self, vector: Vector, number: int, features: Vector, labels: Labels) -> Vector:
        found, cells = Parameters(self.network, vector), self._bins.cells(features)
        rows = self._histogram(found, 0, number - 1, cells, one_hot(labels, self.config.classes))
        return np.asarray(widened(rows, self.update_size) / np.sqrt(self._features.shape[1]))

    def updated(self, vector: Vector, number: int, mean: Vector) -> Vector:
        found, level = Parameters(self.network, vector), number - 1
        counts = _narrow(mean, (*self._shape(level), self.config.classes)) * np.sqrt(self._features.shape[1])
        for node, histogram in enumerate(counts):
            split = best_split(histogram, _purity, _sum, self._own.least_weight)
            self._note(found, 0, 2**level - 1 + node, split.feature, split.bin)
            for side, own in enumerate((split.left, split.right)):
                below = self._leaves_below(level + 1, 2 * node + side)
                found["leaf"][0, below] = smoothed(own, self._own.regularisation)
        return found.vector


class GradientBoosting(_Grown):
    """Each tree is fitted to the gradients of the log loss at what the trees before it say.

    Round 1 counts classes, whose log odds are the base; then every tree takes `depth` rounds. Of more than two classes
    every step grows a tree a class.
    """

    @property
    def _problems(self) -> int:
        return problems_of(self.config.classes)

    @property
    def _trees(self) -> int:
        return self._own.trees * self._problems

    @property
    def _length(self) -> float:
        """The most that a row's gradients and curvatures are long: |g|² ≤ 1 of two classes, ≤ 2 of more; h ≤ ¼."""
        gradients = 1.0 if self._problems == 1 else 2.0
        return float(np.sqrt(self._features.shape[1] * (gradients + self._problems / 16)))

    @property
    def update_size(self) -> int:
        nodes, size, bins = self._shape(self._own.depth - 1)
        return max(self._problems * nodes * size * bins * 2, self.config.classes)

    def rows(self, vector: Vector, number: int, features: Vector, labels: Labels) -> Vector:
        classes = one_hot(labels, self.config.classes)
        if number == 1:
            return widened(classes, self.update_size)
        step, level = divmod(number - 2, self._own.depth)
        found, cells = Parameters(self.network, vector), self._bins.cells(features)
        probability = softmax(self._scores(found, cells, step * self._problems), axis=1)
        parts = []
        for problem in range(self._problems):
            positive = 1 if self._problems == 1 else problem
            p = probability[:, positive]
            values = np.stack([p - classes[:, positive], p * (1 - p)], axis=1)
            parts.append(self._histogram(found, step * self._problems + problem, level, cells, values))
        return np.asarray(widened(np.concatenate(parts, axis=1), self.update_size) / self._length)

    def updated(self, vector: Vector, number: int, mean: Vector) -> Vector:
        found = Parameters(self.network, vector)
        if number == 1:
            share = np.maximum(smoothed(mean[: self.config.classes], 0.0), _LEAST_SHARE)
            base = np.log(share)
            found["base"] = base - base[0] if self._problems == 1 else base
            return found.vector
        step, level = divmod(number - 2, self._own.depth)
        sums = _narrow(mean, (self._problems, *self._shape(level), 2)) * self._length
        for problem, nodes in enumerate(sums):
            tree = step * self._problems + problem
            for node, histogram in enumerate(nodes):
                split = best_split(histogram, self._score, _curvature, self._own.least_weight)
                self._note(found, tree, 2**level - 1 + node, split.feature, split.bin)
                for side, own in enumerate((split.left, split.right)):
                    below = self._leaves_below(level + 1, 2 * node + side)
                    positive = 1 if self._problems == 1 else problem
                    found["leaf"][tree, below, positive] = self._leaf(own)
        return found.vector

    def _scores(self, found: Parameters, cells: Integers, trees: int) -> Vector:
        """(n, classes) logits of the base and the first trees."""
        scores = np.tile(found["base"], (len(cells), 1))
        for tree in range(trees):
            leaf = nodes_at(self._own.depth, cells, *self._splits(found, tree))
            scores += found["leaf"][tree][leaf]
        return scores

    def _score(self, sums: Vector) -> Vector:
        """G²/(H + λ); noised curvature is no less than none."""
        curvature = np.maximum(sums[..., 1], 0.0) + self._own.regularisation
        return np.asarray(sums[..., 0] ** 2 / curvature)

    def _leaf(self, sums: Vector) -> float:
        curvature = max(float(sums[1]), 0.0) + self._own.regularisation
        return float(-self._own.learning_rate * sums[0] / curvature)


@dataclass(frozen=True)
class ExtraTrees:
    """Splits stand before any data; one round counts the classes in every leaf of all trees.

    A patient is in one leaf a tree: what trees cost in privacy is √trees, whatever their depth.
    """

    network: Network
    config: ModelConfig

    @property
    def update_size(self) -> int:
        own = self.config.classical
        return int(own.trees * 2**own.depth * self.config.classes)

    def rows(self, vector: Vector, number: int, features: Vector, labels: Labels) -> Vector:  # noqa: ARG002
        found, own = Parameters(self.network, vector), self.config.classical
        n = len(features)
        rows = np.zeros((n, own.trees, 2**own.depth, self.config.classes))
        for tree in range(own.trees):
            feature = _features_in(found, tree, self.network)
            leaf = nodes_at(own.depth, features, feature, found["split_value"][tree])
            rows[np.arange(n), tree, leaf, labels] = 1.0
        return np.asarray(rows.reshape(n, -1) / np.sqrt(own.trees))

    def updated(self, vector: Vector, number: int, mean: Vector) -> Vector:  # noqa: ARG002
        found, own = Parameters(self.network, vector), self.config.classical
        counts = mean.reshape(own.trees, 2**own.depth, -1) * np.sqrt(own.trees)
        found["leaf"] = smoothed(counts, own.regularisation)
        return found.vector


def _features_in(found: Parameters, tree: int, network: Network) -> Integers:
    """Of a tree's nodes. A coordinator may send what it likes; nobody's images may decide whether that fails."""
    last = network.feature_shape[0] - 1
    return np.asarray(np.clip(found["split_feature"][tree], -1, last).astype(np.int64))


def _purity(counts: Vector) -> Vector:
    """Σ n_k²/n: less Gini impurity, times the weight, is more of this. Noised counts are no less than none."""
    least = np.maximum(counts, 0.0)
    return np.asarray((least**2).sum(axis=-1) / np.maximum(least.sum(axis=-1), np.finfo(float).tiny))


def _sum(counts: Vector) -> Vector:
    return np.asarray(counts.sum(axis=-1))


def _curvature(sums: Vector) -> Vector:
    return np.asarray(sums[..., 1])


def _narrow(mean: Vector, shape: tuple[int, ...]) -> Vector:
    """The first values of a sum, in that shape."""
    return mean[: int(np.prod(shape))].reshape(shape)
