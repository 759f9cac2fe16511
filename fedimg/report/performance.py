"""Figures of one model's performance: ROC, reliability, confusion."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fedimg.report.axes import Frame, shortened, text_width, ticks
from fedimg.report.lines import COLOURS, Chart, Series, draw_series, legend, marker, path, picture
from fedimg.report.markup import Markup, element
from fedimg.values import EvaluationReport

SIZE = (440.0, 420.0)
SOURCES = {"public": "public test set", "sites": "sites (from released histograms)"}
_STRIP = 30.0
# A bin of fewer says next to nothing of a rate: it is drawn faint and no line leads to it.
FEW = 10
# Steps of a drawn curve; finer ones cannot be seen and would swell the file.
_CURVE_POINTS = 400


def roc(reports: Sequence[EvaluationReport], key: str = "roc") -> Chart | None:
    """ROC curves, one for each report that has one; None if there are none."""
    curves = [(k, r) for k, r in enumerate(reports) if len(r.roc)]
    if not curves:
        return None
    unit = ticks(0, 1, ceiling=1)
    frame = Frame.around(SIZE, unit, unit, ("false positive rate", "true positive rate"))
    content = frame.draw()
    content.append(_diagonal(frame))
    series, said = [], []
    for k, report in curves:
        name = SOURCES[report.source]
        area = report.metrics.get("auroc", report.metrics.get("classification/auroc"))
        if area is not None:
            name = f"{name}: AUROC {area.value:.3f} [{area.low:.3f}, {area.high:.3f}]"
        said.append(name)
        points = thinned(report.roc)
        at = [(frame.x(x), frame.y(y)) for x, y in points]
        if k == 0:
            closed = path([*at, (frame.x(1), frame.y(0)), (frame.x(0), frame.y(0))]) + "Z"
            content.append(element("path", class_=f"area s{k}", d=closed))
        content.append(element("path", element("title", name), class_=f"line s{k}", d=path(at)))
        series.append(Series(name, (), k))
    for k, report in curves:
        content.extend(_operating_point(frame, report, k))
    drawn = picture(key, "ROC curve", f"{'; '.join(said)}.", SIZE, content)
    caption = "ROC. The ring marks the operating point at the decision threshold."
    if max(len(r.confusion) for _, r in curves) > 2:
        caption = "ROC, averaged over classes, each against the rest."
    return Chart(drawn, _names(series), caption)


def _names(series: Sequence[Series]) -> Markup:
    """A legend even for a single curve, since the name carries its area."""
    return legend(series) if len(series) > 1 else element("p", series[0].name, class_="legend")


def thinned(curve: npt.NDArray[np.float64]) -> list[tuple[float, float]]:
    """At most about `_CURVE_POINTS` of a curve's points: the ends, the corners, evenly chosen."""
    points = list(dict.fromkeys((float(x), float(y)) for x, y in curve))
    corners = [points[0]]
    for previous, (here, after) in zip(points, pairwise(points[1:]), strict=False):
        turn = (here[0] - previous[0]) * (after[1] - here[1]) - (here[1] - previous[1]) * (after[0] - here[0])
        if abs(turn) > 1e-15:
            corners.append(here)
    corners.append(points[-1])
    if len(corners) <= _CURVE_POINTS:
        return corners
    chosen = np.unique(np.linspace(0, len(corners) - 1, _CURVE_POINTS).round().astype(int))
    return [corners[k] for k in chosen]


def _operating_point(frame: Frame, report: EvaluationReport, style: int) -> list[Markup]:
    if report.confusion.shape != (2, 2) or (report.confusion.sum(axis=1) == 0).any():
        return []
    (true_negative, false_positive), (false_negative, true_positive) = report.confusion.tolist()
    x = false_positive / (false_positive + true_negative)
    y = true_positive / (true_positive + false_negative)
    label = f"at the threshold: false positive rate {x:.3f}, true positive rate {y:.3f}"
    ring = element(
        "circle", element("title", label), class_=f"ring s{style}", cx=frame.x(x), cy=frame.y(y), r=6
    )
    return [ring]


def _diagonal(frame: Frame) -> Markup:
    return element("line", class_="reference", x1=frame.x(0), y1=frame.y(0), x2=frame.x(1), y2=frame.y(1))


def reliability(reports: Sequence[EvaluationReport], key: str = "reliability") -> Chart | None:
    """Observed rate against predicted probability, with the share of examples in each bin below."""
    shown = [(k, r) for k, r in enumerate(reports) if len(r.reliability)]
    if not shown:
        return None
    unit = ticks(0, 1, ceiling=1)
    frame = Frame.around(
        SIZE, unit, unit, ("predicted probability", "observed rate"), below=len(shown) * _STRIP + 4
    )
    content = [*frame.draw(), _diagonal(frame)]
    series = []
    for k, report in shown:
        enough = report.reliability[:, 2] >= FEW
        points = tuple((float(p), float(o)) for p, o, _ in report.reliability[enough])
        series.append(Series(SOURCES[report.source], points, k))
        for p, o, weight in report.reliability[~enough]:
            x, y, label = frame.x(float(p)), frame.y(float(o)), f"{weight:.0f} only, near {p:.2f}: {o:.2f}"
            content.append(marker(k, x, y, 2.6, label, faint=True))
    content.extend(draw_series(frame, [one for one in series if one.points]))
    for place, (k, report) in enumerate(shown):
        content.extend(_weights(frame, report, k, SIZE[1] - 2 - (len(shown) - 1 - place) * _STRIP))
    said = "; ".join(f"{s.name}: " + ", ".join(f"{p:.2f}→{o:.2f}" for p, o in s.points) for s in series)
    return Chart(
        picture(key, "Reliability", f"Observed rate by predicted probability. {said}.", SIZE, content),
        legend(series),
        "Reliability. On the diagonal, what is predicted comes true as often as predicted; bars show where "
        f"the examples are. Faint: fewer than {FEW} of them, too few for a rate.",
    )


def _weights(frame: Frame, report: EvaluationReport, style: int, floor: float) -> list[Markup]:
    """A strip of bars, as high as there are examples with such a prediction."""
    axis = element("line", class_="axis", x1=frame.x.start, x2=frame.x.end, y1=floor, y2=floor)
    drawn = [axis]
    weights = report.reliability[:, 2]
    width = 0.6 * (frame.x.end - frame.x.start) / (20 if len(weights) > 10 else 10)
    for (predicted, _, weight), share in zip(report.reliability, weights / weights.sum(), strict=True):
        height = float(weight / weights.max()) * (_STRIP - 5)
        name = element("title", f"{share:.1%} of the examples near {predicted:.2f}")
        # The first and the last bar stay within the axis.
        x = min(max(frame.x(float(predicted)) - width / 2, frame.x.start), frame.x.end - width)
        drawn.append(
            element(
                "rect",
                name,
                class_=f"bar s{style % COLOURS}",
                x=x,
                y=floor - height,
                width=width,
                height=height,
            )
        )
    return drawn


def confusion(
    report: EvaluationReport, classes: Sequence[str], key: str = "confusion", counted: str = "examples"
) -> Chart:
    """The confusion matrix of `counted` things, rows true; the tint is the share of the row."""
    counts = report.confusion
    n = len(counts)
    names = [classes[k] if k < len(classes) else str(k) for k in range(n)]
    widest = max(text_width(name) for name in names)
    label_room = 34 + min(130.0, widest)
    cell = min(96.0, (SIZE[0] - label_room - 10) / n)
    turned = widest > cell - 6
    # The matrix stands in the middle of a picture as wide as the other figures.
    left = label_room + (SIZE[0] - label_room - 10 - n * cell) / 2
    bottom_room = 26 + (min(110.0, widest) * 0.75 if turned else 18)
    height = 8 + n * cell + bottom_room + 10
    content: list[Markup] = []
    totals = counts.sum(axis=1)
    for i in range(n):
        y = 8 + i * cell
        label = shortened(names[i], label_room - 34)
        content.append(
            element("text", label, class_="tick", x=left - 8, y=y + cell / 2 + 4, text_anchor="end")
        )
        for j in range(n):
            share = counts[i, j] / totals[i] if totals[i] else 0.0
            content.extend(
                _cell(left + j * cell, y, cell, int(counts[i, j]), float(share), (names[i], names[j]))
            )
    for j in range(n):
        x, y = left + (j + 0.5) * cell, 8 + n * cell + 18
        label = shortened(names[j], 110.0 if turned else cell)
        content.append(
            element(
                "text",
                label,
                class_="tick",
                x=x + (4 if turned else 0),
                y=y - (4 if turned else 0),
                text_anchor="end" if turned else "middle",
                transform=f"rotate(-45 {x + 4:.2f} {y - 4:.2f})" if turned else None,
            )
        )
    middle = 8 + n * cell / 2
    content.append(
        element(
            "text", "predicted", class_="title", x=left + n * cell / 2, y=height - 6, text_anchor="middle"
        )
    )
    content.append(
        element(
            "text",
            "true",
            class_="title",
            x=left - label_room + 13,
            y=middle,
            text_anchor="middle",
            transform=f"rotate(-90 {left - label_room + 13:.2f} {middle:.2f})",
        )
    )
    right = int(np.trace(counts))
    said = f"{right} of {int(counts.sum())} on the diagonal."
    svg = picture(key, f"Confusion matrix, {SOURCES[report.source]}", said, (SIZE[0], height), content)
    return Chart(svg, Markup(""), f"Confusion matrix, {SOURCES[report.source]}: counts of {counted}.")


def _cell(x: float, y: float, side: float, count: int, share: float, names: tuple[str, str]) -> list[Markup]:
    label = f"true {names[0]}, predicted {names[1]}: {count} ({share:.1%} of the row)"
    # Never so dark that the number on it could not be read in either colour scheme.
    drawn = [
        element(
            "rect",
            element("title", label),
            class_="cell",
            x=x + 1,
            y=y + 1,
            width=side - 2,
            height=side - 2,
            rx=4,
            fill_opacity=0.05 + 0.45 * share,
        )
    ]
    middle = x + side / 2
    if text_width(str(count)) <= side - 4:
        above = 3 if side >= 60 else -4
        drawn.append(
            element(
                "text", str(count), class_="count", x=middle, y=y + side / 2 - above, text_anchor="middle"
            )
        )
    if side >= 60:
        drawn.append(
            element(
                "text", f"{share:.1%}", class_="tick", x=middle, y=y + side / 2 + 16, text_anchor="middle"
            )
        )
    return drawn
