"""Ticks are round, even, enclose the data and keep their ceiling."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fedimg.report.axes import FONT_SIZE, Scale, shortened, text_width, ticks

VALUES = st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-6)


@given(VALUES, VALUES)
def test_ticks_are_even_round_and_enclose_the_data(a, b):
    low, high = min(a, b), max(a, b)
    assume(high - low > 1e-6 * max(abs(low), abs(high), 1e-3))
    made = ticks(low, high)
    step = made.values[1] - made.values[0]
    slack = 1e-6 * step
    assert made.low <= low + slack
    assert made.high >= high - slack
    assert 3 <= len(made.values) <= 8
    gaps = [after - before for before, after in zip(made.values, made.values[1:], strict=False)]
    assert gaps == pytest.approx([step] * len(gaps), rel=1e-6)
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 2.5, 5, 10)) < 1e-5
    for value, label in zip(made.values, made.labels, strict=True):
        assert float(label.replace(",", "")) == pytest.approx(value, abs=slack + 1e-12)
    assert len(set(made.labels)) == len(made.labels)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_rate_never_passes_one(a, b):
    made = ticks(min(a, b), max(a, b), ceiling=1.0)
    assert made.high <= 1 + 1e-9
    assert made.low < made.high


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_rounds_get_whole_ticks(a, b):
    made = ticks(min(a, b), max(a, b), whole=True)
    assert all(value == int(value) for value in made.values)
    assert made.low <= min(a, b) <= max(a, b) <= made.high


def test_known_ticks():
    assert ticks(0, 1, ceiling=1).labels == ("0.0", "0.2", "0.4", "0.6", "0.8", "1.0")
    assert ticks(0, 7.9).labels == ("0", "2", "4", "6", "8")
    assert ticks(1200, 3100).labels == ("1,000", "1,500", "2,000", "2,500", "3,000", "3,500")


def test_a_scale_maps_its_ends_and_middle():
    scale = Scale(2.0, 4.0, 100.0, 300.0)
    assert (scale(2.0), scale(3.0), scale(4.0)) == (100.0, 200.0, 300.0)


@given(st.text("abcdefgh", min_size=1, max_size=80), st.floats(30, 300))
def test_a_shortened_name_fits_and_keeps_both_ends(name, width):
    short = shortened(name, width)
    assert text_width(short) <= width or len(short) <= 3
    assert short == name or ("…" in short and name.startswith(short.split("…")[0]))
    assert name.endswith(short.split("…")[-1])
    assert text_width("m", FONT_SIZE) > 0
