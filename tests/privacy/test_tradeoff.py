"""The claimed trade-off curve against closed forms, an attack that is best possible, and published figures."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from fedimg.errors import ConfigError
from fedimg.privacy.accounting import epsilon, pld_accountant
from fedimg.privacy.events import Event
from fedimg.privacy.tradeoff import exposure, exposure_of_epsilon, trade_off

RATES = (1e-4, 1e-3, 1e-2, 0.1, 0.5, 0.9)


@pytest.mark.parametrize(("noise", "steps"), [(2.9, 25), (10.0, 4), (1.0, 1)])
def test_the_gaussian_mechanism_has_its_closed_form(noise, steps):
    """T releases with σ are one Gaussian of μ = √T/σ, whose 1 − f(α) = Φ(Φ⁻¹(α) + μ) (Dong et al. 2022)."""
    curve, mu = trade_off([Event(noise, 1.0, steps)]), math.sqrt(steps) / noise
    for rate in RATES:
        exact = norm.cdf(norm.ppf(rate) + mu)
        assert exact - 1e-12 <= curve.power(rate) <= exact + 1e-5  # an upper bound, and a close one
    assert curve.advantage == pytest.approx(2 * norm.cdf(mu / 2) - 1, abs=1e-5)


@pytest.mark.parametrize(("noise", "rate"), [(1.0, 0.1), (0.7, 0.3), (2.0, 0.5)])
def test_no_attack_on_one_subsampled_step_passes_it_and_the_best_one_reaches_it(noise, rate):
    """Present: (1−q)N(0,σ²) + qN(1,σ²), absent: N(0,σ²). The likelihood ratio is monotone in the output, so
    thresholds are the best tests (Neyman & Pearson), of either hypothesis.
    """
    curve = trade_off([Event(noise, rate, 1)])
    best = 0.0
    for threshold in np.linspace(-8, 12, 400):
        absent = norm.sf(threshold / noise)
        present = (1 - rate) * absent + rate * norm.sf((threshold - 1) / noise)
        assert present <= curve.power(absent) + 1e-12
        assert 1 - absent <= curve.power(1 - present) + 1e-12  # the same test, said the other way round
        best = max(best, present - absent)
    assert curve.advantage == pytest.approx(best, abs=1e-3)


# Privacy design §5C, at κ = 1 %. σ is calibrated at δ = 1e-4, q = 0.05, T = 500.
@pytest.mark.parametrize(
    ("claimed", "noise", "bound"), [(1, 3.69043, 0.022), (3, 1.57918, 0.063), (8, 0.901617, 0.252)]
)
def test_the_reference_reconstruction_bounds(claimed, noise, bound):
    events = [Event(noise, 0.05, 500)]
    assert epsilon(events, 1e-4) == pytest.approx(claimed, abs=0.01)
    assert exposure([events]).reconstruction == pytest.approx(bound, abs=5e-4)


def test_epsilon_is_a_point_of_the_curve():
    """The supporting line of the stated (ε, δ) lies nowhere above f: else card and claim were of two mechanisms."""
    events = [Event(1.1, 0.1, 100), Event(8.0, 1.0, 2)]
    curve, stated = trade_off(events), epsilon(events, 1e-5)
    for rate in RATES:
        assert 1 - curve.power(rate) >= 1 - 1e-5 - math.exp(stated) * rate - 1e-9
        assert curve.power(rate) <= exposure_point(stated, 1e-5, rate) + 1e-6


def exposure_point(claimed, delta, rate):
    """1 − f of (ε, δ) alone: min(1, e^ε α + δ, 1 − e^−ε (1 − δ − α))."""
    return min(1, math.exp(claimed) * rate + delta, 1 - math.exp(-claimed) * (1 - delta - rate))


@settings(max_examples=50, deadline=None)
@given(st.floats(0.05, 12), st.floats(1e-8, 1e-3), st.floats(0.0, 1.0))
def test_from_epsilon_alone_it_is_the_definition(claimed, delta, rate):
    found = exposure_of_epsilon(claimed, delta)
    assert found.true_positives == pytest.approx(exposure_point(claimed, delta, 1e-3))
    # Kairouz, Oh & Viswanath 2015: the total variation of (ε, δ)-indistinguishable pairs
    most = (math.expm1(claimed) + 2 * delta) / (1 + math.exp(claimed))
    assert found.advantage == pytest.approx(most)
    assert all(a <= p + 1e-12 <= 1 + 2e-12 for a, p in found.curve)


def test_the_worst_of_several_roles_counts_and_no_noise_has_no_figures():
    weak, strong = [Event(0.8, 1.0, 1)], [Event(5.0, 1.0, 1)]
    assert exposure([strong, weak]) == exposure([weak])
    assert exposure([strong]).true_positives < exposure([weak]).true_positives
    assert exposure([strong, [Event(0.1, 1.0, 1)]]) is None


def test_the_curve_never_falls():
    curve = exposure([[Event(1.0, 0.2, 50)]]).curve
    assert all(b[1] >= a[1] for a, b in pairwise(curve))
    assert curve[-1] == pytest.approx((1.0, 1.0))


def test_discrete_noise_is_never_given_the_gaussians_curve():
    """Its bounds come from Rényi divergences: wider than the Gaussian's, and through its own (ε, δ)."""
    discrete, gaussian = (Event(1.2, 0.2, 60, law) for law in ("discrete_gaussian", "gaussian"))
    curve, narrow = trade_off([discrete]), trade_off([gaussian])
    for rate in RATES:
        assert curve.power(rate) >= narrow.power(rate)
        assert curve.power(rate) <= exposure_point(epsilon([discrete], 1e-5), 1e-5, rate) + 1e-4
    with pytest.raises(ConfigError, match="Gaussian noise"):
        pld_accountant([discrete])
