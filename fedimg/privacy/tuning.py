"""What choosing the best of several private runs costs, where only the site sees the losers.

In a federation the server sees every run, so every run is charged and there is nothing to save. Behind a site's
own walls a number of runs K may be drawn from a stated law, and only the best result published: that costs little
more than one run, if K stays secret and if the score by which the best is chosen is private itself (Papernot &
Steinke 2022, arXiv 2110.03620). A fixed number of runs, or the best of all that were tried, has no such bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from fedimg.errors import ConfigError
from fedimg.privacy.accounting import pld_accountant
from fedimg.privacy.entropy import Entropy
from fedimg.privacy.events import LEAST_NOISE_MULTIPLIER, Event, merged
from fedimg.privacy.ledger import Allowance
from fedimg.privacy.renyi import ORDERS, delta_rdp, rdp, rdp_conversion
from fedimg.values import NoisedSum

Result = TypeVar("Result")
_MOST_RUNS = 10**6


@dataclass(frozen=True, slots=True)
class RepetitionLaw:
    """The law of K: a truncated negative binomial on 1, 2, …, or a Poisson law.

    Attributes:
        mean: E[K], at least 1.
        shape: η ≥ 0. 0 is the logarithmic law, 1 the geometric one, infinity the Poisson one, under which
            K may be 0 and nothing is published.
    """

    mean: float
    shape: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and 1 <= self.mean <= _MOST_RUNS):
            raise ConfigError("a mean number of runs from 1 to 10⁶", f"{self.mean}", "set the law's mean")
        if not self.shape >= 0:
            raise ConfigError("a shape ≥ 0 of the law of repetitions", f"{self.shape}", "set the law's shape")

    @property
    def gamma(self) -> float:
        """γ of the truncated negative binomial with this mean (its definition 1); 1 where K is always 1."""
        if self.mean == 1:
            return 1.0

        def excess(log_gamma: float) -> float:
            gamma = math.exp(log_gamma)
            if self.shape == 0:
                return (1 / gamma - 1) / -log_gamma - self.mean
            return self.shape * (1 - gamma) / (gamma * -math.expm1(self.shape * log_gamma)) - self.mean

        return math.exp(float(brentq(excess, -60.0, -1e-12, xtol=1e-14)))

    def draw(self, entropy: Entropy) -> int:
        """K, from the site's entropy, by inversion. Keep it secret: it is not released and not logged."""
        left = (int.from_bytes(entropy.bytes(8), "big") >> 11) / 2**53  # uniform on [0, 1)
        poisson, gamma = math.isinf(self.shape), 1.0 if math.isinf(self.shape) else self.gamma
        count, mass = (0, math.exp(-self.mean)) if poisson else (1, self._first(gamma))
        while left >= mass > 0.0:  # a mass of 0 is beyond the last probability that a float holds
            left -= mass
            ratio = self.mean if poisson else (1 - gamma) * (count + self.shape)
            mass *= ratio / (count + 1)
            count += 1
        return count

    def _first(self, gamma: float) -> float:
        """P[K = 1] of a truncated negative binomial."""
        if gamma == 1:
            return 1.0
        if self.shape == 0:
            return (1 - gamma) / -math.log(gamma)
        return self.shape * (1 - gamma) / math.expm1(-self.shape * math.log(gamma))


def selected_epsilon(events: Sequence[Event], law: RepetitionLaw, delta: float) -> float:
    """ε of publishing the best of K runs, each costing `events`: its training *and* the release of its score.

    By Rényi divergences at integer orders; infinite where a noise multiplier is below 0.2.
    """
    costs = selected_rdp(events, law)
    return float(min(cost + rdp_conversion(order, delta) for cost, order in zip(costs, ORDERS, strict=True)))


def selected_rdp(events: Sequence[Event], law: RepetitionLaw) -> npt.NDArray[np.float64]:
    """Rényi divergence of the selection at each of `ORDERS`."""
    together = merged(events)
    if any(event.noise_multiplier < LEAST_NOISE_MULTIPLIER for event in together):
        return np.full(len(ORDERS), math.inf)
    orders = np.array(ORDERS, dtype=np.float64)
    one = np.array([math.fsum(rdp(event, order) for event in together) for order in ORDERS])
    repeated = math.log(law.mean) / (orders - 1)
    if math.isinf(law.shape):  # Theorem 6, with δ̂ of one run at ε̂ = log(1 + 1/(λ − 1))
        targets = np.log1p(1 / (orders - 1))
        if all(event.law == "gaussian" for event in together):
            accountant = pld_accountant(together)
            deltas = np.array([accountant.get_delta(target) for target in targets])
        else:
            deltas = delta_rdp(one.tolist(), targets)
        return one + law.mean * deltas + repeated
    # Theorem 2; λ̂ is free, so the best one counts
    price = (1 + law.shape) * np.min((1 - 1 / orders) * one - math.log(law.gamma) / orders)
    costs = one + repeated + price
    return np.minimum.accumulate(costs[::-1])[::-1]  # a divergence never falls with its order


def selection_allowance(events: Sequence[Event], law: RepetitionLaw, order: int) -> Allowance:
    """A whole selection as a ledger of that order charges it, once.

    The filter looks at one order only, so a single Gaussian of the same divergence at that order stands for it.

    Raises:
        ConfigError: the cost has no bound at this order.
    """
    if order not in ORDERS:
        raise ConfigError("a ledger's order among those that are tabulated", f"{order}", "charge every run")
    cost = float(selected_rdp(events, law)[ORDERS.index(order)])
    if not math.isfinite(cost):
        raise ConfigError("runs with a finite cost", "too little noise", "raise the noise of every run")
    noise = math.sqrt(order / (2 * cost))
    return Allowance("selection", noise, 1.0, 1, 0, "patients")


@dataclass(frozen=True, slots=True)
class Trial(Generic[Result]):
    """One run of a site-local search: what came out, and the release that its score is computed from."""

    result: Result
    measured: NoisedSum


def repeat_and_select(
    trial: Callable[[], Trial[Result]],
    score: Callable[[NoisedSum], float],
    law: RepetitionLaw,
    entropy: Entropy,
) -> Trial[Result] | None:
    """The best of K trials; None where the law drew 0. Everything else must be forgotten, K included.

    Charge `selection_allowance` first. Only for one site's own search: where a server or another site sees the
    trials, each is a run of its own and charged as one. `score` gets nothing but the noised release, so it
    cannot be the exact score of the patients.

    Raises:
        ConfigError: a trial without a noised release to be measured by.
    """
    best: Trial[Result] | None = None
    highest = -math.inf
    for _ in range(law.draw(entropy)):
        tried = trial()
        if not isinstance(tried.measured, NoisedSum):
            raise ConfigError(
                "a score computed from a noised release",
                "one without",
                "release the score's histogram under differential privacy first",
            )
        reached = score(tried.measured)
        if best is None or reached > highest:
            best, highest = tried, reached
    return best
