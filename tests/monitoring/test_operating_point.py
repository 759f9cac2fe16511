"""The promised sensitivity is kept as often as promised, and the empirical quantile does not keep it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

from fedimg.errors import ConfigError, DataError
from fedimg.evaluation.cells import Cells
from fedimg.monitoring import operating_point as op

_RUNS = 2000


def misses(threshold_of, n, runs, target=0.95):
    """How often a threshold from n positives, N(1, 1), has a sensitivity below `target`."""
    generator = np.random.default_rng()
    drawn = generator.normal(1.0, 1.0, (runs, n))
    return np.mean([norm.sf(threshold_of(one), loc=1.0) < target for one in drawn])


@pytest.mark.parametrize("n", [59, 93, 200, 500])
def test_the_promise_is_kept_and_the_quantile_breaks_it(n):
    allowed = binom.ppf(0.9999, _RUNS, 0.05) / _RUNS  # of misses that happen in one run of twenty at most
    assert misses(lambda scores: op.of_scores(scores, [0.0]).threshold, n, _RUNS) <= allowed
    assert misses(lambda scores: np.quantile(scores, 0.05), n, _RUNS) > 0.4


@given(st.integers(1, 400), st.sampled_from([0.8, 0.9, 0.95]), st.sampled_from([0.9, 0.95]))
def test_no_higher_threshold_would_keep_it(n, target, confidence):
    """The number that may be missed, from the binomial itself: P(at most k missed | sensitivity = target) ≤ 1 − confidence."""
    scores = np.arange(n, dtype=float)
    allowed = [k for k in range(n) if binom.cdf(k, n, 1 - target) <= 1 - confidence]
    if not allowed:
        assert n < op.least_positives(target, confidence)
        with pytest.raises(DataError, match=f"{op.least_positives(target, confidence)} positives or more"):
            op.of_scores(scores, [0.0], target=target, confidence=confidence)
        return
    found = op.of_scores(scores, [0.0], target=target, confidence=confidence)
    assert found.threshold == scores[max(allowed)]
    assert found.sensitivity.value == (n - max(allowed)) / n


def test_59_positives_are_needed():
    assert op.least_positives(0.95, 0.95) == 59
    assert op.least_positives(0.9, 0.95) == 29  # Hahn and Meeker 1991, table A.17
    assert op.least_positives(0.99, 0.95) == 299


def test_equal_scores_are_all_called():
    found = op.of_scores(
        np.r_[np.full(100, 0.5), np.full(100, 0.9)], np.r_[np.full(50, 0.5), np.full(50, 0.1)]
    )
    assert found.threshold == 0.5
    assert (found.sensitivity.value, found.specificity.value) == (1.0, 0.5)


def _noised(n, sigma, generator, bins=20):
    """A release of n positives and n negatives whose logits are N(±1, 1), and its cells."""
    cells = Cells(2, bins)
    table = np.zeros((2, bins))
    for label, centre in ((0, -1.0), (1, 1.0)):
        p = 1 / (1 + np.exp(-generator.normal(centre, 1.0, n)))
        np.add.at(table[label], cells.of(np.stack([1 - p, p], axis=1)), 1.0)
    return table + sigma * generator.standard_normal(table.shape)


def _sensitivity(threshold):
    return norm.sf(np.log(threshold / (1 - threshold)) if threshold > 0 else -np.inf, loc=1.0)


@pytest.mark.parametrize(("n", "sigma"), [(400, 0.0), (2000, 5.0)])
def test_a_noised_release_keeps_the_promise(n, sigma):
    generator, runs = np.random.default_rng(), 400
    found = [op.of_histograms(_noised(n, sigma, generator), sigma) for _ in range(runs)]
    below = np.mean([_sensitivity(one.threshold) < 0.95 for one in found])
    assert below <= binom.ppf(0.9999, runs, 0.05) / runs
    assert np.median([one.threshold for one in found]) > 0  # and calls not simply everything
    covered = np.mean(
        [one.sensitivity.low <= _sensitivity(one.threshold) <= one.sensitivity.high for one in found]
    )
    assert covered > 0.9


def test_noise_that_drowns_the_positives_is_said():
    with pytest.raises(DataError, match="positives or more"):
        op.of_histograms(_noised(60, 20.0, np.random.default_rng()), 20.0)


def test_predictive_values_are_those_of_the_published_device():
    """Del Gaizo et al. 2024: 75.6 % and 92.1 % at a prevalence of 2.7 % have a PPV of 21.1 %."""
    scores = op.OperatingPoint(
        0.5, 0.75, 0.95, 100, 100, op.Interval(0.756, 0.7, 0.8), op.Interval(0.921, 0.9, 0.94)
    )
    found = op.expected(scores, 0.027)
    assert found.ppv.value == pytest.approx(0.21, abs=0.005)
    assert found.npv.value == pytest.approx(0.9927, abs=0.0005)
    assert found.alerts_per_100.value == pytest.approx(2.04 + 7.69, abs=0.02)
    for one in (found.ppv, found.npv, found.alerts_per_100):
        assert one.low < one.value < one.high


def test_senseless_questions_are_refused():
    with pytest.raises(ConfigError):
        op.least_positives(1.0, 0.95)
    with pytest.raises(ConfigError):
        op.of_histograms(np.ones((3, 12)), 0.0)
    with pytest.raises(DataError):
        op.of_scores([np.nan] * 60, [0.0])
    point = op.of_scores(np.arange(60.0), [0.0])
    with pytest.raises(ConfigError, match="prevalence"):
        op.expected(point, 0.0)
