"""The page of the conformance battery: verdict, p-values, quantiles of the noise, sizes of the samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedimg.report import blocks
from fedimg.report.axes import Frame, Scale, Ticks, ticks
from fedimg.report.blocks import Column, section, table
from fedimg.report.lines import SIZE, Chart, Point, Series, draw_series, legend, marker, picture
from fedimg.report.markup import Markup, element
from fedimg.report.page import document

_WIDTH, _ROW, _LABEL = 1000.0, 18.0, 180.0
_FLOOR = 1e-12  # smaller p-values are drawn here


def render(result: Mapping[str, Any]) -> str:
    """One self-contained page, under the guarantee of `render` of a run's report.

    Args:
        result: what `fedimg audit battery --json` prints, and `figures`: {"quantiles": [[expected, measured], …],
            "batches": [[size, count, expected count], …]}.
    """
    checks, figures = result["checks"], result.get("figures", {})
    charts = [_quantiles(figures.get("quantiles", ())), _batches(figures.get("batches", ()))]
    drawn = [blocks.figure(chart) for chart in charts if chart is not None]
    sections = [
        _heading(result),
        _tiles(result),
        section(
            "p-values",
            "How likely what was seen, or worse, is for a mechanism that keeps its claims. Left of the line a check "
            "fails; together all checks give a false alarm in one correct run of 10,000.",
            blocks.figure(_p_values(checks, result["threshold"]), wide=True),
        ),
        section("Noise and samples", "", element("div", drawn, class_="figures")) if drawn else Markup(""),
        section("All checks", "", table(_COLUMNS, [_row(check) for check in checks])),
    ]
    return document(f"Conformance battery – {result['mechanism']}", sections)


_COLUMNS = [
    Column("check", numeric=False),
    Column("verdict", numeric=False),
    Column("p"),
    Column("what was measured", numeric=False),
]


def _row(check: Mapping[str, Any]) -> list[str]:
    verdict = check["verdict"]
    shown = element("span", verdict, class_="bad") if verdict == "fail" else verdict
    return [check["name"], shown, "–" if check["p"] is None else f"{check['p']:.3g}", check["detail"]]


def _heading(result: Mapping[str, Any]) -> Markup:
    failed = result["verdict"] == "fail"
    chip = element("span", result["verdict"], class_="chip danger" if failed else "chip")
    return element(
        "header",
        element("h1", f"Conformance battery: {result['mechanism']}"),
        element("div", chip, class_="meta"),
    )


def _tiles(result: Mapping[str, Any]) -> Markup:
    checks = result["checks"]
    failed = sum(check["verdict"] == "fail" for check in checks)
    return blocks.tiles(
        [
            ("Checks", f"{len(checks)}", "on generated data", False),
            ("Failed", f"{failed}", f"rejected below p = {result['threshold']:.2g}", bool(failed)),
            ("Not checkable", f"{result['not_checkable']}", "the mechanism has no such hook", False),
        ]
    )


def _p_values(checks: Sequence[Mapping[str, Any]], threshold: float) -> Chart:
    checkable = [check for check in checks if check["p"] is not None]
    height = len(checkable) * _ROW + 66
    powers = range(-12, 1, 2)
    axis = Ticks(tuple(float(k) for k in powers), tuple("1" if k == 0 else f"1e{k}" for k in powers))
    x = Scale(-12.0, 0.0, _LABEL, _WIDTH - 20)
    frame = Frame(_WIDTH, height, x, Scale(0.0, 1.0, height - 46, 8.0), axis, Ticks((), ()), "p", "")
    content = frame.draw()
    for k, check in enumerate(checkable):
        y = 8 + (k + 0.5) * _ROW
        value = math.log10(max(check["p"], _FLOOR))
        style = 1 if check["verdict"] == "fail" else 0
        content.append(element("text", check["name"], class_="label", x=8, y=y + 4))
        content.append(element("line", class_="grid", x1=_LABEL, x2=_WIDTH - 20, y1=y, y2=y))
        content.append(marker(style, x(value), y, 4.0, f"{check['name']}: p = {check['p']:.3g}"))
    at = x(math.log10(max(threshold, _FLOOR)))
    content.append(element("line", class_="mean s1", x1=at, x2=at, y1=8.0, y2=height - 46))
    said = f"{len(checkable)} checks, {sum(c['verdict'] == 'fail' for c in checkable)} below the line"
    caption = "p-value of each check on a logarithmic axis; values below 1e-12 stand at its left end."
    return Chart(
        picture("p-values", "p-values by check", f"{said}.", (_WIDTH, height), content), Markup(""), caption
    )


def _quantiles(points: Sequence[Sequence[float]]) -> Chart | None:
    """Measured against expected quantiles: a straight line for Gaussian noise of the claimed spread."""
    found = [(float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not found:
        return None
    low, high = found[0][0], found[-1][0]
    series = (Series("measured", tuple(found), 0), Series("claimed", ((low, low), (high, high)), 1))
    title = "Quantiles of the released noise, in claimed standard deviations."
    return _chart("quantiles", title, series, ("normal quantile", "measured quantile"))


def _batches(points: Sequence[Sequence[float]]) -> Chart | None:
    if not points:
        return None
    measured: tuple[Point, ...] = tuple((float(p[0]), float(p[1])) for p in points)
    expected: tuple[Point, ...] = tuple((float(p[0]), float(p[2])) for p in points)
    series = (Series("measured", measured, 0), Series("binomial", expected, 1))
    return _chart(
        "batches",
        "Units in a step: how often, beside independent coins.",
        series,
        ("units in a step", "steps"),
    )


def _chart(key: str, title: str, series: Sequence[Series], titles: tuple[str, str]) -> Chart:
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    frame = Frame.around(SIZE, ticks(min(xs), max(xs), 6), ticks(min(ys), max(ys)), titles)
    svg = picture(
        key, title, f"{len(series[0].points)} points.", SIZE, [*frame.draw(), *draw_series(frame, series)]
    )
    return Chart(svg, legend(series), title)
