"""Sites that are alike are flagged no more often than stated, with the noise in the test; without it far too often."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from fedimg.errors import ConfigError, DataError
from fedimg.monitoring.across_sites import Noised, compare, distance, shares

STD = 10.0  # about ε = 1 at δ = 1e-5 with six streams
EDGES = np.linspace(-2, 2, 9)
SIZES = {"big": 2000, "middle": 800, "small": 300}


def histogram(generator, patients, shift, std, told=None):
    counts = np.bincount(np.searchsorted(EDGES, generator.normal(shift, 1, patients)), minlength=10)
    return Noised(tuple(counts + np.rint(generator.normal(0, std, 10))), std if told is None else told)


def trial(generator, *, shifted=0.0, told=None, streams=2):
    made = {
        f"stream {k}": {
            site: histogram(generator, size, shifted if site == "middle" else 0.0, STD, told)
            for site, size in SIZES.items()
        }
        for k in range(streams)
    }
    return compare(made)


def false_alarms(told, trials):
    generator = np.random.default_rng(20260131)
    return sum(any(one.flagged for one in trial(generator, told=told)) for _ in range(trials))


def test_sites_that_are_alike_are_flagged_no_more_often_than_stated():
    trials, level = 60, 0.05
    # of a true chance of 5 % so many are exceeded once in ten thousand
    most = int(binom.ppf(1 - 1e-4, trials, level))
    assert false_alarms(None, trials) <= most
    # a test that forgets the noise: rejected by the same bound
    assert false_alarms(0.0, trials // 3) > 2 * binom.ppf(1 - 1e-4, trials // 3, level)


def test_a_site_that_has_shifted_is_found_and_its_neighbours_are_not_taken_for_it():
    generator, trials = np.random.default_rng(5), 10
    found = [one for _ in range(trials) for one in trial(generator, shifted=0.7)]
    assert all(one.flagged and not one.but_for for one in found if one.site == "middle")
    beside = [one for one in found if one.site == "big"]  # which is most of what the others are held against
    assert all(one.flagged or one.but_for == ("middle",) for one in beside)
    most = binom.ppf(1 - 1e-4, len(beside), 0.05)
    assert sum(one.flagged for one in beside) <= most < len(beside) / 2
    assert all(one.flagged != bool(one.but_for) for one in beside)


def test_two_that_moved_apart_are_both_named():
    generator = np.random.default_rng(11)
    moved = {"a": -0.8, "b": 0.0, "c": 0.0, "d": 0.8}
    own = {site: histogram(generator, 1000, shift, STD) for site, shift in moved.items()}
    assert {one.site for one in compare({"s": own}) if one.flagged} == {"a", "d"}


def test_of_two_sites_both_stay_named():
    generator = np.random.default_rng(12)
    own = {"a": histogram(generator, 900, 0, STD), "b": histogram(generator, 900, 1.0, STD)}
    assert [(one.flagged, one.but_for) for one in compare({"s": own})] == [(True, ())] * 2


def test_the_interval_holds_the_true_distance():
    from scipy.stats import norm

    generator, trials, inside = np.random.default_rng(6), 60, 0
    cumulative = [np.append(norm.cdf(EDGES, shift), 1.0) for shift in (0.5, 0.0)]
    true = float(np.abs(cumulative[0] - cumulative[1]).max())
    for _ in range(trials):
        own = {"a": histogram(generator, 500, 0.5, STD), "b": histogram(generator, 900, 0.0, STD)}
        one = compare({"s": own})[0]
        inside += one.low <= true <= one.high
        assert one.low <= one.distance <= one.high
    assert inside >= binom.ppf(1e-4, trials, 0.95)


def test_noise_adds_up_over_the_others():
    one, other = Noised((1.0, 2.0), 3.0), Noised((5.0, 7.0), 4.0)
    assert (one + other) == Noised((6.0, 9.0), 5.0)


def test_a_site_with_fewer_patients_than_noise_is_not_told():
    generator = np.random.default_rng(7)
    made = {
        "s": {
            "a": histogram(generator, 900, 0, STD),
            "b": Noised((3.0,) * 10, STD),
            "c": Noised((0.0,) * 10, 0.0),
        }
    }
    found = {one.site: one for one in compare(made)}
    for site in ("b", "c"):
        assert not found[site].told
        assert math.isnan(found[site].distance)
        assert (found[site].p, found[site].flagged, found[site].low, found[site].high) == (
            1.0,
            False,
            0.0,
            1.0,
        )


@given(st.lists(st.floats(-50, 100), min_size=2, max_size=12).filter(lambda c: sum(c) > 1))
def test_shares_are_a_distribution_and_those_that_were_one_stay(counts):
    found = shares(Noised(tuple(counts), 1.0))
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    if min(counts) >= 0:
        assert found == pytest.approx(np.array(counts) / sum(counts), abs=1e-9)


def test_the_distance_is_kolmogorovs():
    generator = np.random.default_rng(8)
    from scipy.stats import ks_2samp

    one, other = generator.integers(0, 6, 200), generator.integers(1, 7, 300)
    raw = [np.bincount(values, minlength=7) / len(values) for values in (one, other)]
    assert distance(*raw) == pytest.approx(ks_2samp(one, other).statistic)


def test_what_cannot_be_compared_is_refused():
    one = Noised((10.0, 20.0), 1.0)
    with pytest.raises(DataError):
        compare({"s": {"a": one}})
    with pytest.raises(DataError):
        compare({"s": {"a": one, "b": Noised((1.0, 2.0, 3.0), 1.0)}})
    with pytest.raises(ConfigError):
        compare({"s": {"a": one, "b": one}}, level=float("nan"))
    assert compare({}) == ()
