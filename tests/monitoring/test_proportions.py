"""Intervals against scipy's own, published values, and direct computation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from fedimg.errors import DataError
from fedimg.evaluation.intervals import clopper_pearson, least_at_confidence
from fedimg.monitoring.proportions import delong, wilson

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.sampled_from([0.8, 0.95, 0.99]))
def test_both_intervals_are_scipys(case, confidence):
    hits, total = case
    for own, method in ((clopper_pearson, "exact"), (wilson, "wilson")):
        other = binomtest(hits, total).proportion_ci(confidence, method)
        found = own(hits, total, confidence)
        assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=1e-9)
        assert found.low <= found.value <= found.high


def test_the_published_example():
    """Newcombe 1998, table I: 81 of 263."""
    assert [round(v, 4) for v in (wilson(81, 263).low, wilson(81, 263).high)] == [0.2553, 0.3662]
    assert [round(v, 4) for v in (clopper_pearson(81, 263).low, clopper_pearson(81, 263).high)] == [
        0.2527,
        0.3676,
    ]


@given(st.floats(0.1, 50), st.floats(0, 50), st.floats(0.01, 5))
def test_the_bound_falls_with_what_is_missed(hits, missed, more):
    assert least_at_confidence(hits, missed + more, 0.95) <= least_at_confidence(hits, missed, 0.95)
    assert least_at_confidence(hits + more, missed, 0.95) >= least_at_confidence(hits, missed, 0.95)


def _direct(positives, negatives):
    """DeLong, DeLong and Clarke-Pearson 1988, equations 3 to 5, pair by pair."""
    psi = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    auroc = psi.mean()
    v10, v01 = psi.mean(axis=1), psi.mean(axis=0)
    s10 = ((v10 - auroc) ** 2).sum() / (len(positives) - 1)
    s01 = ((v01 - auroc) ** 2).sum() / (len(negatives) - 1)
    return auroc, np.sqrt(s10 / len(positives) + s01 / len(negatives))


@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=40), st.lists(st.integers(0, 9), min_size=2, max_size=40)
)
def test_delong_is_that_of_all_pairs(positives, negatives):
    found = delong(positives, negatives)
    auroc, error = _direct(np.array(positives, float), np.array(negatives, float))
    assert found.value == pytest.approx(auroc, abs=1e-12)
    half = 1.959963984540054 * error
    assert (found.low, found.high) == pytest.approx((max(0, auroc - half), min(1, auroc + half)), abs=1e-9)


@pytest.mark.parametrize(("positives", "negatives"), [([1.0], [0.0, 0.1]), ([1.0, np.nan], [0.0, 0.1])])
def test_too_little_is_refused(positives, negatives):
    with pytest.raises(DataError):
        delong(positives, negatives)
    with pytest.raises(DataError):
        wilson(1, 0)
    for hits, trials in ((3, 2), (0, 0), (-1, 4)):
        with pytest.raises(DataError, match="one trial or more"):
            clopper_pearson(hits, trials)
