"""The cost of choosing the best run against dp-accounting's own, and the law of K against its definition."""

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedimg.errors import ConfigError
from fedimg.privacy.accounting import epsilon
from fedimg.privacy.entropy import InsecureSeededEntropy
from fedimg.privacy.events import Event
from fedimg.privacy.renyi import ORDERS, rdp
from fedimg.privacy.tuning import (
    RepetitionLaw,
    Trial,
    repeat_and_select,
    selected_epsilon,
    selected_rdp,
    selection_allowance,
)
from fedimg.values import NoisedSum

RUN = (Event(2.0, 0.1, 100), Event(20.0, 1.0, 1))  # training, and the release that scores it
LAWS = [RepetitionLaw(10, 1.0), RepetitionLaw(10, 0.0), RepetitionLaw(3, 0.5), RepetitionLaw(5, math.inf)]


def reference(events, law, delta):
    """dp-accounting's RDP accountant over the same orders."""
    parts = []
    for e in events:
        gaussian = dp_accounting.GaussianDpEvent(e.noise_multiplier)
        one = (
            gaussian
            if e.sampling_rate == 1
            else dp_accounting.PoissonSampledDpEvent(e.sampling_rate, gaussian)
        )
        parts.append(dp_accounting.SelfComposedDpEvent(one, e.count))
    event = dp_event.RepeatAndSelectDpEvent(dp_accounting.ComposedDpEvent(parts), law.mean, law.shape)
    accountant = RdpAccountant(ORDERS, dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(event)
    return accountant.get_epsilon(delta)


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("delta", [1e-5, 1e-3])
def test_it_agrees_with_dp_accounting(law, delta):
    ours, theirs = selected_epsilon(RUN, law, delta), reference(RUN, law, delta)
    if math.isinf(law.shape):  # δ̂ here is by privacy loss distributions, there by a looser conversion
        assert theirs * 0.8 < ours <= theirs + 1e-6
    else:
        assert ours == pytest.approx(theirs, rel=1e-6)


def test_discrete_noise_costs_at_least_as_much_by_its_divergences():
    discrete = [Event(e.noise_multiplier, e.sampling_rate, e.count, "discrete_gaussian") for e in RUN]
    for law in LAWS:
        assert selected_epsilon(discrete, law, 1e-5) >= selected_epsilon(RUN, law, 1e-5)


def test_choosing_costs_more_than_one_run_and_less_than_all_of_them():
    one, ten = (
        epsilon(RUN, 1e-5),
        epsilon([Event(e.noise_multiplier, e.sampling_rate, 10 * e.count) for e in RUN], 1e-5),
    )
    chosen = selected_epsilon(RUN, RepetitionLaw(10, 0.0), 1e-5)
    assert one < chosen < ten


def pmf(law, k):
    """Definition 1 of Papernot & Steinke: truncated negative binomial, by scipy's own."""
    if math.isinf(law.shape):
        return stats.poisson.pmf(k, law.mean)
    if law.shape == 0:
        return stats.logser.pmf(k, 1 - law.gamma)
    untruncated = stats.nbinom(law.shape, law.gamma)
    return np.where(k > 0, untruncated.pmf(k) / (1 - untruncated.pmf(0)), 0.0)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_the_drawn_numbers_follow_the_stated_law(law):
    """χ² over the cells with at least 10 expected draws; false alarm 1e-4 a law, seed fixed."""
    entropy, n = InsecureSeededEntropy(7, str(law)), 3000
    drawn = np.bincount([law.draw(entropy) for _ in range(n)], minlength=200)
    expected = n * pmf(law, np.arange(len(drawn)))
    assert (np.arange(5000) * pmf(law, np.arange(5000))).sum() == pytest.approx(law.mean, rel=1e-6)
    cells = expected >= 10
    found = np.append(drawn[cells], n - drawn[cells].sum())
    wanted = np.append(expected[cells], n - expected[cells].sum())
    statistic = ((found - wanted) ** 2 / np.maximum(wanted, 1e-9)).sum()
    assert statistic < stats.chi2.isf(1e-4, len(wanted) - 1)
    shifted = n * pmf(RepetitionLaw(law.mean * 2, law.shape), np.arange(len(drawn)))[cells]
    assert ((drawn[cells] - shifted) ** 2 / shifted).sum() > stats.chi2.isf(
        1e-4, len(shifted)
    )  # a wrong mean shows


@settings(max_examples=20, deadline=None)
@given(st.floats(1.001, 50), st.floats(0, 5), st.floats(0.8, 8))
def test_more_runs_never_cost_less(mean, shape, noise):
    run = [Event(noise, 1.0, 1)]
    costs = [selected_epsilon(run, RepetitionLaw(m, shape), 1e-5) for m in (1.0, mean, mean + 1)]
    assert costs == sorted(costs)


def test_a_ledger_is_charged_the_cost_at_its_order():
    law = LAWS[0]
    allowance = selection_allowance(RUN, law, 16)
    assert allowance.rho(16, 1) == pytest.approx(selected_rdp(RUN, law)[ORDERS.index(16)])
    assert allowance.rho(16, 1) > sum(rdp(event, 16) for event in RUN)
    with pytest.raises(ConfigError, match="tabulated"):
        selection_allowance(RUN, law, 65)
    with pytest.raises(ConfigError, match="finite cost"):
        selection_allowance([Event(0.1, 1.0, 1)], law, 16)


def test_the_best_of_the_drawn_trials_is_chosen_by_its_noised_score():
    seen = []

    def trial():
        seen.append(len(seen))
        return Trial(seen[-1], NoisedSum(np.array([float(-abs(seen[-1] - 2))]), 1.0, "1-a"))

    law, entropy = RepetitionLaw(8, 1.0), InsecureSeededEntropy(3, "k")
    count = law.draw(InsecureSeededEntropy(3, "k"))
    best = repeat_and_select(trial, lambda measured: float(measured.vector[0]), law, entropy)
    assert len(seen) == count
    assert best.result == min(2, count - 1)


def test_an_exact_score_is_refused_and_no_run_publishes_nothing():
    exact = lambda: Trial("model", 0.93)  # noqa: E731
    with pytest.raises(ConfigError, match="noised release"):
        repeat_and_select(exact, lambda _: 1.0, RepetitionLaw(2), InsecureSeededEntropy(1, "k"))
    rare = RepetitionLaw(1, math.inf)
    results = [
        repeat_and_select(
            lambda: Trial("m", NoisedSum(np.zeros(1), 1.0, "1-a")),
            lambda _: 1.0,
            rare,
            InsecureSeededEntropy(k, "k"),
        )
        for k in range(40)
    ]
    assert None in results
    assert any(results)


@pytest.mark.parametrize(("mean", "shape"), [(0.5, 1), (math.inf, 1), (2, -1), (2, math.nan)])
def test_laws_that_are_none_are_refused(mean, shape):
    with pytest.raises(ConfigError):
        RepetitionLaw(mean, shape)
