"""The one interval of Clopper and Pearson that everybody here uses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from fedimg.audit import bounds
from fedimg.evaluation.intervals import clopper_pearson

counts = st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.sampled_from([0.8, 0.95, 0.99]))
def test_each_end_is_where_the_tail_of_the_binomial_law_is_what_was_allowed(case, confidence):
    """Its definition, without any beta law: at the lower end as many hits or more have probability (1 − c)/2."""
    hits, trials = case
    found, tail = clopper_pearson(hits, trials, confidence), (1 - confidence) / 2
    if hits > 0:
        assert binom.sf(hits - 1, trials, found.low) == pytest.approx(tail, rel=1e-6)
    if hits < trials:
        assert binom.cdf(hits, trials, found.high) == pytest.approx(tail, rel=1e-6)
    assert bounds.clopper_pearson(hits, trials, confidence) == found


def test_a_small_rate_keeps_its_digits():
    """0 of n: 1 − (tail)^(1/n), which is 3.6888794…e-09 for 10⁹; one minus a bound near 1 had lost half of them."""
    assert clopper_pearson(0, 10**9).high == pytest.approx(3.688879447e-9, rel=1e-8)
