import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting.rdp import RdpAccountant
from scipy.special import logsumexp

from fedimg.errors import ConfigError
from fedimg.privacy.events import Event
from fedimg.privacy.renyi import best_order, filter_budget, rdp, rdp_conversion


@pytest.mark.parametrize("order", [2, 3, 8, 32])
@pytest.mark.parametrize(("sigma", "q"), [(1.0, 0.01), (2.0, 0.25), (0.7, 0.9), (5.0, 1.0)])
def test_costs_and_conversion_are_those_of_dp_accounting(order, sigma, q):
    """Oracle: Google's accountant at a single order; its ε is ρ + conv, cut at 0."""
    count, delta = 40, 1e-5
    accountant = RdpAccountant([order], dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(sigma)), count)
    mine = rdp(Event(sigma, q, count), order) + rdp_conversion(order, delta)
    assert max(0.0, mine) == pytest.approx(accountant.get_epsilon(delta), rel=1e-9, abs=1e-12)


def test_the_second_order_by_hand():
    """α = 2: A = (1−q)² + 2q(1−q) + q² e^{1/σ²} = 1 + q²(e^{1/σ²} − 1)."""
    assert rdp(Event(1.5, 0.3, 1), 2) == pytest.approx(math.log1p(0.09 * math.expm1(1 / 1.5**2)))


def test_no_release_costs_nothing_and_no_noise_costs_everything():
    assert rdp(Event(1.0, 0.1, 0), 4) == 0
    assert rdp(Event(0.1, 0.1, 1), 4) == math.inf


def test_budget_and_conversion_add_up_to_epsilon():
    assert filter_budget(10.0, 2e-5, 3) + rdp_conversion(3, 2e-5) == pytest.approx(10.0)
    assert filter_budget(0.1, 2e-5, 2) < 0


def test_the_best_order_holds_more_than_its_neighbours():
    events = [Event(1.7, 0.25, 100), Event(17.0, 1.0, 3)]
    best = best_order(10.0, 2e-5, events)

    def copies(order):
        return filter_budget(10.0, 2e-5, order) / sum(rdp(e, order) for e in events)

    assert best == max(range(2, 60), key=copies)


def test_orders_below_two_are_refused():
    with pytest.raises(ConfigError, match="an integer order ≥ 2"):
        rdp(Event(1.0, 0.1, 1), 1)


@pytest.mark.parametrize(
    ("variance", "shift", "order"), [(4.0, 1, 2), (4.0, 2, 8), (9.0, 5, 3), (2.0, 1, 16)]
)
@pytest.mark.parametrize("rate", [1.0, 0.3, 0.01])
def test_the_divergence_bounds_that_of_the_discrete_gaussian_in_both_directions(variance, shift, order, rate):
    """The discrete law written out: D(mixture ‖ centred) and D(centred ‖ mixture), both below the bound."""
    k = np.arange(-400, 401)
    centred, moved = (-((k - c) ** 2) / (2 * variance) for c in (0, shift))
    centred, moved = (law - logsumexp(law) for law in (centred, moved))
    mixed = np.logaddexp(np.log1p(-rate) + centred if rate < 1 else -np.inf, np.log(rate) + moved)
    bound = rdp(Event(math.sqrt(variance) / shift, rate, 1, "discrete_gaussian"), order)
    for p, q in ((mixed, centred), (centred, mixed)):
        found = float(logsumexp(order * p + (1 - order) * q)) / (order - 1)
        assert found <= bound * (1 + 1e-9) + 1e-12
