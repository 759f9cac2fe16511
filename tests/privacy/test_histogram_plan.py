"""Drift histograms as one release: k histograms move by √k, and what that costs agrees with another accountant."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, NeighboringRelation
from dp_accounting.rdp import RdpAccountant
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import BudgetExhausted, ConfigError, PolicyRefused
from fedimg.privacy.entropy import OsEntropy
from fedimg.privacy.histogram_plan import LAW, RELEASE, ROLE, HistogramPlan, epsilon_of, sensitivity
from fedimg.privacy.plan import ChargedReleases
from fedimg.privacy.policy import SitePolicy
from fedimg.privacy.renyi import ORDERS
from fedimg.values import ClippedSum


@given(st.integers(1, 200))
def test_the_sensitivity_is_the_root_rounded_up_and_by_no_more_than_two_steps(k):
    bound = sensitivity(k)
    assert Fraction(bound) ** 2 >= k
    assert Fraction(math.nextafter(math.nextafter(bound, 0), 0)) ** 2 < k


@pytest.mark.parametrize(("epsilon", "k"), [(0.2, 1), (1.0, 6), (3.0, 9)])
def test_the_noise_is_what_another_accountant_says(epsilon, k):
    plan = HistogramPlan.made("of these", k, epsilon, 1e-5)
    other = RdpAccountant(ORDERS, neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE)
    other.compose(GaussianDpEvent(plan.noise_multiplier))
    found = other.get_epsilon(1e-5)
    assert found <= epsilon * (1 + 1e-9)
    assert found == pytest.approx(epsilon, rel=0.005)  # no more noise than is needed, within 0.1 %
    assert (
        epsilon_of(plan.noise_multiplier * 0.9, 1e-5) > epsilon * 1.05
    )  # a tenth less noise keeps no promise


def test_the_plan_names_what_it_is_of():
    plan = HistogramPlan.made("of these", 6, 1.0, 1e-5)
    assert plan.digest == replace(plan).digest
    changed = {
        "subject": "of others",
        "histograms": 5,
        "epsilon": 0.9,
        "delta": 1e-6,
        "noise_multiplier": 4.0,
    }
    digests = {replace(plan, **{name: value}).digest for name, value in changed.items()}
    assert len(digests | {plan.digest}) == 6


def test_a_release_has_the_noise_that_was_planned_and_is_charged_once(ledger_for):
    plan = HistogramPlan.made("of these", 4, 1.0, 1e-5)
    ledger = ledger_for(plan)
    ledger.enrol("run", {ROLE: ["a", "b"]}, "k")
    size = 20_000
    releases = ChargedReleases(plan.digest, LAW, ledger, OsEntropy())
    noised = releases.release(
        RELEASE, lambda: ClippedSum(np.full(size, 7.0), plan.sensitivity), plan.noise_multiplier
    )
    std = plan.noise_multiplier * plan.sensitivity
    drawn = np.rint(noised.vector) - 7.0
    # of a sample variance of n normal values: 5 standard deviations, √(2/n) each
    assert abs(drawn.var() / (std**2 + 1 / 12) - 1) < 5 * math.sqrt(2 / size)
    assert (
        abs(drawn.var() / (plan.noise_multiplier**2) - 1) > 1
    )  # noise for one histogram is not that for four
    with pytest.raises(BudgetExhausted):
        releases.release(RELEASE, lambda: pytest.fail("nothing is read after a refused charge"), 1.0)
    assert ledger.statement.runs["run"].charged == {RELEASE: 1}


def test_the_policy_bounds_what_a_file_may_cost():
    policy = SitePolicy(1000, max_drift_epsilon=0.5)
    policy.check_drift(0.5, 1e-5)
    for site, epsilon, delta in (
        (policy, 0.51, 1e-5),
        (policy, float("nan"), 1e-5),
        (policy, 0.5, 1.1e-4),  # above 1/(10 · patients)
        (replace(policy, allowed_noise=("gaussian",)), 0.5, 1e-5),
        (replace(policy, min_patients=1001), 0.5, 1e-5),
        (replace(policy, max_epsilon=0.3), 0.4, 1e-5),
        (replace(policy, max_drift_epsilon=0.0), 1e-9, 1e-5),
    ):
        with pytest.raises(PolicyRefused):
            site.check_drift(epsilon, delta)
    with pytest.raises(ConfigError, match="max_drift_epsilon"):
        SitePolicy(1000, max_drift_epsilon=-0.1)
