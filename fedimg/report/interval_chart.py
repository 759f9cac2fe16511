"""Estimates with their intervals, one below the other, beside what was claimed or expected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedimg.report.axes import Frame, Ticks, shortened, ticks
from fedimg.report.lines import Chart, Series, legend, marker, picture
from fedimg.report.markup import Markup, element
from fedimg.values import Interval

WIDTH = 1000.0
_ROW, _LABEL = 38.0, 220.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One row: a name, an estimate with its interval, and the value that it is held against, if any."""

    name: str
    found: Interval
    reference: float | None = None


def intervals(
    rows: Sequence[Measured], axis_title: str, caption: str, key: str, reference: str = "claimed"
) -> Chart | None:
    """A point and a whisker for each row, and a diamond at its reference; None without rows."""
    if not rows:
        return None
    ends = [value for row in rows for value in (row.found.low, row.found.high)]
    ends += [row.reference for row in rows if row.reference is not None]
    axis = ticks(min(0.0, *ends), max(ends), 6)
    height = len(rows) * _ROW + 72
    inner = Frame.around((WIDTH, height), axis, ticks(0, 1), (axis_title, ""))
    x = type(inner.x)(axis.low, axis.high, _LABEL, WIDTH - 190)
    y = type(inner.y)(0.0, 1.0, height - 46, 16.0)
    frame = Frame(WIDTH, height, x, y, axis, Ticks((), ()), axis_title, "")
    content = [part for k, row in enumerate(rows) for part in _row(frame, row, 16 + k * _ROW)]
    said = "; ".join(f"{row.name} {_text(row.found)}" for row in rows)
    shown = [Series("estimate with its interval", (), 0), Series(reference, (), 2)]
    return Chart(
        picture(key, caption, f"{said}.", (WIDTH, height), [*frame.draw(), *content]),
        legend(shown if any(row.reference is not None for row in rows) else []),
        caption,
    )


def _row(frame: Frame, row: Measured, top: float) -> list[Markup]:
    y, found = top + _ROW / 2, row.found
    drawn = [
        element(
            "text", element("title", row.name), shortened(row.name, _LABEL - 20), class_="label", x=8, y=y + 4
        ),
        element("line", class_="whisker s0", x1=frame.x(found.low), x2=frame.x(found.high), y1=y, y2=y),
    ]
    ends = (frame.x(found.low), frame.x(found.high))
    drawn += [element("line", class_="whisker s0", x1=x, x2=x, y1=y - 3.5, y2=y + 3.5) for x in ends]
    drawn.append(marker(0, frame.x(found.value), y, 4.2, f"{row.name}: {_text(found)}"))
    if row.reference is not None:
        drawn.append(marker(2, frame.x(row.reference), y, 4.2, f"{row.name}: {row.reference:.3g}"))
    drawn.append(element("text", _text(found), class_="value s0", x=WIDTH - 8, y=y + 4, text_anchor="end"))
    return drawn


def _text(found: Interval) -> str:
    return f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"
