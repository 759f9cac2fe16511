"""The measured ε in the report: an estimate, beside the claim, and loud where it contradicts it."""

import math

import pytest

from fedimg.report import render
from fedimg.report.data import EmpiricalRow
from fedimg.report.interval_chart import Measured, intervals
from fedimg.values import Interval

FOUND = Interval(3.1, 2.9, 3.3)


def row(*, flagged=False, estimate=FOUND):
    numbers = (("noise multiplier σ", 1.5, 1.48, 0.21),)
    return EmpiricalRow("alder", 3.0, 1e-5, estimate, flagged, 1200, 100, numbers)


def test_the_estimate_stands_beside_the_claim_and_is_said_to_be_one(complete):
    page = render(complete(empirical=(row(),)))
    assert "not a proof and not a bound" in page
    assert "2.9 to 3.3" in page
    assert "agrees with the claim" in page
    assert "contradicts" not in page
    assert "Measured beside the claim" not in render(complete())


@pytest.mark.parametrize("estimate", [Interval(4.1, 3.9, 4.3), None])
def test_a_contradiction_comes_first(complete, estimate):
    page = render(complete(empirical=(row(flagged=True, estimate=estimate),)))
    assert "The measurement contradicts the claim." in page
    assert ("∞" in page.split("Measured beside the claim")[1]) == (estimate is None)


def test_a_chart_shows_each_estimate_and_what_it_is_held_against():
    chart = intervals(
        [Measured("a", Interval(1, 0.5, 2), 1.5), Measured("b", Interval(3, 2, 4))], "ε", "c", "k"
    )
    assert chart.svg.count("whisker") == 6
    assert "a 1 [0.5, 2]; b 3 [2, 4]." in chart.svg
    assert "claimed" in chart.legend
    assert not intervals([Measured("b", Interval(3, 2, 4))], "ε", "c", "k").legend
    assert intervals([], "ε", "c", "k") is None
    assert math.isfinite(float(chart.svg.split('x1="')[1].split('"')[0]))
