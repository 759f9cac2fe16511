"""The filter behind the ledger: Rényi divergence of one integer order, summed.

At a fixed order a sum of Rényi divergences may be stopped and continued adaptively, run after run
(Feldman & Zrnic 2021, arXiv 2008.11193); a privacy loss distribution may not (arXiv 2602.06756).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, logsumexp

from fedimg.errors import ConfigError
from fedimg.privacy.events import LEAST_NOISE_MULTIPLIER, Event, check_delta

ORDERS: tuple[int, ...] = (*range(2, 65), 80, 96, 128, 192, 256, 384, 512)


@lru_cache(maxsize=1 << 14)
def rdp(event: Event, order: int) -> float:
    """Rényi divergence of integer `order` that one event's releases cost.

    Mironov, Talwar & Zhang 2019 (arXiv 1908.10530), §3.3: for integer α,
    A = Σₖ C(α,k) (1−q)^{α−k} qᵏ exp((k²−k)/(2σ²)), and the cost is log A/(α−1).

    It bounds the discrete Gaussian on integer vectors too: its divergence at shift μ is at most α‖μ‖²/(2σ²)
    (Canonne, Kamath & Steinke 2020, Prop. 5 and its sum over coordinates), which bounds every term of A, and
    the reflection k → μ − k of the integers exchanges the two hypotheses, so the direction that A measures is
    the worse one (Mironov et al., Theorem 5, with a sum in place of the integral).
    """
    if order < 2:
        raise ConfigError("an integer order ≥ 2", f"{order}", "open the ledger with another order")
    q, sigma = event.sampling_rate, event.noise_multiplier
    if event.count == 0:
        return 0.0
    if sigma < LEAST_NOISE_MULTIPLIER:
        return math.inf
    if q == 1:
        return event.count * order / (2 * sigma**2)
    k = np.arange(order + 1, dtype=np.float64)
    terms = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
    terms += (order - k) * math.log1p(-q) + k * math.log(q) + (k * k - k) / (2 * sigma**2)
    return event.count * max(0.0, float(logsumexp(terms))) / (order - 1)


def rdp_conversion(order: int, delta: float) -> float:
    """conv(α, δ): an RDP of ρ at order α gives (ρ + conv, δ)-DP (Canonne, Kamath & Steinke 2020, Prop. 12)."""
    check_delta(delta)
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)


def delta_rdp(costs: Sequence[float], epsilons: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """δ at each ε from the divergences at `ORDERS`: the inverse of `rdp_conversion`, least over them, at most 1."""
    orders = np.array(ORDERS, dtype=np.float64)[:, None]
    logs = (orders - 1) * (np.array(costs)[:, None] + np.log1p(-1 / orders) - epsilons) - np.log(orders)
    deltas: npt.NDArray[np.float64] = np.exp(np.minimum(0.0, logs.min(axis=0)))
    return deltas


def filter_budget(epsilon_max: float, delta: float, order: int) -> float:
    """The Σρ that a ledger of (ε_max, δ) may spend at its one order; ≤ 0 where nothing fits."""
    return epsilon_max - rdp_conversion(order, delta)


def best_order(epsilon_max: float, delta: float, events: Sequence[Event]) -> int:
    """The integer order at which a ledger of (ε_max, δ) holds most copies of `events`."""

    def copies(order: int) -> float:
        return filter_budget(epsilon_max, delta, order) / math.fsum(rdp(event, order) for event in events)

    return max(ORDERS, key=copies)


def epsilon_rdp(events: Sequence[Event], delta: float) -> float:
    """ε of all events together at `delta` by Rényi divergences of integer orders: the least over `ORDERS`."""
    if not any(event.count for event in events):
        return 0.0
    return max(
        0.0, min(math.fsum(rdp(event, a) for event in events) + rdp_conversion(a, delta) for a in ORDERS)
    )
