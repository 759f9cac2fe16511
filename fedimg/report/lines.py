"""Charts of lines: anything by round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fedimg.report.axes import Frame, Ticks, ticks
from fedimg.report.data import RoundPoint
from fedimg.report.markup import Markup, element, number

Point: TypeAlias = "tuple[float, float]"
COLOURS = 8
_MOST_MARKERS = 30
SIZE = (380.0, 260.0)


@dataclass(frozen=True, slots=True)
class Series:
    """A named line. `style` picks colour and marker; None draws it thin, as one of a crowd."""

    name: str
    points: tuple[Point, ...]
    style: int | None = 0


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure: the picture, its legend (empty for a single line) and the sentence below it."""

    svg: Markup
    legend: Markup
    caption: str


def picture(
    key: str, title: str, description: str, size: tuple[float, float], content: Sequence[Markup]
) -> Markup:
    """The SVG element with its accessible name and description; `key` is unique on the page."""
    return element(
        "svg",
        element("title", title, id=f"{key}-title"),
        element("desc", description, id=f"{key}-desc"),
        content,
        class_="chart",
        viewBox=f"0 0 {number(size[0])} {number(size[1])}",
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
    )


def path(points: Sequence[Point]) -> str:
    """The `d` of a line through points given in user units."""
    return "M" + "L".join(f"{number(x)},{number(y)}" for x, y in points)


def marker(style: int, x: float, y: float, radius: float, label: str = "", *, faint: bool = False) -> Markup:
    """A marker whose shape, too, tells the series apart; `label` appears on hovering."""
    name = element("title", label) if label else ""
    classes = f"mark s{style % COLOURS}{' faint' if faint else ''}"
    corners: tuple[Point, ...]
    match style % 4:
        case 1:
            side = 1.8 * radius
            return element(
                "rect", name, class_=classes, x=x - side / 2, y=y - side / 2, width=side, height=side
            )
        case 2:
            tip = 1.35 * radius
            corners = ((x, y - tip), (x + tip, y), (x, y + tip), (x - tip, y))
        case 3:
            tip = 1.25 * radius
            corners = ((x, y - tip), (x + tip, y + tip * 0.8), (x - tip, y + tip * 0.8))
        case _:
            return element("circle", name, class_=classes, cx=x, cy=y, r=radius)
    return element("path", name, class_=classes, d=path(corners) + "Z")


def legend(series: Sequence[Series]) -> Markup:
    """A list of swatches and names; empty where one line needs none."""
    if len(series) < 2:
        return Markup("")
    items = []
    for one in series:
        if one.style is None:
            drawn = [element("line", class_="line crowd", x1=0, x2=22, y1=6, y2=6)]
        else:
            drawn = [
                element("line", class_=f"line s{one.style % COLOURS}", x1=0, x2=22, y1=6, y2=6),
                marker(one.style, 11, 6, 3.4),
            ]
        swatch = element("svg", drawn, class_="swatch", viewBox="0 0 22 12", aria_hidden="true")
        items.append(element("li", swatch, one.name))
    return element("ul", items, class_="legend")


def draw_series(frame: Frame, series: Sequence[Series]) -> list[Markup]:
    """The lines, crowd first, with markers as far as there is room for them."""
    drawn = []
    for one in sorted(series, key=lambda s: s.style is not None):
        at = [(frame.x(x), frame.y(y)) for x, y in one.points]
        if one.style is None:
            drawn.append(element("path", element("title", one.name), class_="line crowd", d=path(at)))
            continue
        drawn.append(element("path", class_=f"line s{one.style % COLOURS}", d=path(at)))
        # Where the points stand close, the line is enough and only its end is marked.
        begin = 0 if len(at) <= _MOST_MARKERS else len(at) - 1
        for (x, y), (value_x, value_y) in zip(at[begin:], one.points[begin:], strict=True):
            label = f"{one.name}: {value_y:.4g} at {value_x:g}"
            drawn.append(marker(one.style, x, y, 3.4, label))
    return drawn


def by_round(
    key: str,
    title: str,
    series: Sequence[Series],
    y_title: str,
    *,
    zero: bool = False,
    ceiling: float = math.inf,
    reference: float | None = None,
) -> Chart | None:
    """A chart over rounds; None where there is no finite point.

    Args:
        zero: the axis begins at zero. ceiling: and may not pass this. reference: a dashed line at this value.
    """
    finite = [
        Series(s.name, tuple(p for p in s.points if math.isfinite(p[1])), s.style) for s in series if s.points
    ]
    finite = [s for s in finite if s.points]
    if not finite:
        return None
    xs = [x for s in finite for x, _ in s.points]
    ys = [y for s in finite for _, y in s.points] + ([reference] if reference is not None else [])
    x_ticks = _without_margin(ticks(min(xs), max(xs), 6, whole=True), min(xs), max(xs))
    y_ticks = ticks(0.0 if zero else min(ys), max(ys), ceiling=ceiling)
    frame = Frame.around(SIZE, x_ticks, y_ticks, ("round", y_title))
    across = []
    if reference is not None:
        y = frame.y(reference)
        across = [element("line", class_="reference", x1=frame.x.start, x2=frame.x.end, y1=y, y2=y)]
    last = "; ".join(f"{s.name} ends at {s.points[-1][1]:.4g}" for s in finite[:COLOURS])
    shown = [s for s in finite if s.style is not None]
    crowd = [s for s in finite if s.style is None][:1]
    return Chart(
        picture(
            key,
            title,
            f"{y_title} by round: {last}.",
            SIZE,
            [*frame.draw(), *across, *draw_series(frame, finite)],
        ),
        legend([*shown, *(Series("other sites", s.points, None) for s in crowd)]),
        title,
    )


def _without_margin(around: Ticks, low: float, high: float) -> Ticks:
    """The same ticks, but the axis ends at the first and last round."""
    inside = [
        (v, label) for v, label in zip(around.values, around.labels, strict=True) if low < v < high and label
    ]
    if high <= low:
        return around
    step = around.values[1] - around.values[0]
    inside = [(v, label) for v, label in inside if v - low >= step * 0.6 and high - v >= step * 0.6]
    ends = ((low, f"{low:,.0f}"), *inside, (high, f"{high:,.0f}"))
    return Ticks(tuple(v for v, _ in ends), tuple(label for _, label in ends))


def epsilon_series(rounds: Sequence[RoundPoint]) -> tuple[Series, ...]:
    """ε of each site by round; sites with the same course are one line, many courses a crowd.

    Beyond `COLOURS` different courses only the largest and the smallest are told apart.
    """
    courses: dict[tuple[Point, ...], list[str]] = {}
    for site in sorted({site for point in rounds for site in point.epsilon}):
        points = tuple((float(p.round), p.epsilon[site]) for p in rounds if site in p.epsilon)
        courses.setdefault(tuple(p for p in points if math.isfinite(p[1])), []).append(site)
    ordered = sorted(((p, names) for p, names in courses.items() if p), key=lambda item: -item[0][-1][1])
    if len(ordered) <= COLOURS:
        return tuple(Series(_together(names), p, k) for k, (p, names) in enumerate(ordered))
    last = len(ordered) - 1
    return tuple(
        Series(
            {0: f"{_together(names)} (largest)", last: f"{_together(names)} (smallest)"}.get(
                k, _together(names)
            ),
            p,
            {0: 0, last: 1}.get(k),
        )
        for k, (p, names) in enumerate(ordered)
    )


def _together(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} sites, all alike"
