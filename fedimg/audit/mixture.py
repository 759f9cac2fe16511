"""What the released canary coordinates say of the noise, the sampling rate and the clipping.

A coordinate without canaries is N(0, s²). One with n of them, each of length c and in a step with chance q of
its own, is Σ_b Binomial(n, q)(b) · N(b·c, s²); with n = 1 that is (1−q)·N(0, s²) + q·N(c, s²). All steps are
independent given (s, q, c). Lengths are in units of C.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import gammaln

from fedimg.values import Vector

Matrix = npt.NDArray[np.float64]
# Rows of (observations, canaries sampled) that are held at once.
_CHUNK = 1 << 21


@dataclass(frozen=True)
class Mechanism:
    """(s, q, c): noise, sampling rate, and a canary's length after clipping, in units of C."""

    noise: float
    rate: float
    length: float


@dataclass(frozen=True)
class Observed:
    """Released canary coordinates ÷ C.

    Attributes:
        outside: (n,) of coordinates without canaries, all steps.
        inside: canaries at a coordinate → (n,) of such coordinates, all steps.
    """

    outside: Vector
    inside: dict[int, Vector]

    @cached_property
    def count(self) -> int:
        return len(self.outside) + sum(map(len, self.inside.values()))

    def scores(self, at: Mechanism) -> Matrix:
        """(count, 3): each observation's derivative of its log-likelihood by (log s, q, c).

        By the missing-information identity it is the mean, over how many canaries were sampled given what was
        seen, of the complete data's derivative (Louis 1982).
        """
        out = np.zeros((len(self.outside), 3))
        out[:, 0] = (self.outside / at.noise) ** 2 - 1
        parts = [out]
        for size, values in self.inside.items():
            parts += [_given(part, size, at)[1] for part in _parts(values, size, at.rate)]
        return np.concatenate(parts)

    def log_likelihood(self, at: Mechanism) -> float:
        normal = -0.5 * float(np.sum((self.outside / at.noise) ** 2))
        total = normal - len(self.outside) * math.log(at.noise)
        for size, values in self.inside.items():
            total += sum(float(_given(part, size, at)[0].sum()) for part in _parts(values, size, at.rate))
        return total


def _parts(values: Vector, size: int, rate: float) -> list[Vector]:
    return np.array_split(values, -(-len(values) * (_most(size, rate) + 1) // _CHUNK) or 1)


def _most(size: int, rate: float) -> int:
    """The most canaries of `size` that are considered sampled; more has a chance below 10⁻¹²."""
    return min(size, math.ceil(size * rate + 8 * math.sqrt(size * rate) + 30))


def _given(values: Vector, size: int, at: Mechanism) -> tuple[Vector, Matrix]:
    """Log-likelihood (n,) without its constant, and score (n, 3), of values at coordinates of `size` canaries."""
    sampled = np.arange(_most(size, at.rate) + 1, dtype=np.float64)
    choices = gammaln(size + 1) - gammaln(sampled + 1) - gammaln(size - sampled + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_chance = choices + _times(sampled, math.log(at.rate))
        log_chance += _times(size - sampled, math.log1p(-at.rate) if at.rate < 1 else -math.inf)
    rest = (values[:, None] - sampled * at.length) / at.noise
    log_joint = log_chance - 0.5 * rest**2
    largest = log_joint.max(axis=1, keepdims=True)
    weight = np.exp(log_joint - largest)
    total = weight.sum(axis=1, keepdims=True)
    weight /= total
    of_rate = weight @ sampled - size * at.rate
    of_rate /= at.rate * (1 - at.rate) if at.rate < 1 else 1.0
    of_noise = (weight * rest**2).sum(axis=1) - 1
    of_length = (weight * rest) @ sampled / at.noise
    value = (np.log(total) + largest)[:, 0] - math.log(at.noise)
    return value, np.stack([of_noise, of_rate, of_length], axis=1)


def _times(count: Vector, log_chance: float) -> Vector:
    """count · log_chance, with 0 · −∞ = 0."""
    return np.where(count == 0, 0.0, count * log_chance)


@dataclass(frozen=True)
class Fit:
    """A maximum-likelihood estimate, and the covariance (3, 3) of (log s, log qc, c(1−q)).

    In these coordinates, a canary's mean share and the spread that sampling adds to it, the likelihood is close
    to quadratic even where noise hides q and c from each other. A parameter at its bound has variance 0.
    """

    mechanism: Mechanism
    covariance: Matrix


def mechanism_of(free: Vector) -> Mechanism:
    """(log s, log qc, c(1−q)) → (s, q, c)."""
    mean, spread = math.exp(free[1]), max(0.0, float(free[2]))
    return Mechanism(math.exp(free[0]), mean / (mean + spread), mean + spread)


def free_of(at: Mechanism) -> Vector:
    """Inverse of `mechanism_of`."""
    return np.array([math.log(at.noise), math.log(at.rate * at.length), at.length * (1 - at.rate)])


def _scores(observed: Observed, free: Vector) -> Matrix:
    """(count, 3): scores by the free parameters."""
    at = mechanism_of(free)
    mean, spread, length = at.rate * at.length, max(0.0, float(free[2])), at.length
    by_mean, by_spread = np.array([spread / length**2, 1.0]), np.array([-mean / length**2, 1.0])
    scores = observed.scores(at)
    rate_length = scores[:, 1:]
    if at.rate == 1:  # the one-sided derivative by q is not defined by the identity; the bound is active
        by_spread = np.array([0.0, 1.0])
    return np.stack([scores[:, 0], mean * (rate_length @ by_mean), rate_length @ by_spread], axis=1)


def fit(observed: Observed, start: Mechanism) -> Fit:
    """Maximum likelihood from `start`, with s > 0, 0 < q ≤ 1, c > 0."""
    free = free_of(start)
    scale = 1.0 / max(1, observed.count)
    most_sampling = start.rate == 1

    def objective(point: Vector) -> tuple[float, Vector]:
        at = mechanism_of(point)
        return -scale * observed.log_likelihood(at), -scale * _scores(observed, point).sum(axis=0)

    spread_bounds = (0.0, 0.0) if most_sampling else (1e-6, 1e3)
    bounds = [(free[0] - 5, free[0] + 5), (free[1] - 8, free[1] + 5), spread_bounds]
    options = {"ftol": 1e-13, "gtol": 1e-9, "maxiter": 200}
    found = minimize(objective, free, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    point = np.asarray(found.x, dtype=np.float64)
    scores = _scores(observed, point)
    inner = [0, 1] if point[2] <= spread_bounds[0] + 1e-9 else [0, 1, 2]
    covariance = np.zeros((3, 3))
    information = scores[:, inner].T @ scores[:, inner]
    covariance[np.ix_(inner, inner)] = np.linalg.pinv(information)
    return Fit(mechanism_of(point), covariance)


def score_tests(observed: Observed, claimed: Mechanism) -> Vector:
    """(3,) statistics, N(0, 1) under the claim: less noise, more sampling, longer than C are each positive.

    Rao's score test of one parameter, the two others as claimed, normalised by the observations' own spread.
    """
    scores = observed.scores(claimed)
    if claimed.rate == 1:
        scores[:, 1] = 0.0
    spread = np.sqrt((scores**2).sum(axis=0))
    directions = np.array([-1.0, 1.0, 1.0])
    statistics = directions * scores.sum(axis=0) / np.where(spread > 0, spread, 1.0)
    return np.asarray(statistics, dtype=np.float64)
