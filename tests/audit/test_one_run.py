"""One-run audits: against exact arithmetic, another accountant, and mechanisms whose privacy is known."""

import math
from fractions import Fraction

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from fedimg.audit import one_run
from fedimg.audit.one_run import gaussian_curve, rejects
from fedimg.errors import ConfigError


def exact_p_value(odds, delta, right, guesses, canaries):
    """Theorem 5.2 in fractions, e^ε = `odds`, by summing the binomial's terms."""
    q = Fraction(odds, odds + 1)

    def at_least(v):
        return sum(
            math.comb(guesses, k) * q**k * (1 - q) ** (guesses - k) for k in range(max(0, v), guesses + 1)
        )

    beta = at_least(right)
    steps = [(at_least(right - i) - beta) / i for i in range(1, right + 1)]
    return min(Fraction(1), beta + 2 * canaries * Fraction(delta) * max(steps, default=Fraction(0)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_p_value_is_that_of_exact_arithmetic(data):
    canaries = data.draw(st.integers(1, 40))
    guesses = data.draw(st.integers(0, canaries))
    right = data.draw(st.integers(0, guesses))
    odds = data.draw(st.integers(1, 20))
    delta = data.draw(st.sampled_from([Fraction(0), Fraction(1, 100_000), Fraction(1, 100)]))
    expected = float(exact_p_value(odds, delta, right, guesses, canaries))
    found = one_run.p_value(math.log(odds), float(delta), right, guesses, canaries)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("right", "guesses", "canaries", "delta", "expected"),
    [
        # all of n right: q^n = 0.05, so e^ε = q/(1 − q)
        (100, 100, 100, 0.0, math.log(0.05**0.01 / (1 - 0.05**0.01))),
        (10, 10, 1000, 0.0, math.log(0.05**0.1 / (1 - 0.05**0.1))),
        (50, 100, 100, 0.0, 0.0),
    ],
)
def test_the_bound_where_it_can_be_solved_by_hand(right, guesses, canaries, delta, expected):
    found = one_run.epsilon_lower_bound(right, guesses, canaries, delta)
    assert found == pytest.approx(expected, abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 200), st.floats(0.5, 1), st.sampled_from([0.0, 1e-5, 1e-3]))
def test_the_bound_is_where_the_p_value_crosses_and_more_delta_shows_less(canaries, share, delta):
    right = int(share * canaries)
    bound = one_run.epsilon_lower_bound(right, canaries, canaries, delta)
    assert bound <= one_run.epsilon_lower_bound(right, canaries, canaries, 0.0) + 1e-6
    if bound > 0.01:
        assert one_run.p_value(bound - 0.01, delta, right, canaries, canaries) < 0.05
        assert one_run.p_value(bound + 0.01, delta, right, canaries, canaries) > 0.05


def test_55_right_of_100_never_reject_a_mu_of_one():
    assert not rejects(55, 100, 100, gaussian_curve(1.0))


@pytest.mark.parametrize("mu", [0.5, 1.0])
def test_a_gaussian_mechanism_is_rejected_no_oftener_than_said(mu):
    """100 runs of 400 canaries, each told N(±μ/2, 1), at significance 0.05; more than 17 of 100 has chance 10⁻⁵."""
    generator, wrong = np.random.default_rng(3), 0
    for _ in range(100):
        inside = generator.random(400) < 0.5
        scores = np.where(inside, mu / 2, -mu / 2) + generator.normal(size=400)
        right = one_run.right_guesses(scores, inside, 60, 60)
        wrong += rejects(right, 120, 400, gaussian_curve(mu))
    assert wrong <= 17


def test_too_little_noise_is_rejected_and_tighter_than_by_epsilon_and_delta():
    generator, mu = np.random.default_rng(1), 3.0
    inside = generator.random(10_000) < 0.5
    scores = mu * inside + generator.normal(size=10_000)
    right = one_run.right_guesses(scores, inside, 500, 500)
    assert rejects(right, 1000, 10_000, gaussian_curve(1.0))
    assert not rejects(right, 1000, 10_000, gaussian_curve(mu))
    by_curve = one_run.f_dp_epsilon(right, 1000, 10_000, 1e-5)
    by_pair = one_run.epsilon_lower_bound(right, 1000, 10_000, 1e-5)
    true = one_run.gaussian_epsilon(mu, 1e-5)
    assert by_pair < by_curve < true


@pytest.mark.parametrize(("noise", "rate"), [(1.0, 0.1), (0.6, 0.5), (3.0, 0.9)])
def test_both_orders_are_those_of_the_accountants_loss_distribution(noise, rate):
    """δ(ε) = sup_x 1 − f(x) − e^ε·x, against dp-accounting's single subsampled Gaussian (grid 10⁻⁴)."""
    reference = pld.from_gaussian_mechanism(noise, sampling_prob=rate, value_discretization_interval=1e-4)
    points = norm.sf(np.linspace(-6, 6, 300))
    curves = one_run.subsampled_curves(noise, rate)
    forward = np.array([curves[0](float(x)) for x in points])
    backward = np.array([curves[1](float(x)) for x in points])
    for epsilon in (0.1, 0.5, 1.0):
        deltas = [float(np.max(1 - f - math.exp(epsilon) * points)) for f in (forward, backward)]
        assert max(deltas) == pytest.approx(reference.get_delta_for_epsilon(epsilon), rel=2e-3, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.2, 5), st.floats(0.01, 0.99), st.floats(0.001, 0.999))
def test_the_two_orders_are_inverse_to_each_other(noise, rate, x):
    forward, backward = one_run.subsampled_curves(noise, rate)
    assert backward(forward(x)) == pytest.approx(x, abs=1e-6)
    assert forward(x) <= 1 - x + 1e-12


def test_a_subsampled_claim_falls_only_if_neither_order_explains_it():
    assert one_run.rejects_subsampled(95, 100, 100, (1.0, 0.1))
    assert not one_run.rejects_subsampled(55, 100, 100, (1.0, 0.1))


def test_guesses_are_the_ends_of_the_ranking_and_the_rest_is_abstained():
    scores = np.array([0.3, -2.0, 5.0, 0.1, 1.0])
    inside, outside = one_run.guesses_of(scores, 1, 2)
    assert inside.tolist() == [2]
    assert sorted(outside.tolist()) == [1, 3]
    assert one_run.right_guesses(scores, np.array([1, 0, 1, 1, 0], dtype=bool), 1, 2) == 2
    with pytest.raises(ConfigError, match="at most 5 guesses; found 6"):
        one_run.guesses_of(scores, 3, 3)


def test_impossible_counts_are_refused():
    with pytest.raises(ConfigError, match="right guesses ≤ guesses ≤ canaries; found 5, 4 and 10"):
        one_run.p_value(1.0, 0.0, 5, 4, 10)
