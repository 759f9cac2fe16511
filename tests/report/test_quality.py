"""Bars and the page of a site's own data."""

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from fedimg.report.bars import MOST_BARS, bars, binned
from fedimg.report.quality import QualityReportData, QualityRow, render_quality


def widths(chart):
    tree = ET.fromstring(chart.svg)
    return [float(e.get("width")) for e in tree.iter() if e.tag.endswith("rect")]


def test_bars_are_as_long_as_their_counts():
    chart = bars("k", "title", {"a": 50, "b": 100, "c": 25})
    short, longest, shortest = widths(chart)
    assert abs(short / longest - 0.5) < 0.01
    assert abs(shortest / longest - 0.25) < 0.01


def test_bars_of_nothing_are_no_chart():
    assert bars("k", "title", {}) is None
    assert bars("k", "title", {"a": 0}) is None


def test_what_is_not_shown_is_told():
    chart = bars("k", "title", {str(k): k + 1 for k in range(MOST_BARS + 4)})
    assert len(widths(chart)) == MOST_BARS
    assert "4 more are not shown" in chart.caption


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=80))
def test_bins_hold_every_finite_value_once(values):
    finite = [value for value in values if abs(value) < 1e300]
    assert sum(binned(finite).values()) == len(finite)
    assert sum(binned([*finite, float("nan"), float("inf")]).values()) == len(finite)


def test_the_page_escapes_and_warns():
    rows = [QualityRow("serious", "copy_across_patients", 2, "text", "<b>doe</b>")]
    page = render_quality(
        QualityReportData("a folder", "patient", 5, 4, 3, rows, classes={"<i>": 3}, weights="[1,2]")
    )
    ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    assert "<b>doe" not in page
    assert "<i>" not in page
    assert "This report never leaves the site" in page
    assert "public constants" in " ".join(page.split())
