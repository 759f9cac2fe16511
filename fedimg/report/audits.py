"""Pages of single audits: what was asked, what was found, and what it does not show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fedimg.report import blocks
from fedimg.report.axes import Frame, ticks
from fedimg.report.blocks import Column, bullets, section, table
from fedimg.report.interval_chart import Measured, intervals
from fedimg.report.lines import SIZE, Chart, Series, draw_series, legend, picture
from fedimg.report.markup import Markup, element
from fedimg.report.page import document
from fedimg.report.png import png_of

Picture = npt.NDArray[np.float32]


def page(title: str, verdict: str, said: str, limits: Sequence[str], content: Sequence[Markup]) -> str:
    """One audit as a self-contained page: title, verdict with a sentence, pictures, and what it does not show."""
    passed = verdict == "pass"
    heading = element(
        "header",
        element("h1", title),
        element(
            "div",
            element("strong", "Passed" if passed else "Failed"),
            element("p", said),
            class_="notice note" if passed else "notice danger",
            role="note",
        ),
    )
    bounds = section("What this does not show", "", bullets(limits))
    return document(title, [heading, *content, bounds])


def measurements(title: str, lead: str, rows: Sequence[Measured], axis: str, reference: str) -> Markup:
    """A section with estimates, their intervals, and what they are held against."""
    chart = intervals(rows, axis, lead, "measured", reference)
    head = [Column("", numeric=False), Column("found"), Column("95 % interval"), Column(reference)]
    written = [
        [
            row.name,
            f"{row.found.value:.3g}",
            f"{row.found.low:.3g} to {row.found.high:.3g}",
            "–" if row.reference is None else f"{row.reference:.3g}",
        ]
        for row in rows
    ]
    drawn = [] if chart is None else [blocks.figure(chart, wide=True)]
    return section(title, "", *drawn, table(head, written))


def curves(title: str, lead: str, rates: Mapping[str, npt.NDArray[np.float64]]) -> Markup:
    """True positive rates over false positive rates, (points, 2) each, in logarithms: what counts is the left end."""
    series = []
    for k, (name, points) in enumerate(rates.items()):
        shown = points[(points > 0).all(axis=1)]
        series.append(Series(name, tuple((float(np.log10(x)), float(np.log10(y))) for x, y in shown), k))
    series = [one for one in series if one.points]
    if not series:
        return Markup("")
    lowest = min(value for one in series for point in one.points for value in point)
    axis = ticks(lowest, 0.0, 4, ceiling=0.0)
    frame = Frame.around(
        SIZE, axis, axis, ("log₁₀ of the false positive rate", "log₁₀ of the true positive rate")
    )
    ends = (frame.x(axis.low), frame.x(0.0), frame.y(axis.low), frame.y(0.0))
    diagonal = element("line", class_="mean s7", x1=ends[0], x2=ends[1], y1=ends[2], y2=ends[3])
    said = "; ".join(f"{one.name} starts at {one.points[0][1]:.2f}" for one in series)
    drawn = picture("roc", title, f"{said}.", SIZE, [*frame.draw(), diagonal, *draw_series(frame, series)])
    figure = blocks.figure(Chart(drawn, legend(series), lead))
    return section(title, "", element("div", figure, class_="figures"))


def pictures(title: str, lead: str, rows: Sequence[Sequence[tuple[str, Picture]]]) -> Markup:
    """Rows of images (H, W) side by side, each with its own words and in its own window."""
    drawn = []
    for row in rows:
        cells = [
            element("figure", blocks.image(png_of(shown), words), element("figcaption", words))
            for words, shown in row
        ]
        drawn.append(element("div", cells, class_="quarters"))
    return section(title, lead, *drawn)
