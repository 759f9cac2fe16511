"""Group 4: the noise is Gaussian, tails and fine structure included."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.special import log_ndtr, ndtr
from scipy.stats import norm

from fedimg.audit.battery.result import Check
from fedimg.audit.battery.reuse import bin_width, same_value_chance
from fedimg.audit.battery.statistics import binomial, kolmogorov, normal, worst
from fedimg.values import Vector

_BEYOND = (2.0, 2.5, 3.0, 3.5, 4.0, 4.5)


def checks(matrix: Vector, tail: Vector, grid: float) -> Iterator[Check]:
    """`matrix` (T, P) and `tail` (n,) in claimed standard deviations; `grid` in the same unit, 0 for none."""
    if not (np.isfinite(matrix).all() and np.isfinite(tail).all()):
        return
    p = worst(kolmogorov(ndtr(values)) for values in (matrix.ravel(), tail, matrix[::2].ravel()))
    yield Check("shape.distribution", p, "Kolmogorov–Smirnov against the normal distribution")
    counts = [int((side > x).sum()) for side in (tail, -tail, np.abs(tail)) for x in _BEYOND]
    chances = [sides * float(norm.sf(x)) for sides in (1, 1, 2) for x in _BEYOND]
    by_count = (binomial(c, tail.size, q) for c, q in zip(counts, chances, strict=True))
    p = worst([*by_count, *_extremes(tail)])
    beyond, expected = counts[16], tail.size * chances[16]
    yield Check(
        "shape.tails",
        p,
        f"{beyond} values beyond 4 standard deviations, {expected:.0f} expected; "
        f"the largest is {np.abs(tail).max():.2f}",
    )
    yield _resolution(tail, grid)


def _extremes(values: Vector) -> list[float]:
    """The largest of n, on either side: P(max ≤ x) = Φ(x)ⁿ, exact."""
    found = []
    for x in (float(values.max()), float(-values.min())):
        log_below = values.size * float(log_ndtr(x))
        found.append(min(1.0, 2 * min(np.exp(log_below), -np.expm1(log_below))))
    return found


def _resolution(tail: Vector, grid: float) -> Check:
    """Equal values among n: more of them than chance allows come from a table or from few bits."""
    half = tail[: 1 << 20]  # of one release
    width = bin_width(grid)
    _, counts = np.unique(np.floor(np.abs(half) / width + 0.5), return_counts=True)
    pairs = float((counts * (counts - 1.0) / 2).sum())
    n, chance = half.size, same_value_chance(grid)
    # third moment of |N(0, 1)|'s density: ∫f³ = 0.36755; pairs that share a value are not independent
    spread = np.sqrt(n * n / 2 * chance + n**3.0 * width**2 * (0.36755 - 1 / np.pi))
    z = (pairs - n * (n - 1) / 2 * chance) / spread
    detail = f"{pairs:.0f} pairs of equal values, {n * (n - 1) / 2 * chance:.0f} expected"
    return Check("shape.resolution", normal(z), detail)


def quantiles(values: Vector) -> list[tuple[float, ...]]:
    """Pairs (normal quantile, measured quantile), into the tails; empty where a value is not finite."""
    if not np.isfinite(values).all():
        return []
    chances = ndtr(np.linspace(-4.5, 4.5, 37))
    measured = np.quantile(values, chances)
    return [(float(norm.ppf(c)), float(m)) for c, m in zip(chances, measured, strict=True)]
