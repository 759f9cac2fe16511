"""Drawn on the server, as SVG: a course of values on a line of a table, and how often what was predicted came true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedimg.monitoring.proportions import wilson
from fedimg.report.axes import Frame, ticks
from fedimg.report.lines import SIZE, Chart, marker, path, picture
from fedimg.report.markup import Markup, element

_WIDTH, _HEIGHT, _EDGE = 170.0, 34.0, 4.0
_BINS = 10


def sparkline(values: Sequence[float], label: str) -> Markup:
    """The latest values of a stream, the oldest at the left; its last one marked. Empty for fewer than two."""
    if len(values) < 2:
        return Markup("")
    low, high = min(values), max(values)
    room = (high - low) or 1.0
    step = (_WIDTH - 2 * _EDGE) / (len(values) - 1)
    points = [
        (_EDGE + k * step, _HEIGHT - _EDGE - (value - low) / room * (_HEIGHT - 2 * _EDGE))
        for k, value in enumerate(values)
    ]
    said = f"{label}: {len(values)} values from {low:.4g} to {high:.4g}, the last {values[-1]:.4g}"
    return element(
        "svg",
        element("title", said),
        element("path", class_="line s0", d=path(points)),
        marker(0, *points[-1], 3),
        class_="spark",
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        role="img",
    )


@dataclass(frozen=True, slots=True)
class Bin:
    """Studies whose score lies in one tenth: the mean score, how many have the finding, of how many."""

    predicted: float
    present: int
    count: int


def bins(labels: Sequence[tuple[float, bool]]) -> list[Bin]:
    """Of (score, whether it is there); tenths without a study are left out."""
    sorted_in: dict[int, list[tuple[float, bool]]] = {}
    for score, present in labels:
        sorted_in.setdefault(min(_BINS - 1, max(0, int(score * _BINS))), []).append((score, present))
    return [
        Bin(sum(score for score, _ in one) / len(one), sum(present for _, present in one), len(one))
        for _, one in sorted(sorted_in.items())
    ]


def reliability(key: str, title: str, found: Sequence[Bin]) -> Chart:
    """Observed rates with Wilson's intervals of 95 %, against what was predicted."""
    unit = ticks(0, 1, ceiling=1)
    frame = Frame.around(SIZE, unit, unit, ("score", "share with the finding"))
    drawn = [
        *frame.draw(),
        element("line", class_="reference", x1=frame.x(0), y1=frame.y(0), x2=frame.x(1), y2=frame.y(1)),
    ]
    for one in found:
        rate = wilson(one.present, one.count)
        x = frame.x(one.predicted)
        whisker = element(
            "line", class_="whisker s0", x1=x, x2=x, y1=frame.y(rate.low), y2=frame.y(rate.high)
        )
        label = f"{one.present} of {one.count} with scores near {one.predicted:.2f}"
        drawn += [whisker, marker(0, x, frame.y(rate.value), 4, label)]
    said = "; ".join(f"near {one.predicted:.2f}: {one.present} of {one.count}" for one in found)
    return Chart(
        picture(key, title, f"Share of labelled studies with the finding by score. {said}.", SIZE, drawn),
        Markup(""),
        f"{title}, {sum(one.count for one in found):,} labelled studies, with intervals of 95 %. On the diagonal, what "
        "is predicted comes true as often as predicted.",
    )
