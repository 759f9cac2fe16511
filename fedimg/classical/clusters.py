"""k-means by Lloyd's algorithm. Round 1 learns where the data lie, every other one moves the centres.

A row is (1 at the cluster, x/R at the cluster, its class at the cluster)/√3; in round 1 (1, x/R, (x/R)²)/√3. Centres begin
at the features' mean plus their deviations times public normal draws: far from all data most would stay empty. With
noise: D. Su et al., "Differentially Private k-Means Clustering", CODASPY 2016, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedimg.classical.learner import Labels, Parameters, concatenated, one_hot, smoothed, widened
from fedimg.classical.moments import ball, radius_of
from fedimg.models import ModelConfig, Network
from fedimg.values import Vector


@dataclass(frozen=True)
class KMeans:
    network: Network
    config: ModelConfig

    @property
    def _d(self) -> int:
        return self.network.feature_shape[0]

    @property
    def _r(self) -> float:
        return radius_of(self.config, self._d)

    @property
    def update_size(self) -> int:
        return max(self.config.classical.clusters * (1 + self._d + self.config.classes), 1 + 2 * self._d)

    def rows(self, vector: Vector, number: int, features: Vector, labels: Labels) -> Vector:
        n, clusters = len(features), self.config.classical.clusters
        inside = ball(features, self._r) / self._r
        if number == 1:
            rows = np.concatenate([np.ones((n, 1)), inside, inside**2], axis=1) / np.sqrt(3)
        else:
            own = one_hot(self._nearest(vector, inside * self._r), clusters)
            classes = one_hot(labels, self.config.classes)
            parts = [own, own[:, :, None] * inside[:, None, :], own[:, :, None] * classes[:, None, :]]
            rows = concatenated(parts, n) / np.sqrt(3)
        return widened(rows, self.update_size)

    def updated(self, vector: Vector, number: int, mean: Vector) -> Vector:
        found, r, d = Parameters(self.network, vector), self._r, self._d
        if number == 1:
            count = max(mean[0], np.finfo(float).eps)
            first, second = mean[1 : 1 + d] / count * r, mean[1 + d : 1 + 2 * d] / count * r**2
            deviation = np.sqrt(np.maximum(second - first**2, 0.0))
            found["centre"] = ball(first + deviation * found["centre"], r)
            return found.vector
        k, sums = self.config.classical.clusters, mean * np.sqrt(3)
        counts = sums[:k]
        places = sums[k : k + k * d].reshape(k, d) * r
        shares = sums[k + k * d : k + k * d + k * self.config.classes].reshape(k, -1)
        there = counts > max(self.config.classical.least_weight, np.finfo(float).eps)
        # a cluster of too few stays where it was
        moved = np.where(there[:, None], places / np.where(there, counts, 1.0)[:, None], found["centre"])
        found["centre"] = ball(moved, r)
        found["share"] = smoothed(shares, self.config.classical.regularisation)
        return found.vector

    def _nearest(self, vector: Vector, features: Vector) -> Labels:
        """As the network does: the first of the nearest."""
        centres = Parameters(self.network, vector)["centre"]
        distances = (centres**2).sum(axis=1) - 2 * features @ centres.T
        return np.asarray(distances.argmin(axis=1))
