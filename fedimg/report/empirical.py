"""The measured ε beside the claimed one."""

from __future__ import annotations

from collections.abc import Sequence

from fedimg.report import blocks
from fedimg.report.blocks import Column, epsilon_text, scientific, section, table
from fedimg.report.data import EmpiricalRow
from fedimg.report.interval_chart import Measured, intervals
from fedimg.report.markup import Markup, element

LEAD = (
    "Public canaries went through the same sampling, clipping, noise and charge as patients do, on a shadow site "
    "with the plan's own numbers. What they show was fitted and accounted like the claim. This is an estimate, "
    "not a proof and not a bound: it says whether the mechanism behaves as its plan says, not what an attacker "
    "learns from this model."
)


def empirical(rows: Sequence[EmpiricalRow]) -> Markup:
    """The section; empty without a measurement."""
    if not rows:
        return Markup("")
    content: list[Markup] = []
    if any(row.flagged for row in rows):
        said = (
            "What the canaries show does not fit the claimed numbers. Do not rely on the stated ε until the "
            "mechanism has been examined: `fedimg audit battery` tests its parts one by one."
        )
        content.append(
            element(
                "div",
                element("strong", "The measurement contradicts the claim."),
                element("p", said),
                class_="notice danger",
                role="note",
            )
        )
    drawable = [Measured(row.name, row.estimate, row.claim) for row in rows if row.estimate is not None]
    caption = (
        "ε of the fitted mechanism with a 98 % interval, and the ε that is claimed for the same releases."
    )
    chart = intervals(drawable, "ε", caption, "empirical")
    if chart is not None:
        content.append(blocks.figure(chart, wide=True))
    columns = [
        Column("plan of", numeric=False),
        Column("claimed ε"),
        Column("estimated ε"),
        Column("98 % interval"),
        Column("δ"),
        Column("canaries"),
        Column("steps"),
        Column("finding", numeric=False),
    ]
    content.append(table(columns, [_row(row) for row in rows]))
    numbers = [Column("number", numeric=False), Column("claimed"), Column("fitted"), Column("one-sided p")]
    for row in rows:
        written = [[name, f"{a:.4g}", f"{b:.4g}", f"{p:.2g}"] for name, a, b, p in row.numbers]
        content.append(table(numbers, written, caption=f"{row.name}: what the canaries show of each number"))
    return section("Measured beside the claim", LEAD, *content)


def _row(row: EmpiricalRow) -> list[str]:
    found = row.estimate
    return [
        row.name,
        epsilon_text(row.claim),
        "∞" if found is None else f"{found.value:.3g}",
        "–" if found is None else f"{found.low:.3g} to {found.high:.3g}",
        scientific(row.delta),
        f"{row.canaries:,}",
        f"{row.steps:,}",
        "contradicts the claim" if row.flagged else "agrees with the claim",
    ]
