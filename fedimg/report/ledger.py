"""A ledger over its life: what was spent, what was set aside, and the most that there is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from fedimg.report.axes import Frame, ticks
from fedimg.report.lines import SIZE, Chart, Point, Series, draw_series, legend, picture


def ledger_chart(
    key: str, points: Sequence[tuple[int, float, float]], epsilon_max: float, delta: float
) -> Chart | None:
    """Steps of ε by entry, with the promised ε as the upper line; None where nothing was ever reserved.

    Args:
        key: unique on the page.
        points: (entry, ε spent, ε spent or reserved) in ascending order, of a patient who has been there
            since the ledger was opened; single patients are never shown.
    """
    if len(points) < 2:
        return None
    first, last = points[0][0], points[-1][0]
    series = (
        Series("spent or reserved", _steps([(e, c) for e, _, c in points]), 1),
        Series("spent", _steps([(e, s) for e, s, _ in points]), 0),
        Series(
            f"promised: ε ≤ {epsilon_max:g} at δ = {delta:g}", ((first, epsilon_max), (last, epsilon_max)), 2
        ),
    )
    frame = Frame.around(
        SIZE, ticks(first, last, 6, whole=True), ticks(0.0, epsilon_max), ("entry of the ledger", "ε")
    )
    spent, committed = points[-1][1], points[-1][2]
    left = max(0.0, epsilon_max - committed)
    title = "Privacy ledger over its life"
    description = (
        f"ε spent {spent:.4g}, spent or reserved {committed:.4g}, left {left:.4g} of {epsilon_max:g}."
    )
    svg = picture(key, title, description, SIZE, [*frame.draw(), *draw_series(frame, series)])
    return Chart(svg, legend(series), f"{title}: {description}")


def _steps(points: Sequence[Point]) -> tuple[Point, ...]:
    """A value holds until the next entry."""
    stairs = [points[0]]
    for (_, before), (x, y) in pairwise(points):
        if y != before:
            stairs += [(x, before), (x, y)]
    return (*stairs, points[-1])
