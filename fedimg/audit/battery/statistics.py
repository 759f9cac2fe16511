"""Tests with known null distributions; each returns a p-value.

Discrete counts become standard normal by a randomised probability integral transform, which is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import binom, chi2, kstwo, norm

from fedimg.values import Vector

Counts = npt.NDArray[np.int64]


def worst(p_values: Iterable[float]) -> float:
    """The least of several p-values, times their number (Bonferroni); 1 for none."""
    found = [float(p) for p in p_values]
    return min(1.0, len(found) * min(found)) if found else 1.0


def worst_of(p_values: Vector) -> float:
    """The same for an array."""
    return min(1.0, p_values.size * float(p_values.min())) if p_values.size else 1.0


def exactly(holds: bool) -> float:
    """A property without chance: p = 1 where it holds, else 0."""
    return 1.0 if holds else 0.0


def chi_squared(statistic: float, degrees: int) -> float:
    """Chance of a χ² at least as far out, in either direction."""
    return _two_sided(chi2.cdf(statistic, degrees), chi2.sf(statistic, degrees))


def chi_squared_each(statistics: Vector, degrees: int) -> Vector:
    lower, upper = chi2.cdf(statistics, degrees), chi2.sf(statistics, degrees)
    return np.asarray(np.minimum(1.0, 2 * np.minimum(lower, upper)))


def binomial(count: int, trials: int, chance: float) -> float:
    """Two-sided, exact."""
    return _two_sided(binom.cdf(count, trials, chance), binom.sf(count - 1, trials, chance))


def normal(z: float) -> float:
    return float(2 * norm.sf(abs(z)))


def normal_each(z: Vector) -> Vector:
    return np.asarray(2 * norm.sf(np.abs(z)))


def kolmogorov(probabilities: Vector) -> float:
    """Kolmogorov–Smirnov for values that should be uniform on (0, 1): their distribution function at each draw."""
    n, ordered = probabilities.size, np.sort(probabilities)
    if not n or not np.isfinite(ordered).all():
        return exactly(holds=n == 0)
    steps = np.arange(n + 1) / n
    distance = max(float((steps[1:] - ordered).max()), float((ordered - steps[:-1]).max()))
    return float(kstwo.sf(distance, n))


def normal_scores(counts: Counts, trials: int, chance: float, source: np.random.Generator) -> Vector:
    """Binomial counts → independent N(0, 1), by a uniform draw inside each count's step of the CDF."""
    below, at = binom.cdf(counts - 1, trials, chance), binom.pmf(counts, trials, chance)
    u = below + source.random(counts.shape) * at
    return np.asarray(ndtri(np.clip(u, 1e-300, 1 - 1e-16)))


def dispersion(z: Vector) -> float:
    """Σz² ~ χ² over independent N(0, 1): too equal is as wrong as too different."""
    return chi_squared(float((z**2).sum()), z.size)


def cosine_scores(rows: Vector) -> Vector:
    """(T, P) → (T, T), √P·cos of each pair: N(0, 1) for independent normal rows; 0 on the diagonal."""
    norms = np.linalg.norm(rows, axis=1)
    units = rows / np.where(norms > 0, norms, 1.0)[:, None]
    scores = units @ units.T * math.sqrt(rows.shape[1])
    np.fill_diagonal(scores, 0.0)
    return np.asarray(scores)


def _two_sided(lower: float, upper: float) -> float:
    return min(1.0, 2 * min(float(lower), float(upper)))
