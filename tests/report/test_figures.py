"""Figures hold the right points: read back from the picture through its own tick labels."""

from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.report import ComparisonRow, PrivacySummary, RoundPoint, SitePrivacy, forest, lines, performance
from fedimg.report.axes import text_width
from fedimg.report.lines import Series
from fedimg.values import EvaluationReport, Interval

PRIVATE = PrivacySummary("per_site", (SitePrivacy("a", 8.0, 1e-5, 1.0, 0.1, 100, 0.1, "PLD"),))
# Coordinates are written to 0.01 units, on axes some 300 units long.
TOLERANCE = 1e-3


def tick_texts(svg, anchor):
    found = [t for t in svg.iter("text") if t.get("class") == "tick" and t.get("text-anchor") == anchor]
    return [(float(t.get("x")), float(t.get("y")), float(t.text.replace(",", ""))) for t in found]


def axes_of(svg):
    """The maps from the picture back to data, fitted to the printed tick labels alone."""
    across, up = tick_texts(svg, "middle"), tick_texts(svg, "end")
    x_slope, x_start = np.polyfit([x for x, _, _ in across], [v for _, _, v in across], 1)
    if not up:
        return lambda x, _: (x_start + x_slope * x, None)
    y_slope, y_start = np.polyfit([y - 4 for _, y, _ in up], [v for _, _, v in up], 1)
    return lambda x, y: (x_start + x_slope * x, y_start + y_slope * y)


def path_points(path):
    return [tuple(map(float, pair.split(","))) for pair in re.findall(r"[-\d.]+,[-\d.]+", path.get("d"))]


def lines_in(svg, style):
    back = axes_of(svg)
    paths = [p for p in svg.iter("path") if p.get("class") == f"line {style}"]
    return [[back(x, y) for x, y in path_points(p)] for p in paths]


def assert_same_points(svg, found, expected):
    back = axes_of(svg)
    axis = np.abs(np.subtract(back(300, 200), back(0, 0)))
    assert len(found) == len(expected)
    assert (np.abs(np.array(found) - np.array(expected)) <= 2 * TOLERANCE * axis).all()


def assert_inside(svg):
    """No label leaves the picture, by the safe estimate of its width."""
    _, _, width, height = map(float, svg.get("viewBox").split())
    for label in svg.iter("text"):
        if label.get("transform"):
            continue
        content = "".join(label.itertext())
        title = label.find("title")
        if title is not None:
            content = content.removeprefix(title.text)
        x, y, half = float(label.get("x")), float(label.get("y")), text_width(content)
        left = {"middle": x - half / 2, "end": x - half, None: x}[label.get("text-anchor")]
        assert left >= 0, content
        assert left + half <= width + 0.5, content
        assert 0 <= y <= height, content


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=40), st.integers(0, 5000))
@settings(max_examples=60)
def test_a_line_by_round_holds_exactly_its_points(values, first):
    points = tuple((float(first + k), value) for k, value in enumerate(values))
    chart = lines.by_round("loss", "Loss", [Series("loss", points, 0)], "loss")
    svg = ET.fromstring(chart.svg)
    (found,) = lines_in(svg, "s0")
    assert_same_points(svg, found, points)
    assert_inside(svg)


def test_values_that_are_not_finite_are_left_out():
    chart = lines.by_round(
        "loss", "Loss", [Series("loss", ((1.0, 0.5), (2.0, float("nan")), (3.0, 0.25)), 0)], "loss"
    )
    svg = ET.fromstring(chart.svg)
    (found,) = lines_in(svg, "s0")
    assert_same_points(svg, found, [(1.0, 0.5), (3.0, 0.25)])
    assert lines.by_round("x", "X", [Series("x", ((1.0, float("inf")),), 0)], "x") is None


def test_sites_with_the_same_course_are_one_line_and_a_crowd_stays_readable():
    rounds = [RoundPoint(r, epsilon={"a": r * 1.0, "b": r * 1.0, "c": r * 2.0}) for r in (1, 2, 3)]
    series = lines.epsilon_series(rounds)
    assert [(s.name, s.points[-1], s.style) for s in series] == [
        ("c", (3.0, 6.0), 0),
        ("a, b", (3.0, 3.0), 1),
    ]
    alike = lines.epsilon_series([RoundPoint(1, epsilon={f"s{k}": 1.0 for k in range(6)})])
    assert [s.name for s in alike] == ["6 sites, all alike"]
    crowd = lines.epsilon_series(
        [RoundPoint(r, epsilon={f"s{k:02}": r + k / 10 for k in range(20)}) for r in (1, 2)]
    )
    assert [s.style for s in crowd] == [0, *[None] * 18, 1]
    assert (crowd[0].name, crowd[-1].name) == ("s19 (largest)", "s00 (smallest)")
    chart = lines.by_round("epsilon", "ε", crowd, "ε", zero=True)
    assert len(lines_in(ET.fromstring(chart.svg), "crowd")) == 18
    assert chart.legend.count("<li>") == 3


def test_the_roc_figure_holds_the_curve_and_its_operating_point(complete):
    report = complete().evaluation
    svg = ET.fromstring(performance.roc([report]).svg)
    (found,) = lines_in(svg, "s0")
    (true_negative, false_positive), (false_negative, true_positive) = report.confusion.tolist()
    grid = np.linspace(0.001, 0.999, 401)
    xs, ys = np.array(found).T
    # Compared as curves: corners only are drawn. A step may be read at either of its ends.
    at, drawn = np.interp(grid, *report.roc.T), np.interp(grid, xs, ys)
    assert np.quantile(np.abs(at - drawn), 0.97) < 2 * TOLERANCE
    assert np.trapezoid(ys, xs) == pytest.approx(report.metrics["auroc"].value, abs=2e-3)
    (ring,) = [c for c in svg.iter("circle") if c.get("class") == "ring s0"]
    expected = (
        false_positive / (false_positive + true_negative),
        true_positive / (true_positive + false_negative),
    )
    assert axes_of(svg)(float(ring.get("cx")), float(ring.get("cy"))) == pytest.approx(expected, abs=2e-3)
    assert_inside(svg)


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=40), st.lists(st.integers(0, 6), min_size=2, max_size=40)
)
def test_thinning_a_curve_keeps_every_corner(across, up):
    curve = np.cumsum(np.array(list(zip([0, *across], [0, *up], strict=False)), dtype=float), axis=0)
    thin = performance.thinned(curve)
    assert thin[0] == tuple(curve[0])
    assert thin[-1] == tuple(curve[-1])
    assert len(thin) <= len(curve)
    assert np.trapezoid(*np.array(thin).T[::-1]) == pytest.approx(np.trapezoid(*curve.T[::-1]), abs=1e-9)


def test_a_long_curve_is_thinned_to_what_can_be_seen():
    steps = np.cumsum(np.random.default_rng(0).random((5000, 2)), axis=0)
    assert 300 <= len(performance.thinned(steps / steps[-1])) <= 402


def test_the_reliability_figure_holds_its_bins(complete):
    data = complete()
    reports = [data.evaluation, data.site_evaluation]
    chart = performance.reliability(reports)
    svg = ET.fromstring(chart.svg)
    for k, report in enumerate(reports):
        (found,) = lines_in(svg, f"s{k}")
        assert_same_points(svg, found, report.reliability[:, :2])
        bars = [float(b.get("height")) for b in svg.iter("rect") if b.get("class") == f"bar s{k}"]
        weights = report.reliability[:, 2]
        assert np.array(bars) / max(bars) == pytest.approx(weights / weights.max(), abs=1e-3)
    assert "public test set" in chart.legend
    assert "sites (from released histograms)" in chart.legend
    assert_inside(svg)


@pytest.mark.parametrize("classes", [2, 3, 9, 30])
def test_the_confusion_figure_holds_every_count(classes):
    counts = np.random.default_rng(classes).integers(0, 90, (classes, classes))
    report = EvaluationReport("public", int(counts.sum()), {}, counts.astype(np.int64))
    names = [f"class with a rather long name {k}" for k in range(classes)]
    svg = ET.fromstring(performance.confusion(report, names).svg)
    cells = [r.find("title").text for r in svg.iter("rect")]
    assert len(cells) == classes**2
    for k, said in enumerate(cells):
        i, j = divmod(k, classes)
        assert said.startswith(f"true {names[i]}, predicted {names[j]}: {counts[i, j]} (")
    if classes <= 9:
        shown = [int(t.text) for t in svg.iter("text") if t.get("class") == "count"]
        assert shown == counts.ravel().tolist()
    assert_inside(svg)


def test_the_comparison_figure_holds_every_interval(rows):
    chart = forest.comparison(rows(), PRIVATE)
    svg = ET.fromstring(chart.svg)
    back = axes_of(svg)
    whiskers = [
        w for w in svg.iter("line") if w.get("class").startswith("whisker") and w.get("y1") == w.get("y2")
    ]
    found = [
        (w.get("class")[-2:], back(float(w.get("x1")), 0)[0], back(float(w.get("x2")), 0)[0])
        for w in whiskers
    ]
    expected = [(f"s{int(r.noised)}", r.auroc.low, r.auroc.high) for r in rows()]
    for (style, low, high), (their_style, their_low, their_high) in zip(found, expected, strict=True):
        assert style == their_style
        assert (low, high) == pytest.approx((their_low, their_high), abs=1e-3)
    marks = [m for m in svg.iter() if (m.get("class") or "").startswith("mark")]
    assert next(m.find("title").text for m in marks) == "alder alone: 0.860 [0.810, 0.900]"
    centres = [float(m.get("cx")) for m in marks if m.tag == "circle"]
    assert [back(x, 0)[0] for x in centres] == pytest.approx(
        [r.auroc.value for r in rows() if not r.noised], abs=1e-3
    )
    means = [back(float(m.get("x1")), 0)[0] for m in svg.iter("line") if m.get("class").startswith("mean")]
    assert means == pytest.approx([0.83, 0.75], abs=1e-3)
    # No two marks of one row lie on top of each other: their heights differ.
    assert len({w.get("y1") for w in whiskers}) == len(whiskers)
    assert_inside(svg)


def test_many_sites_are_drawn_up_to_a_limit_and_the_rest_is_said(rows):
    chart = forest.comparison(rows([f"hospital number {k} of a long name" for k in range(20)]), PRIVATE)
    svg = ET.fromstring(chart.svg)
    labels = ["".join(t.itertext()) for t in svg.iter("text") if (t.get("class") or "").startswith("label")]
    assert len(labels) == 2 + forest.MOST_SITES
    assert "4 more sites stand in the table only." in chart.caption
    assert_inside(svg)


def test_noise_is_called_by_its_name():
    seeded = dataclasses.replace(PRIVATE, insecure=True)
    unbounded = dataclasses.replace(
        PRIVATE, sites=(dataclasses.replace(PRIVATE.sites[0], epsilon=float("inf")),)
    )
    assert forest.noise_names(PRIVATE)[1] == "with differential privacy"
    assert forest.noise_names(seeded)[1] == "with seeded test noise"
    assert forest.noise_names(unbounded)[1] == "with noise"
    assert forest.noise_names(PrivacySummary("none"))[1] == "with differential privacy"


def test_nothing_to_draw_gives_no_figure():
    empty = EvaluationReport("public", 0, {}, np.zeros((2, 2), np.int64))
    assert performance.roc([empty]) is None
    assert performance.reliability([empty]) is None
    assert forest.comparison([ComparisonRow("site", "a", False, None, "one class only")], PRIVATE) is None


def test_every_picture_has_a_name_and_a_description():
    chart = lines.by_round("loss", "Loss & more", [Series("loss", ((1.0, 0.5), (2.0, 0.25)), 0)], "loss")
    svg = ET.fromstring(chart.svg)
    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby") == "loss-title loss-desc"
    assert (svg.find("title").text, svg.find("title").get("id")) == ("Loss & more", "loss-title")
    assert svg.find("desc").text == "loss by round: loss ends at 0.25."


def test_one_value_at_its_ceiling_still_has_an_axis():
    rows = [ComparisonRow("federation", "federation", False, Interval(1.0, 1.0, 1.0))]
    svg = ET.fromstring(forest.comparison(rows, PRIVATE).svg)
    (circle,) = svg.iter("circle")
    assert axes_of(svg)(float(circle.get("cx")), 0)[0] == pytest.approx(1.0, abs=1e-3)


def test_bins_of_few_examples_are_faint_and_every_bar_is_within_its_axis():
    table = np.array([[0.01, 0.0, 40.0], [0.5, 1.0, 2.0], [0.99, 0.9, 30.0]])
    report = EvaluationReport("public", 72, {}, np.zeros((2, 2), np.int64), np.zeros((0, 2)), table, {})
    svg = ET.fromstring(performance.reliability([report]).svg)
    (faint,) = [e for e in svg.iter() if "faint" in (e.get("class") or "")]
    assert "2 only" in faint.find("title").text
    (line,) = [e for e in svg.iter("path") if (e.get("class") or "").startswith("line")]
    assert len(path_points(line)) == 2  # from the first bin to the last, not by way of the faint one
    (axis,) = [e for e in svg.iter("line") if e.get("class") == "axis" and e.get("y1") == e.get("y2")][-1:]
    for bar in (e for e in svg.iter("rect") if (e.get("class") or "").startswith("bar")):
        left, right = float(bar.get("x")), float(bar.get("x")) + float(bar.get("width"))
        assert float(axis.get("x1")) - 0.01 <= left < right <= float(axis.get("x2")) + 0.01
