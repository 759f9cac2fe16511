"""Logistic regression and the L2-SVM by Newton's method: a round releases gradient and curvature.

Of more than two classes each is told from the rest. Both losses are of z = wᵀx + b with a target t = ±1:

    logistic   log(1 + e^(−tz))       gradient −t·p(−tz)·x    curvature p(1 − p)·xxᵀ ≤ ¼
    svm        ½·max(0, 1 − tz)²      gradient −t·(1 − tz)₊·x  curvature [tz < 1]·xxᵀ

plus ½λ‖w‖², λ at least twice the noise in the curvature (`moments.noise_of`). The logistic loss is generalised
self-concordant, so that steps of ln(1 + β)/β, with β the most that a step moves z inside the ball, come to the minimum
from anywhere and at the end quadratically (T. Sun and Q. Tran-Dinh, Mathematical Programming 178, 2019, section 3,
ν = 2). The other is piecewise quadratic (O. Chapelle, Neural Computation 19, 2007), where whole steps would do; the same
length keeps noise from throwing it.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from fedimg.classical.learner import Labels, Parameters
from fedimg.classical.moments import OfAugmented, augmented, noise_of, packed, scales, unpacked
from fedimg.models.classical_config import problems_of
from fedimg.values import Vector

# So that what is penalised has no negative curvature left; the noise of every round is another.
_OVER_NOISE = 2.0
_FLAT = 1e-12  # of the largest curvature: less is rounding


class _Newton(OfAugmented):
    @property
    def _problems(self) -> int:
        return problems_of(self.config.classes)

    @property
    def update_size(self) -> int:
        return self._problems * (self._m + self._m * (self._m + 1) // 2)

    def rows(self, vector: Vector, number: int, features: Vector, labels: Labels) -> Vector:  # noqa: ARG002
        x = augmented(features, self._r)
        outer = packed(x[:, :, None] * x[:, None, :])
        parts = []
        for problem, weights in enumerate(self._weights(vector)):
            target = np.where(labels == self._positive(problem), 1.0, -1.0)
            slope, curvature = self.derivatives(target * (x @ (scales(self._m - 1, self._r) * weights)))
            parts += [(target * slope)[:, None] * x, curvature[:, None] * outer]
        return np.asarray(np.concatenate(parts, axis=1) / np.sqrt(2 * self._problems))

    def derivatives(self, margin: Vector) -> tuple[Vector, Vector]:
        """tz → the loss's derivative by it, and its second, scaled to at most 1 by `curvature_unit`."""
        raise NotImplementedError

    curvature_unit = 1.0

    def updated(self, vector: Vector, number: int, mean: Vector) -> Vector:  # noqa: ARG002
        m, scale = self._m, scales(self._m - 1, self._r)
        found = Parameters(self.network, vector)
        each = (mean * np.sqrt(2 * self._problems)).reshape(self._problems, -1)
        for problem, weights in enumerate(self._weights(vector)):
            curvature = unpacked(each[problem, m:], m) * self.curvature_unit * np.outer(scale, scale)
            least = max(self.config.classical.regularisation, _OVER_NOISE * noise_of(curvature))
            penalty = np.append(np.full(m - 1, least), 0.0)
            gradient = each[problem, :m] * scale + penalty * weights
            step = -_solved(curvature + np.diag(penalty), gradient)
            moved = float(np.linalg.norm(scale * step))
            after = weights + step * (np.log1p(moved) / moved if moved > 0 else 1.0)
            row = self._positive(problem)
            found["weight"][row], found["bias"][row] = after[:-1], after[-1]
        return found.vector

    def _positive(self, problem: int) -> int:
        return 1 if self._problems == 1 else problem

    def _weights(self, vector: Vector) -> list[Vector]:
        own = Parameters(self.network, vector)
        rows = [self._positive(problem) for problem in range(self._problems)]
        return [np.append(own["weight"][row], own["bias"][row]) for row in rows]


class Logistic(_Newton):
    """Each class against the rest."""

    curvature_unit = 0.25

    def derivatives(self, margin: Vector) -> tuple[Vector, Vector]:
        wrong = expit(-margin)
        return -wrong, wrong * (1 - wrong) / self.curvature_unit


class SupportVectors(_Newton):
    """The same with squared hinge: who is far on the right side has no part in it."""

    def derivatives(self, margin: Vector) -> tuple[Vector, Vector]:
        return -np.maximum(0.0, 1 - margin), (margin < 1).astype(float)


def _solved(curvature: Vector, gradient: Vector) -> Vector:
    """Along directions in which noise has left no curvature there is no step."""
    values, vectors = np.linalg.eigh(curvature)
    kept = values > _FLAT * max(values[-1], np.finfo(float).tiny)
    along = vectors.T @ gradient
    return np.asarray(vectors @ np.where(kept, along / np.where(kept, values, 1.0), 0.0))
