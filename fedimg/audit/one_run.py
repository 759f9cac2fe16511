"""Audits with a single training run: many canaries, each inside by a fair coin, and guesses who was.

`epsilon_lower_bound`: T. Steinke, M. Nasr and M. Jagielski, "Privacy auditing with one (1) training run",
NeurIPS 2023, arXiv 2305.08846, theorem 5.2. `rejects` and `gaussian_lower_bound`: S. Mahloujifar, L. Melis and
K. Chaudhuri, "Auditing f-differential privacy in one run", 2024, arXiv 2410.22235, algorithm 3, which uses the whole
claimed trade-off curve and is tighter. Both bound from below with a stated confidence; neither estimates.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import binom, norm

from fedimg.audit.bounds import gaussian_epsilon
from fedimg.errors import ConfigError
from fedimg.values import Vector

Indices = npt.NDArray[np.int64]
TradeOff = Callable[[float], float]
"""f: the least false negative rate at a false positive rate."""


def _check(right: int, guesses: int, canaries: int) -> None:
    if not 0 <= right <= guesses <= canaries or canaries < 1:
        raise ConfigError(
            "right guesses ≤ guesses ≤ canaries",
            f"{right}, {guesses} and {canaries}",
            "count the guesses again; an abstention is no guess",
        )


def p_value(epsilon: float, delta: float, right: int, guesses: int, canaries: int) -> float:
    """Chance, at most, of so many right guesses under (ε, δ)-DP: min(1, β + 2mδ·max_i (P[X ≥ v−i] − β)/i).

    X ~ Binomial(r, e^ε/(1 + e^ε)) and β = P[X ≥ v], for m canaries, r guesses of which v are right.
    """
    _check(right, guesses, canaries)
    chance = 1 / (1 + math.exp(-epsilon))
    beta = float(binom.sf(right - 1, guesses, chance))
    if delta == 0 or right == 0:
        return min(1.0, beta)
    back = np.arange(1, right + 1)
    alpha = float(np.max((binom.sf(right - back - 1, guesses, chance) - beta) / back))
    return min(1.0, beta + 2 * canaries * delta * alpha)


def epsilon_lower_bound(
    right: int, guesses: int, canaries: int, delta: float, significance: float = 0.05
) -> float:
    """sup{ε : p(ε) < significance}: with confidence 1 − significance the mechanism is not (ε, δ)-private below it."""

    def excess(epsilon: float) -> float:
        return p_value(epsilon, delta, right, guesses, canaries) - significance

    if excess(0.0) >= 0:
        return 0.0
    high = 1.0
    while excess(high) < 0:
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-9))


def guesses_of(scores: Vector, most_inside: int, most_outside: int) -> tuple[Indices, Indices]:
    """Indices of the highest scores, called inside, and of the lowest, called outside; the rest is abstained."""
    if most_inside + most_outside > len(scores):
        raise ConfigError(
            f"at most {len(scores)} guesses", f"{most_inside + most_outside}", "abstain from more canaries"
        )
    order = np.argsort(scores, kind="stable").astype(np.int64)
    return order[len(order) - most_inside :], order[:most_outside]


def right_guesses(scores: Vector, inside: npt.NDArray[np.bool_], most_inside: int, most_outside: int) -> int:
    """How many of those guesses are right; `inside` (m,) is the coins' outcome."""
    called_inside, called_outside = guesses_of(scores, most_inside, most_outside)
    return int(inside[called_inside].sum() + (~inside[called_outside]).sum())


def gaussian_curve(mu: float) -> TradeOff:
    """f(x) = Φ(Φ⁻¹(1−x) − μ)."""

    def f(x: float) -> float:
        if x <= 0 or x >= 1:
            return 1.0 if x <= 0 else 0.0
        return float(norm.cdf(norm.isf(x) - mu))

    return f


def subsampled_curves(noise_multiplier: float, rate: float) -> tuple[TradeOff, TradeOff]:
    """One release of the Poisson-subsampled Gaussian, in both orders: T(P, Q) and its inverse T(Q, P).

    P = N(0, σ²) without the unit, Q = (1−q)·P + q·N(1, σ²) with it. A test at threshold t rejects P above it.
    """
    shift = 1 / noise_multiplier

    def tails(t: float) -> tuple[float, float]:
        """P[X > t] and Q[X > t], t in units of σ."""
        above = float(norm.sf(t))
        return above, (1 - rate) * above + rate * float(norm.sf(t - shift))

    def forward(x: float) -> float:
        if x <= 0 or x >= 1:
            return 1.0 if x <= 0 else 0.0
        return 1 - tails(float(norm.isf(x)))[1]

    def backward(x: float) -> float:
        """Reject Q below t with chance x; the error left is P above t."""
        if x <= 0 or x >= 1:
            return 1.0 if x <= 0 else 0.0
        t = brentq(lambda at: (1 - tails(at)[1]) - x, -40.0, 40.0 + shift, xtol=1e-12)
        return tails(float(t))[0]

    return forward, backward


def rejects(right: int, guesses: int, canaries: int, curve: TradeOff, significance: float = 0.05) -> bool:
    """Whether so many right guesses contradict the claimed trade-off curve.

    R = αv/m, H = α(r−v)/m; for i = v−1 … 0: h = max(H, f(1−R)), R ← min(R + i/(r−i)·(h−H), 1), H ← h.
    The claim is rejected iff R + H > r/m.
    """
    _check(right, guesses, canaries)
    share = significance / canaries
    so_right, so_wrong = share * right, share * (guesses - right)
    for i in range(right - 1, -1, -1):
        h = max(so_wrong, curve(1 - so_right))
        so_right = min(so_right + i / (guesses - i) * (h - so_wrong), 1.0)
        so_wrong = h
    return so_right + so_wrong > guesses / canaries


def rejects_subsampled(
    right: int,
    guesses: int,
    canaries: int,
    mechanism: tuple[float, float],
    significance: float = 0.05,
) -> bool:
    """Whether (σ, q) of one release is contradicted: only if both orders of its pair are.

    A claim of adding-or-removing holds for the worse order, so one that explains the guesses is enough.
    """
    curves = subsampled_curves(*mechanism)
    return all(rejects(right, guesses, canaries, curve, significance) for curve in curves)


def gaussian_lower_bound(right: int, guesses: int, canaries: int, significance: float = 0.05) -> float:
    """The largest μ that is rejected, within 10⁻³; 0 where none is."""
    if not rejects(right, guesses, canaries, gaussian_curve(0.0), significance):
        return 0.0
    low, high = 0.0, 1.0
    while rejects(right, guesses, canaries, gaussian_curve(high), significance) and high < 64:
        low, high = high, 2 * high
    while high - low > 1e-3:
        middle = (low + high) / 2
        contradicted = rejects(right, guesses, canaries, gaussian_curve(middle), significance)
        low, high = (middle, high) if contradicted else (low, middle)
    return low


def f_dp_epsilon(right: int, guesses: int, canaries: int, delta: float, significance: float = 0.05) -> float:
    """ε at `delta` of the largest rejected μ: a lower bound where the mechanism is Gaussian-like."""
    return gaussian_epsilon(gaussian_lower_bound(right, guesses, canaries, significance), delta)
