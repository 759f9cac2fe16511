"""Fixed point: what fits comes back to half a step, a sum never wraps, what is too large is clamped."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import ConfigError
from fedimg.secagg.encoding import Encoding

bounds = st.floats(1e-12, 1e12)
vectors = st.lists(st.floats(-4, 4), min_size=1, max_size=20)


@given(bounds, st.integers(1, 10_000), st.sampled_from([32, 64]))
def test_the_finest_grid_has_room_for_the_sum_and_the_next_finer_one_has_not(bound, summands, word_bits):
    encoding = Encoding.finest(bound, summands, word_bits)
    assert encoding.most * encoding.step >= bound
    assert summands * encoding.most < 2 ** (word_bits - 1)
    assert math.frexp(encoding.step)[0] == 0.5
    finer = math.ceil(bound / (encoding.step / 2))
    assert summands * finer >= 2 ** (word_bits - 1) or finer >= 2**52


@given(st.lists(vectors, min_size=1, max_size=8), st.sampled_from([32, 64]))
def test_sums_of_words_are_the_sums_of_reals_to_half_a_step_each(rows, word_bits):
    width = min(len(row) for row in rows)
    reals = np.array([row[:width] for row in rows])
    encoding = Encoding.finest(4.0, len(rows), word_bits)
    total = np.zeros(width, dtype=f"<u{word_bits // 8}")
    for row in reals:
        total += encoding.encode(row)
    assert np.abs(encoding.decode(total) - reals.sum(axis=0)).max() <= len(rows) * encoding.step / 2 + 1e-12


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=20))
def test_any_coordinate_is_taken_and_clamping_is_1_lipschitz(values):
    encoding = Encoding.finest(4.0, 3)
    decoded = encoding.decode(encoding.encode(np.array(values)))
    assert np.abs(decoded).max() <= encoding.most * encoding.step
    for value, got in zip(values, decoded, strict=True):
        wanted = 0.0 if math.isnan(value) else min(max(value, -4.0), 4.0)
        assert abs(got - wanted) <= encoding.step


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0.3, 10, 3), "a power of two"),
        ((0.0, 10, 3), "a power of two"),
        ((0.5, 0, 3), "at least one step"),
        ((0.5, 2**31 // 3 + 1, 3), "room for the sum of 3 in 32 bits"),
        ((0.5, 2**52, 1, 64), "less than 2\\^52"),
        ((0.5, 10, 3, 16), "32 or 64"),
    ],
)
def test_an_encoding_that_could_wrap_is_refused(arguments, expected):
    with pytest.raises(ConfigError, match=expected):
        Encoding(*arguments)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.inf, math.nan])
def test_a_bound_is_finite_and_positive(bound):
    with pytest.raises(ConfigError, match="a finite number > 0"):
        Encoding.finest(bound, 3)
