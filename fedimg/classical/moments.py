"""Ridge regression and principal components: both follow from the same second moments, in one round.

A row of an image is (x̃x̃ᵀ, x̃yᵀ)/√2, where x̃ = (x/R, 1)/√2 with x inside the ball of radius R, y its class as
a unit vector: at most 1 long. Regression from noised moments: Y.-X. Wang, "Revisiting differentially private linear
regression", UAI 2018, arXiv 1803.02596; components: C. Dwork et al., "Analyze Gauss", STOC 2014.

Second moments have no negative eigenvalue. Noised ones do, and the lowest is about as far below zero as noise moves any
of them: so large λ has to be, for the solution to rest on data. It is read off what was released.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fedimg.classical.learner import Labels, Parameters, one_hot
from fedimg.models import ModelConfig, Network
from fedimg.values import Vector


def ball(features: Vector, most: float) -> Vector:
    """(n, d) with every row scaled down to norm `most` where it is longer."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features * np.minimum(1.0, most / np.maximum(norms, np.finfo(float).tiny)))


def radius_of(config: ModelConfig, size: int) -> float:
    """R: what is farther out counts as the point of the sphere in its direction."""
    return config.classical.radius * math.sqrt(size)


def augmented(features: Vector, r: float) -> Vector:
    """(n, d) → x̃ (n, d + 1), of norm ≤ 1."""
    ones = np.ones((len(features), 1))
    return np.asarray(np.concatenate([ball(features, r) / r, ones], axis=1) / np.sqrt(2))


def scales(size: int, r: float) -> Vector:
    """What x̃ is multiplied by to be (x, 1): (d + 1,)."""
    return np.asarray(np.sqrt(2) * np.append(np.full(size, r), 1.0))


def packed(symmetric: Vector) -> Vector:
    """(n, m, m) → (n, m(m + 1)/2) of the same norm: what is off the diagonal stands once, times √2."""
    m = symmetric.shape[-1]
    i, j = np.triu_indices(m)
    return np.asarray(symmetric[..., i, j] * np.where(i == j, 1.0, np.sqrt(2)))


def unpacked(row: Vector, m: int) -> Vector:
    """Inverse of `packed` for one matrix."""
    i, j = np.triu_indices(m)
    found = np.zeros((m, m))
    found[i, j] = row / np.where(i == j, 1.0, np.sqrt(2))
    found[j, i] = found[i, j]
    return found


def noise_of(symmetric: Vector) -> float:
    """How far noise moves the eigenvalues of a matrix (m, m) of (x, 1) that had no negative ones: of its part of x."""
    return max(0.0, -float(np.linalg.eigvalsh(symmetric[:-1, :-1])[0]))


@dataclass(frozen=True)
class OfAugmented:
    """What is learnt from features and a one: m = d + 1 numbers, inside the ball of radius R."""

    network: Network
    config: ModelConfig

    @property
    def _m(self) -> int:
        return self.network.feature_shape[0] + 1

    @property
    def _r(self) -> float:
        return radius_of(self.config, self._m - 1)


class _Moments(OfAugmented):
    @property
    def update_size(self) -> int:
        return self._m * (self._m + 1) // 2 + self._m * self.config.classes

    def rows(self, vector: Vector, number: int, features: Vector, labels: Labels) -> Vector:  # noqa: ARG002
        x, y = augmented(features, self._r), one_hot(labels, self.config.classes)
        second = packed(x[:, :, None] * x[:, None, :])
        cross = (x[:, :, None] * y[:, None, :]).reshape(len(x), -1)
        return np.asarray(np.concatenate([second, cross], axis=1) / np.sqrt(2))

    def moments(self, mean: Vector) -> tuple[Vector, Vector, float]:
        """Means of (x, 1)(x, 1)ᵀ, (m, m), of noised ones the nearest that can be; of (x, 1)yᵀ, (m, classes); `noise_of`."""
        m, scale = self._m, scales(self._m - 1, self._r)
        cut = m * (m + 1) // 2
        second = unpacked(mean[:cut] * np.sqrt(2), m)
        noise = noise_of(second * np.outer(scale, scale))
        values, vectors = np.linalg.eigh(second)
        if values[0] < 0:  # noise, or rounding
            second[...] = (vectors * np.maximum(values, 0.0)) @ vectors.T
        cross = (mean[cut:] * np.sqrt(2)).reshape(m, -1)
        return second * np.outer(scale, scale), cross * scale[:, None], noise


class Ridge(_Moments):
    """min over W, b of ½·mean‖Wx + b − y‖² + ½λ‖W‖², the intercept not penalised; λ at least the noise."""

    def updated(self, vector: Vector, number: int, mean: Vector) -> Vector:  # noqa: ARG002
        second, cross, noise = self.moments(mean)
        penalty = np.append(np.full(self._m - 1, max(self.config.classical.regularisation, noise)), 0.0)
        solution = np.linalg.lstsq(second + np.diag(penalty), cross, rcond=None)[0]
        found = Parameters(self.network, vector)
        found["weight"], found["bias"] = np.asarray(solution[:-1].T, float), np.asarray(solution[-1], float)
        return found.vector


class Components(_Moments):
    """The axes of largest variance; a class is where its mean is among them."""

    def updated(self, vector: Vector, number: int, mean: Vector) -> Vector:  # noqa: ARG002
        second, cross, _ = self.moments(mean)
        least = max(self.config.classical.least_weight, np.finfo(float).eps)
        # of noised counts none is less than a split-off side's, and no mean is outside the ball
        count, counts = max(second[-1, -1], least), np.maximum(cross[-1], least)
        centre = ball(second[-1:, :-1] / count, self._r)[0]
        covariance = second[:-1, :-1] / count - np.outer(centre, centre)
        _, vectors = np.linalg.eigh(covariance)
        axes = vectors[:, ::-1][:, : self.config.classical.components].T
        largest = np.abs(axes).argmax(axis=1)
        axes = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
        classes = (ball((cross[:-1] / counts).T, self._r) - centre) @ axes.T
        total = np.trace(axes @ covariance @ axes.T)
        between = (counts / counts.sum() * (classes**2).sum(axis=1)).sum()
        found = Parameters(self.network, vector)
        found["mean"], found["axis"], found["centre"] = centre, axes, classes
        found["spread"] = np.array(max((total - between) / len(axes), np.finfo(np.float32).eps))
        return found.vector
