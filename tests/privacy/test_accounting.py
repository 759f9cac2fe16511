import math

import pytest
from scipy.special import ndtr

from fedimg.errors import ConfigError
from fedimg.privacy.accounting import Event, accountant_versions, calibrate, epsilon, epsilon_prv

# privacy design §3: (σ, q, T, δ, ε)
PUBLISHED = [(1.0, 0.01, 1000, 1e-5, 1.829), (2.0, 0.1, 500, 1e-5, 5.556), (4.0, 0.25, 200, 1e-3, 2.784)]


@pytest.mark.parametrize(("sigma", "q", "steps", "delta", "expected"), PUBLISHED)
def test_reference_values(sigma, q, steps, delta, expected):
    assert epsilon([Event(sigma, q, steps)], delta) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(("sigma", "q", "steps", "delta", "expected"), PUBLISHED)
def test_the_second_accountant_agrees(sigma, q, steps, delta, expected):
    assert epsilon_prv([Event(sigma, q, steps)], delta) == pytest.approx(expected, abs=0.02)


def test_a_mixture_of_kinds_agrees_with_the_second_accountant():
    events = [Event(1.7, 0.25, 100), Event(20.0, 1.0, 5)]
    assert epsilon(events, 2e-5) == pytest.approx(epsilon_prv(events, 2e-5), abs=0.02)


@pytest.mark.parametrize(("sigma", "count"), [(1.0, 1), (3.0, 4), (60.0, 9)])
def test_the_plain_gaussian_has_its_closed_form(sigma, count):
    """Balle & Wang 2018, Theorem 8, with μ = √count/σ: δ(ε) = Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ)."""
    mu = math.sqrt(count) / sigma

    def delta(eps):
        return ndtr(mu / 2 - eps / mu) - math.exp(eps) * ndtr(-mu / 2 - eps / mu)

    found = epsilon([Event(sigma, 1.0, count)], 1e-5)
    assert delta(found) <= 1e-5 <= delta(found - 0.003)


def test_the_cost_does_not_depend_on_how_equal_events_are_listed():
    together = epsilon([Event(2.0, 0.1, 50), Event(9.0, 1.0, 2)], 1e-5)
    apart = epsilon([Event(2.0, 0.1, 20), Event(9.0, 1.0, 2), Event(2.0, 0.1, 30), Event(1.0, 0.5, 0)], 1e-5)
    assert together == apart


def test_nothing_costs_nothing_and_too_little_noise_is_not_private():
    assert epsilon([], 1e-5) == epsilon_prv([Event(1.0, 0.5, 0)], 1e-5) == 0
    assert epsilon([Event(0.19, 0.01, 1)], 1e-5) == epsilon_prv([Event(0.0, 1.0, 1)], 1e-5) == math.inf


@pytest.mark.parametrize(
    ("target", "delta", "q", "steps"), [(8.0, 2e-5, 0.25, 100), (1.0, 1e-5, 0.05, 300), (0.5, 1e-5, 1.0, 10)]
)
def test_calibration_ends_on_the_safe_side_and_wastes_nothing(target, delta, q, steps):
    others = (Event(calibrate(0.1 * target, 0.1 * delta, Event(1.0, 1.0, 2)), 1.0, 2),)
    sigma = calibrate(target, delta, Event(1.0, q, steps), others)
    assert epsilon([*others, Event(sigma, q, steps)], delta) <= target
    assert epsilon([*others, Event(sigma / 1.002, q, steps)], delta) > target


def test_a_huge_epsilon_never_goes_below_the_least_noise():
    assert calibrate(1e5, 1e-5, Event(1.0, 0.01, 1)) == 0.2


def test_other_releases_that_eat_the_whole_budget_are_refused():
    with pytest.raises(ConfigError, match="other releases costing less than ε = 1"):
        calibrate(1.0, 1e-5, Event(1.0, 0.1, 10), (Event(1.0, 1.0, 1),))


@pytest.mark.parametrize(
    ("sigma", "q", "count"),
    [(-1.0, 0.1, 1), (math.nan, 0.1, 1), (1.0, 0.0, 1), (1.0, 1.1, 1), (1.0, 0.1, -1)],
)
def test_events_that_no_mechanism_has_are_refused(sigma, q, count):
    with pytest.raises(ConfigError):
        Event(sigma, q, count)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5])
def test_a_delta_that_promises_nothing_is_refused(delta):
    with pytest.raises(ConfigError, match="a δ between 0 and 1"):
        epsilon([Event(1.0, 0.1, 1)], delta)


def test_both_accountants_are_named_with_their_versions():
    assert accountant_versions()["pld"].startswith("dp-accounting ")
    assert accountant_versions()["prv"].startswith("opacus ")


@pytest.mark.parametrize(("sigma", "q", "steps", "delta"), [(1.0, 0.01, 1000, 1e-5), (3.0, 1.0, 9, 1e-5)])
def test_discrete_noise_is_accounted_by_renyi_divergences_and_never_cheaper(sigma, q, steps, delta):
    discrete = [Event(sigma, q, steps, "discrete_gaussian")]
    found = epsilon(discrete, delta)
    assert found == pytest.approx(epsilon_prv(discrete, delta), rel=0.01)
    assert found > epsilon([Event(sigma, q, steps)], delta)
    assert epsilon([*discrete, Event(20.0, 1.0, 1)], delta) > found


def test_calibration_of_discrete_noise_meets_its_own_accountant():
    sigma = calibrate(3.0, 1e-5, Event(1.0, 0.1, 200, "discrete_gaussian"))
    assert epsilon([Event(sigma, 0.1, 200, "discrete_gaussian")], 1e-5) <= 3.0
    assert epsilon([Event(sigma / 1.002, 0.1, 200, "discrete_gaussian")], 1e-5) > 3.0
    assert sigma > calibrate(3.0, 1e-5, Event(1.0, 0.1, 200))


def test_a_law_that_no_accountant_knows_is_refused():
    with pytest.raises(ConfigError, match="gaussian or discrete_gaussian; found skellam"):
        Event(1.0, 0.1, 1, "skellam")


@pytest.mark.parametrize(
    ("sigma", "q", "steps"),
    [(0.7, 0.02, 10), (0.7, 0.02, 200), (1.5, 0.2, 10), (1.5, 0.02, 400), (5.0, 0.2, 400), (5.0, 1.0, 10)],
)
def test_both_accountants_agree_over_a_grid(sigma, q, steps):
    found = epsilon([Event(sigma, q, steps)], 1e-5)
    assert 0.05 < found < 10
    assert epsilon_prv([Event(sigma, q, steps)], 1e-5) == pytest.approx(found, abs=0.02)


def test_the_grid_of_losses_is_a_thousandth_and_rounds_up():
    """A grid ten times finer costs less, by at most the coarse grid's width a composed loss."""
    from fedimg.privacy.accounting import INTERVAL, _epsilon_pld

    assert INTERVAL == 1e-3
    events = (Event(2.0, 0.1, 500),)
    fine = _epsilon_pld(events, 1e-5, 1e-4)
    assert 0 <= epsilon(events, 1e-5) - fine < 0.01
