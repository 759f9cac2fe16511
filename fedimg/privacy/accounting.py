"""What the declared releases cost: privacy loss distributions, a second accountant, and a filter.

All statements are for adding or removing one patient. `epsilon` composes privacy loss
distributions (Koskela et al. 2020; Google dp-accounting); `epsilon_prv` is Opacus' independent
implementation (Gopi et al. 2021) and stands beside it in every release record.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from fedimg.errors import ConfigError
from fedimg.privacy.events import LEAST_NOISE_MULTIPLIER, Event, check_delta, merged
from fedimg.privacy.noise_shares import Closeness, closeness
from fedimg.privacy.renyi import ORDERS, epsilon_rdp

if TYPE_CHECKING:
    from dp_accounting.pld import PLDAccountant

INTERVAL, FINE_INTERVAL = 1e-3, 1e-4
Composed = Callable[[tuple[Event, ...], float], float]
"""Merged events and δ → ε."""

__all__ = [
    "Event",
    "accountant_versions",
    "calibrate",
    "epsilon",
    "epsilon_prv",
    "least_fitting",
    "of_shares",
    "pld_accountant",
]


def accountant_versions() -> dict[str, str]:
    """Names and versions of both accountants, for the release record."""
    return {
        "pld": f"dp-accounting {version('dp-accounting')}",
        "prv": f"opacus {version('opacus')}",
        "own": f"fedimg {version('fedimg')}",
    }


def methods(law: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """(name in `accountant_versions`, method) of the two accountants that noise of this law has."""
    return (("own", "RDP"), ("pld", "RDP")) if law != "gaussian" else (("pld", "PLD"), ("prv", "PRV"))


def epsilon(events: Sequence[Event], delta: float) -> float:
    """ε of all events together at `delta`, add-or-remove-one-patient, never too small.

    Privacy loss distributions on a grid of 1e-3, of 1e-4 where ε is below 1; infinite where any
    noise multiplier is below 0.2. Discretisation is pessimistic, so the true ε is at most this. Where any
    noise is discrete Gaussian, Rényi divergences of integer orders instead. Where it is a sum of sites' shares,
    what that costs beyond the Gaussian is added.
    """
    return _epsilon_by(_epsilon_pld_refined, epsilon_rdp, events, delta)


def _epsilon_by(gaussian: Composed, discrete: Composed, events: Sequence[Event], delta: float) -> float:
    """ε by the accountant of the events' law; 0 without events, infinite where some noise is too little."""
    check_delta(delta)
    together = merged(events)
    if not together:
        return 0.0
    if any(event.noise_multiplier < LEAST_NOISE_MULTIPLIER for event in together):
        return math.inf
    one_law = all(event.law == "gaussian" for event in together)
    if (near := of_shares(together)) is None:
        return (gaussian if one_law else discrete)(together, delta)
    if not one_law:
        raise ConfigError("shared noise beside Gaussian noise only", "another law", "account for them apart")
    if not math.isfinite(near.up + near.down):
        return math.inf
    alone = merged([replace(event, coordinates=0) for event in together])
    return near.epsilon(gaussian(alone, near.inner(delta)))


def of_shares(events: tuple[Event, ...]) -> Closeness | None:
    """Of all releases whose noise came in shares; None without any."""
    shared = [event for event in events if event.coordinates]
    if not shared:
        return None
    least = min(event.noise_multiplier for event in shared)
    return closeness(least, sum(event.coordinates * event.count for event in shared))


def _epsilon_pld_refined(events: tuple[Event, ...], delta: float) -> float:
    coarse = _epsilon_pld(events, delta, INTERVAL)
    return coarse if coarse >= 1 else min(coarse, _epsilon_pld(events, delta, FINE_INTERVAL))


@lru_cache(maxsize=4096)
def _epsilon_pld(events: tuple[Event, ...], delta: float, interval: float) -> float:
    return float(pld_accountant(events, interval).get_epsilon(delta))


def pld_accountant(events: Sequence[Event], interval: float = INTERVAL) -> PLDAccountant:
    """dp-accounting's accountant with all events composed, for add-or-remove-one-patient.

    Raises ConfigError for noise that is not Gaussian: its loss is not the Gaussian's.
    """
    if any(event.law != "gaussian" for event in events):
        raise ConfigError("Gaussian noise", "another law", "account for it by Rényi divergences")
    # both accountants take a second to import; most processes never ask them
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, interval)
    for event in events:
        gaussian = dp_accounting.GaussianDpEvent(event.noise_multiplier)
        one = (
            gaussian
            if event.sampling_rate == 1
            else dp_accounting.PoissonSampledDpEvent(event.sampling_rate, gaussian)
        )
        accountant.compose(one, event.count)
    return accountant


def epsilon_prv(events: Sequence[Event], delta: float) -> float:
    """The same by Opacus' PRV accountant (its upper estimate); agrees with `epsilon` within 0.02.

    Where any noise is discrete Gaussian, by dp-accounting's Rényi accountant, an implementation of its own.
    """
    return _epsilon_by(_epsilon_prv, _epsilon_second_rdp, events, delta)


@lru_cache(maxsize=512)
def _epsilon_second_rdp(events: tuple[Event, ...], delta: float) -> float:
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(ORDERS, dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    for event in events:
        gaussian = dp_accounting.GaussianDpEvent(event.noise_multiplier)
        accountant.compose(dp_accounting.PoissonSampledDpEvent(event.sampling_rate, gaussian), event.count)
    return float(accountant.get_epsilon(delta))


@lru_cache(maxsize=512)
def _epsilon_prv(events: tuple[Event, ...], delta: float) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(e.noise_multiplier, e.sampling_rate, e.count) for e in events]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # Opacus' RDP pre-estimate warns about its own range of orders and takes log(0) on purpose
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta))


def calibrate(target_epsilon: float, delta: float, event: Event, others: Sequence[Event] = ()) -> float:
    """Least noise multiplier (within 0.1 %) with which `event`, beside `others`, costs ≤ the target.

    Raises:
        ConfigError: the other events alone cost the target, or it cannot be met with noise
            multipliers up to 10⁶.
    """
    if not (math.isfinite(target_epsilon) and target_epsilon > 0):
        raise ConfigError("a finite target ε > 0", f"{target_epsilon}", "set privacy.epsilon")
    return _calibrate(target_epsilon, delta, replace(event, noise_multiplier=1.0), merged(others))


@lru_cache(maxsize=512)
def _calibrate(target: float, delta: float, one: Event, others: tuple[Event, ...]) -> float:
    def fits(noise_multiplier: float) -> bool:
        return epsilon((*others, replace(one, noise_multiplier=noise_multiplier)), delta) <= target

    if others and epsilon(others, delta) >= target:
        raise ConfigError(
            f"other releases costing less than ε = {target:g}",
            f"ε = {epsilon(others, delta):.3f}",
            "lower privacy.evaluation_share or the number of evaluations",
        )
    return least_fitting(fits, 1e-3)


def least_fitting(fits: Callable[[float], bool], tolerance: float) -> float:
    """Smallest x ≥ 0.2 (within a relative `tolerance`, from above) where the monotone `fits` holds."""
    high = 1.0
    while not fits(high):
        high *= 2
        if high > 1e6:
            raise ConfigError(
                "a budget that some noise can meet", "a noise multiplier above 10⁶", "raise privacy.epsilon"
            )
    low = high / 2
    while low >= LEAST_NOISE_MULTIPLIER and fits(low):
        low, high = low / 2, low
    low = max(low, LEAST_NOISE_MULTIPLIER)
    if fits(low):
        return low
    while high / low > 1 + tolerance:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
