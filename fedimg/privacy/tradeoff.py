"""What a patient is exposed to: the claimed trade-off curve, and what an attacker can do within it.

A membership test with false-positive rate α against a mechanism whose trade-off function is f detects
a true member with probability at most 1 − f(α) (Dong, Roth & Su 2022). The same number bounds an exact
reconstruction: an attacker whose guess is right with probability κ before seeing any release is right
with probability at most 1 − f(κ) afterwards (Hayes, Mahloujifar & Balle 2023; Kaissis et al. 2023).

f is that of *all* declared releases, Poisson sampling included: the same privacy loss distribution that ε
is read from, of which ε at one δ is a single point. It is not the curve of the Gaussian mechanism that has
the same (ε, δ): for a subsampled mechanism that one promises too little in places and too much in others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fedimg.privacy.accounting import of_shares, pld_accountant
from fedimg.privacy.events import LEAST_NOISE_MULTIPLIER, Event, check_delta, merged
from fedimg.privacy.renyi import ORDERS, delta_rdp, rdp, rdp_conversion

_Floats = npt.NDArray[np.float64]
# δ(ε) is tabulated from ε = 0 to where it falls below this: beyond, no line can touch f at α ≥ 1e-4 by more.
_LEAST_DELTA = 1e-9
_POINTS = 2000


@dataclass(frozen=True, eq=False)
class TradeOff:
    """A lower bound on f as the upper envelope of its supporting lines, one for each (ε, δ) of a profile.

    For every (ε, δ) that holds for both orders of two neighbours, f(α) ≥ 1 − δ − e^ε α and
    f(α) ≥ e^−ε (1 − δ − α) (Dong, Roth & Su 2022, Prop. 2.5). Fewer points only lower the bound.

    Attributes:
        epsilons, deltas: (k,) a privacy profile; every δ at least the true one.
    """

    epsilons: _Floats
    deltas: _Floats

    def power(self, false_positive_rate: float) -> float:
        """1 − f(α): the most true positives that any test with this rate of false positives can have."""
        a = false_positive_rate
        steep = 1 - self.deltas - np.exp(self.epsilons) * a
        flat = np.exp(-self.epsilons) * (1 - self.deltas - a)
        return float(1 - max(0.0, steep.max(), flat.max()))

    @property
    def advantage(self) -> float:
        """The largest true-positive minus false-positive rate: 1 − 2α at the α where f(α) = α, f being symmetric."""
        return float(1 - 2 * ((1 - self.deltas) / (1 + np.exp(self.epsilons))).max())


@dataclass(frozen=True, slots=True)
class Exposure:
    """The figures of a privacy card (upper bounds, probabilities).

    Attributes:
        true_positives: of a membership test with 0.1 % false positives.
        advantage: the most by which such a test's true positives exceed its false positives, at any rate.
        reconstruction: of an exact reconstruction by someone whose prior guess is right with κ = 1 %.
        curve: (false-positive rate, most true positives) from 1e-4 to 1.
    """

    true_positives: float
    advantage: float
    reconstruction: float
    curve: tuple[tuple[float, float], ...]


FALSE_POSITIVE_RATE, PRIOR = 1e-3, 1e-2


def exposure(exposures: Sequence[Sequence[Event]]) -> Exposure | None:
    """What a patient is exposed to who may have any one of several roles, each a tuple of events.

    Returns None where some role has no finite guarantee (noise multipliers below 0.2).
    """
    curves = [trade_off(events) for events in exposures]
    known = [curve for curve in curves if curve is not None]
    return _figures(known) if known and len(known) == len(curves) else None


def exposure_of_epsilon(epsilon: float, delta: float) -> Exposure:
    """The same from (ε, δ) alone, for claims that no privacy loss distribution stands behind: wider."""
    check_delta(delta)
    return _figures([TradeOff(np.array([epsilon]), np.array([delta]))])


def trade_off(events: Sequence[Event]) -> TradeOff | None:
    """The curve of all events together, add-or-remove-one; None where some noise is too little to have one.

    By privacy loss distributions, with what shares of noise cost beyond them; where noise is discrete Gaussian, from its
    Rényi divergences, which is wider.
    """
    together = merged(events)
    if any(event.noise_multiplier < LEAST_NOISE_MULTIPLIER for event in together):
        return None
    return _trade_off(together)


@lru_cache(maxsize=64)
def _trade_off(events: tuple[Event, ...]) -> TradeOff:
    if any(event.law != "gaussian" for event in events):
        costs = [math.fsum(rdp(event, order) for event in events) for order in ORDERS]
        epsilons = np.linspace(0.0, _epsilon_at_least_delta(costs), _POINTS)
        return TradeOff(epsilons, delta_rdp(costs, epsilons))
    accountant = pld_accountant(events)
    most = accountant.get_epsilon(_LEAST_DELTA)
    epsilons = np.linspace(0.0, most if math.isfinite(most) else 50.0, _POINTS)
    deltas = np.array([accountant.get_delta(epsilon) for epsilon in epsilons])
    near = of_shares(events)
    return TradeOff(epsilons, deltas) if near is None else TradeOff(*near.profile(epsilons, deltas))


def _epsilon_at_least_delta(costs: Sequence[float]) -> float:
    return min(cost + rdp_conversion(order, _LEAST_DELTA) for cost, order in zip(costs, ORDERS, strict=True))


def _figures(curves: Sequence[TradeOff]) -> Exposure:
    def most(rate: float) -> float:
        return max(curve.power(rate) for curve in curves)

    rates = [*np.logspace(-4, -1, 61), *np.linspace(0.1, 1.0, 46)[1:]]
    return Exposure(
        most(FALSE_POSITIVE_RATE),
        max(curve.advantage for curve in curves),
        most(PRIOR),
        tuple((float(rate), most(float(rate))) for rate in rates),
    )
