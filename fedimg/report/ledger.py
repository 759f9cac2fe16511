"""A ledger over its life: what was spent, what was set aside, and the most that there is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from fedimg.report.axes import Frame, ticks
from fedimg.report.blocks import Column, epsilon_text, figure, scientific, section, table
from fedimg.report.data import LedgerRow, ReportData
from fedimg.report.lines import SIZE, Chart, Point, Series, draw_series, legend, path, picture
from fedimg.report.markup import Markup, element

# Of the sites' ledgers so many are drawn, those with the least left; the table has them all.
MOST_CHARTS: Final = 4


def ledgers(data: ReportData) -> Markup:
    """What this run took of each site's budget and what is left of it; empty where no ledger was charged."""
    if not data.ledgers:
        return Markup("")
    unit = "client" if data.privacy.mode == "client_level" else data.privacy.unit
    lead = (
        "The noise was not secret, so these figures are void; they show how the accounts were kept."
        if data.privacy.insecure
        else f"For one {unit} who has been there since the ledger was opened, over all runs together. A ledger is "
        "kept for good and promises its own ε and δ, and nothing smaller: where it stands may lie above this run's ε."
    )
    readable = sorted((row for row in data.ledgers if row.course), key=lambda row: row.left)
    groups: dict[tuple[object, ...], list[LedgerRow]] = {}
    for row in readable:
        groups.setdefault((row.course, row.since, row.epsilon_max, row.delta), []).append(row)
    alike = list(groups.values())
    drawn = [
        _drawn(f"ledger-{number}", rows, void=data.privacy.insecure)
        for number, rows in enumerate(alike[:MOST_CHARTS])
    ]
    heads = ("site", "promised ε", "δ", "other runs", "this run", "left", "spent in all, ε")
    columns = [Column(head, numeric=number > 0) for number, head in enumerate(heads)]
    said = [element("p", text) for text in _said(data, alike[MOST_CHARTS:])]
    return section(
        "Budget by ledger" if unit == "client" else "Budget of each site",
        lead,
        element("div", drawn, class_="figures"),
        table(columns, [_cells(row) for row in (*readable, *(r for r in data.ledgers if not r.course))]),
        *said,
    )


def ledger_chart(
    key: str,
    points: Sequence[tuple[int, float, float]],
    epsilon_max: float,
    delta: float,
    *,
    whose: str = "",
    since: int = 0,
) -> Chart | None:
    """Steps of ε by entry, with the promised ε as the upper line; None where nothing was ever reserved.

    Args:
        key: unique on the page.
        points: (entry, ε spent, ε spent or reserved) in ascending order, of a patient who has been there
            since the ledger was opened; single patients are never shown.
        whose: site, or sites with the same course. since: an entry to be marked, where a run began; 0: none.
    """
    if len(points) < 2:
        return None
    first, last = points[0][0], points[-1][0]
    series = (
        Series("spent or reserved", _steps([(e, c) for e, _, c in points]), 1),
        Series("spent", _steps([(e, s) for e, s, _ in points]), 0),
        Series(
            f"promised: ε ≤ {epsilon_max:g} at δ = {scientific(delta)}",
            ((first, epsilon_max), (last, epsilon_max)),
            2,
        ),
    )
    frame = Frame.around(
        SIZE, ticks(first, last, 6, whole=True), ticks(0.0, epsilon_max), ("entry of the ledger", "ε")
    )
    spent, committed = points[-1][1], points[-1][2]
    left = max(0.0, epsilon_max - committed)
    title = f"Privacy ledger of {whose} over its life" if whose else "Privacy ledger over its life"
    description = (
        f"ε spent {spent:.4g}, spent or reserved {committed:.4g}, left {left:.4g} of {epsilon_max:g}."
    )
    caption = f"{title}: {description}"
    drawn = frame.draw()
    if since > first:
        ends = [(frame.x(since), frame.y(frame.y_ticks.low)), (frame.x(since), frame.y(frame.y_ticks.high))]
        drawn.append(element("path", class_="reference", d=path(ends), fill="none"))
        caption += f" This run begins at the dashed line, entry {since:,}."
    svg = picture(key, title, description, SIZE, [*drawn, *draw_series(frame, series)])
    return Chart(svg, legend(series), caption)


def _drawn(key: str, rows: Sequence[LedgerRow], *, void: bool) -> Markup:
    row = rows[0]
    names = [one.site for one in rows]
    whose = ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} others, all alike,"
    chart = ledger_chart(
        key,
        row.course,
        row.epsilon_max,
        row.delta,
        whose=f"{whose} (void)" if void else whose,
        since=row.since,
    )
    return figure(chart) if chart is not None else Markup("")


def _cells(row: LedgerRow) -> list[str]:
    if not row.course:
        return [row.site, *["–"] * 6]
    return [
        row.site,
        f"{row.epsilon_max:g}",
        scientific(row.delta),
        _share(row.others),
        _share(row.taken),
        _share(row.left, up=False),
        epsilon_text(row.epsilon),
    ]


def _share(value: float, *, up: bool = True) -> str:
    """A part of the budget, rounded so that never too much seems left."""
    tenths = math.ceil(1000 * value - 1e-6) if up else math.floor(1000 * value + 1e-6)
    return f"{tenths / 10:.1f} %"


def _said(data: ReportData, not_drawn: Sequence[Sequence[LedgerRow]]) -> list[str]:
    """Sentences below the table."""
    said = [
        (
            "Shares are of the Rényi divergence that a ledger may spend at its one order. It adds up over runs; ε does "
            "not, since it holds a constant beside that sum, which the first run brings in whole. What was set aside for interrupted rounds and not needed is free again when the run is closed, "
            "last of all; the table counts it as left, the charts end before."
        )
    ]
    rest = [row for rows in not_drawn for row in rows]
    if rest:
        low, high = min(row.left for row in rest), max(row.left for row in rest)
        some = (
            _share(low, up=False)
            if _share(low) == _share(high)
            else f"{_share(low, up=False)} to {_share(high, up=False)}"
        )
        said.append(
            f"Drawn are the ledgers with the least left. The other {len(rest):,} have {some} of their budget left."
        )
    unread = sum(not row.course for row in data.ledgers)
    if unread:
        said.append(
            f"{unread:,} {'ledger' if unread == 1 else 'ledgers'} could not be read at the end of the run: "
            "`fedimg ledger verify` at the site says why."
        )
    if data.privacy.scratch_ledger:
        said.append(
            "These ledgers were made for this run and go with it: a simulation keeps no account for good."
        )
    return said


def _steps(points: Sequence[Point]) -> tuple[Point, ...]:
    """A value holds until the next entry."""
    stairs = [points[0]]
    for (_, before), (x, y) in pairwise(points):
        if y != before:
            stairs += [(x, before), (x, y)]
    return (*stairs, points[-1])
