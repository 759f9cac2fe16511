"""From what a run asks for and what a site allows to fixed public numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from fedimg.crypto.keys import SigningKey
from fedimg.errors import BudgetExhausted, ConfigError
from fedimg.privacy import accounting
from fedimg.privacy.events import Event
from fedimg.privacy.ledger import Ledger, LedgerTerms
from fedimg.privacy.noise_shares import NoiseShares
from fedimg.privacy.planned import EVALUATE, TRAIN, PrivacyPlan
from fedimg.privacy.policy import SitePolicy
from fedimg.privacy.renyi import best_order, epsilon_rdp, rdp
from fedimg.privacy.request import DISTRIBUTED, PrivacyRequest

__all__ = [
    "EVALUATE",
    "FILTER_HEADROOM",
    "SCRATCH_HEADROOM",
    "TRAIN",
    "PrivacyPlan",
    "common_plan",
    "make_plan",
    "recomputed",
    "scratch_ledger",
]

# The filter's conversion is looser than a privacy loss distribution: at equal ε it wants 7–13 % more noise
# (measured for ε 0.5 to 8, q 0.1 to 1). A plan may be raised by that much to fit; needing more means that
# the budget is short, and the plan is refused rather than drowned in noise.
FILTER_HEADROOM = 1.15
# Where evaluation has patients of its own it takes half of ε, so that training is the costlier role at every
# Rényi order and its noise is what the ledger's order is chosen for.
HELD_OUT_SHARE = 0.5
# A scratch ledger opens with so much more than one run's ε, so that the filter never moves its noise.
SCRATCH_HEADROOM = 1.25
# The order is chosen for training; evaluation's has to fit too.
_SCRATCH_ROOM = 1.05
# Halvings of the interval (0, ε) when a refusal names the ε that would fit: to 1 % of what was asked.
_SEARCH_STEPS = 7
# Two builds' accountants may differ in the last digits; a promise by less than this is the same.
_SAME = 1e-3


def make_plan(
    request: PrivacyRequest, policy: SitePolicy, ledger: Ledger | None, shares: NoiseShares | None = None
) -> PrivacyPlan:
    """Fix the noise of a run: ε by privacy loss distributions *and* the ledger's filter must hold.

    `shares` are of the secure sums that `distributed` stands on; its noise is common to all sites, and a ledger that
    cannot hold it refuses, where otherwise the site's own noise is raised to fit.

    Training noise is calibrated such that no patient's releases, retries included, cost more than ε;
    evaluation noise on half of ε for held-out patients, or on its share of (ε, δ). With `privacy=none` the plan has no noise, and no ledger is asked.

    Raises:
        PolicyRefused: the site does not allow it. BudgetExhausted: it does not fit the ledger.
    """
    policy.check(request)
    plan = _calibrated(request, policy.declared_patients, shares)
    if request.mode == "none":
        return plan
    if ledger is None:
        raise ConfigError("a ledger for a private run", "none", "open the site's ledger")
    plan = _raised_to_fit(plan, ledger)
    policy.check_noise(plan.noise_multiplier)
    return plan


def scratch_ledger(
    path: Path,
    signing_key: SigningKey,
    request: PrivacyRequest,
    policy: SitePolicy,
    epsilon_max: float | None = None,
) -> Ledger:
    """A new ledger for a simulated site: ε_max = 1.25 ε unless given, the order that suits the run best.

    With `distributed` it is opened with whatever more the filter needs: its noise is not raised to fit.
    """
    plan = _calibrated(request, policy.declared_patients, NoiseShares(3, 3, 1, 1))
    most = SCRATCH_HEADROOM * request.epsilon if epsilon_max is None else epsilon_max
    if request.mode == DISTRIBUTED:
        most = max(most, *(_SCRATCH_ROOM * epsilon_rdp(role, request.delta) for role in plan.roles))
    order = best_order(most, request.delta, plan.roles[0])
    return Ledger.create(path, signing_key, LedgerTerms(most, request.delta, order, scratch=True))


def recomputed(plan: PrivacyPlan) -> tuple[float, float]:
    """ε of a plan by both accountants, from its releases alone and not from what it states."""
    again = _accounted(plan)
    return again.epsilon, again.epsilon_second


def is_plan_for(
    plan: PrivacyPlan, request: PrivacyRequest, declared_patients: int, shares: NoiseShares | None
) -> bool:
    """Whether a site of that declared size could have made this plan: judged by whoever only hears of it.

    Its noise is that of the request, or what a ledger had it raised by; what it states of ε follows from it.
    """
    if plan.request != request or plan.declared_patients != declared_patients:
        return False
    own = _calibrated(request, declared_patients, shares)
    if plan.sampling_rate != own.sampling_rate or plan.shares != own.shares:
        return False
    most = FILTER_HEADROOM if request.mode != DISTRIBUTED else 1.0
    noises = (
        (plan.noise_multiplier, own.noise_multiplier),
        (plan.evaluation_noise_multiplier, own.evaluation_noise_multiplier),
    )
    if not all(mine * (1 - _SAME) <= theirs <= mine * most * (1 + _SAME) for theirs, mine in noises):
        return False
    again = _accounted(plan)
    stated = ((plan.epsilon, again.epsilon), (plan.epsilon_second, again.epsilon_second))
    return all(math.isfinite(mine) and abs(theirs - mine) <= _SAME for theirs, mine in stated)


def common_plan(request: PrivacyRequest, declared_patients: int, shares: NoiseShares) -> PrivacyPlan:
    """The plan of a `distributed` run at a site of that size: its noise follows from public numbers alone."""
    return _calibrated(request, declared_patients, shares)


def _calibrated(
    request: PrivacyRequest, declared_patients: int, shares: NoiseShares | None = None
) -> PrivacyPlan:
    if request.mode == DISTRIBUTED:
        if shares is None:
            raise ConfigError("secure sums in a run with privacy=distributed", "none", "set secagg=pairwise")
        plan = _with_noise(request, declared_patients, shares.coordinates)
        return _accounted(
            replace(
                plan,
                sum_sites=shares.sites,
                sum_threshold=shares.threshold,
                sum_colluders=shares.colluders,
                coordinates=shares.coordinates,
            )
        )
    plan = _with_noise(request, declared_patients)
    return plan if request.mode == "none" else _accounted(plan)


def _with_noise(request: PrivacyRequest, declared_patients: int, coordinates: int = 0) -> PrivacyPlan:
    """The plan whose ε is not yet stated: infinite."""
    rate = request.rate_at(declared_patients)
    if request.mode == "none":
        return PrivacyPlan(request, declared_patients, rate, 0.0, 0.0, math.inf, math.inf)
    law, evaluation = request.noise_law, 0.0
    others: tuple[Event, ...] = ()
    if request.evaluations:
        count, share = request.evaluations + request.evaluation_retries, request.evaluation_share
        epsilon, delta = request.epsilon * (share or HELD_OUT_SHARE), request.delta * (share or 1.0)
        one = Event(1.0, 1.0, count, law, coordinates)
        evaluation = accounting.calibrate(epsilon, delta, one)
        if share is not None:
            others = (replace(one, noise_multiplier=evaluation),)
    one = Event(1.0, rate, request.steps + request.retries, law, coordinates)
    noise = accounting.calibrate(request.epsilon, request.delta, one, others)
    return PrivacyPlan(request, declared_patients, rate, noise, evaluation, math.inf, math.inf)


def _accounted(plan: PrivacyPlan) -> PrivacyPlan:
    first, second = (
        max(accountant(role, plan.delta) for role in plan.roles)
        for accountant in (accounting.epsilon, accounting.epsilon_prv)
    )
    return replace(plan, epsilon=first, epsilon_second=second)


def _raised_to_fit(plan: PrivacyPlan, ledger: Ledger) -> PrivacyPlan:
    if _fits(plan, ledger):
        return plan
    if plan.mode == DISTRIBUTED or not _fits(plan, ledger, FILTER_HEADROOM):
        largest = _largest_epsilon(plan, ledger)
        raise BudgetExhausted(
            f"room for ε = {plan.epsilon:.3g} in this site's ledger",
            f"{max(0.0, ledger.remaining):.4g} left at Rényi order {ledger.terms.order}",
            f"ask for privacy.epsilon={largest:g} or less: the largest that still fits"
            if largest
            else "no run of this kind fits any more: end it here, or ask for fewer rounds",
        )
    low, high = 1.0, FILTER_HEADROOM
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if _fits(plan, ledger, middle) else (middle, high)
    raised = replace(
        plan,
        noise_multiplier=plan.noise_multiplier * high,
        evaluation_noise_multiplier=plan.evaluation_noise_multiplier * high,
    )
    return _accounted(raised)


def _fits(plan: PrivacyPlan, ledger: Ledger, factor: float = 1.0) -> bool:
    """Whether the plan, with `factor` times its noise, costs no more than the ledger has left."""

    def cost(role: tuple[Event, ...]) -> float:
        raised = (replace(e, noise_multiplier=e.noise_multiplier * factor) for e in role)
        return math.fsum(rdp(event, ledger.terms.order) for event in raised)

    return max(map(cost, plan.roles)) <= ledger.remaining


def _largest_epsilon(plan: PrivacyPlan, ledger: Ledger) -> float:
    """The largest ε, to two digits, with which the same run would fit; 0 where none does."""
    low, high = 0.0, plan.request.epsilon
    headroom = 1.0 if plan.mode == DISTRIBUTED else FILTER_HEADROOM
    for _ in range(_SEARCH_STEPS):
        middle = (low + high) / 2
        smaller = _with_noise(replace(plan.request, epsilon=middle), plan.declared_patients, plan.coordinates)
        low, high = (middle, high) if _fits(smaller, ledger, headroom) else (low, middle)
    digits = 1 - math.floor(math.log10(low)) if low else 0
    return math.floor(low * 10.0**digits) / 10.0**digits
