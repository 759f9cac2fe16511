"""Bounds from an attack's errors."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from fedimg.audit.bounds import (
    Errors,
    Scored,
    audited_epsilon,
    clopper_pearson,
    epsilon_lower_bound,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_lower_bound,
)
from fedimg.errors import ConfigError
from fedimg.privacy import accounting
from fedimg.privacy.events import Event


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.9, 0.95, 0.99]))
def test_intervals_are_scipys_exact_ones(trials, share, confidence):
    hits = round(share * trials)
    found = clopper_pearson(hits, trials, confidence)
    expected = binomtest(hits, trials).proportion_ci(confidence, "exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert found.low <= found.value <= found.high


def test_nothing_tried_shows_nothing_and_impossible_counts_are_refused():
    assert clopper_pearson(0, 0).high == 1
    with pytest.raises(ConfigError, match="hits between 0 and the trials; found 3 of 2"):
        clopper_pearson(3, 2)


def test_a_perfect_attack_on_n_and_n_shows_what_its_upper_bounds_allow():
    """No error in 1000 and 1000: each rate ≤ 1 − 0.025^(1/1000) with one-sided 97.5 %."""
    upper = 1 - 0.025**0.001
    errors = Errors(0, 1000, 0, 1000)
    assert errors.upper(0.95) == pytest.approx((upper, upper), rel=1e-9)
    assert epsilon_lower_bound(errors, 1e-5) == pytest.approx(math.log((1 - 1e-5 - upper) / upper), rel=1e-9)
    assert gaussian_lower_bound(errors) == pytest.approx(-2 * norm.ppf(upper), rel=1e-9)


@pytest.mark.parametrize("mu", [0.3, 1.0, 4.0])
def test_the_gaussian_epsilon_is_the_accountants(mu):
    assert gaussian_epsilon(mu, 1e-5) == pytest.approx(
        accounting.epsilon([Event(1 / mu, 1.0, 1)], 1e-5), abs=2e-3
    )
    assert gaussian_delta(mu, gaussian_epsilon(mu, 1e-5)) == pytest.approx(1e-5, rel=1e-6)


def test_no_privacy_loss_is_no_loss():
    assert gaussian_epsilon(0.0, 1e-5) == 0
    assert gaussian_lower_bound(Errors(50, 100, 50, 100)) == 0
    assert epsilon_lower_bound(Errors(50, 100, 50, 100), 1e-5) == 0


def test_bounds_on_a_known_gaussian_hold_and_are_not_empty():
    """100 audits of μ = 1.5 with 2 × 1000 scores, each bound wrong with chance ≤ 5 %: > 15 wrong has chance 10⁻⁴."""
    generator, mu, delta = np.random.default_rng(2), 1.5, 1e-5
    true, found = gaussian_epsilon(mu, delta), []
    for _ in range(100):
        scored = Scored(generator.normal(size=1000), mu + generator.normal(size=1000))
        found.append(audited_epsilon(scored, delta, generator))
    general, gaussian = np.array(found).T
    assert (gaussian > true).sum() <= 15
    assert (general > true).sum() == 0
    assert np.median(gaussian) > 0.6 * true
    assert np.median(general) < np.median(gaussian)


def test_the_threshold_never_sees_the_half_that_is_evaluated():
    """All scores outside and inside alike: choosing and evaluating on the same scores would often show something."""
    generator = np.random.default_rng(4)
    found = [
        audited_epsilon(Scored(generator.normal(size=60), generator.normal(size=60)), 1e-5, generator)[1]
        for _ in range(60)
    ]
    assert np.mean(np.array(found) > 0) <= 0.15
    first, second = Scored(np.arange(10.0), np.arange(7.0)).halves(generator)
    assert len(first.outside) + len(second.outside) == 10
    assert sorted([*first.inside, *second.inside]) == list(range(7))
