"""How a ledger came to where it stands: spent, reserved and left after each entry."""

from __future__ import annotations

import json
from typing import NamedTuple

from fedimg.privacy.statement import RunSpend, Statement, apply, replay


class CoursePoint(NamedTuple):
    """After one entry, as ε at the ledger's δ: what was spent, and what was spent or set aside."""

    entry: int
    spent: float
    committed: float


def course(statement: Statement, most: int = 400) -> tuple[CoursePoint, ...]:
    """One point an entry, of a patient who has been there since the ledger was opened.

    Args:
        most: where there are more entries, so many of them, evenly spread, and always the last.
    """
    terms, entries = statement.terms, statement.entries
    order, conversion = terms.order, terms.epsilon_max - terms.budget
    chosen = {len(entries), *(1 + k * len(entries) // most for k in range(most))}
    spent: dict[str, float] = {}
    committed: dict[str, float] = {}
    runs: dict[str, RunSpend] = {}
    points = []
    for number, body in enumerate(entries, start=1):
        entry = json.loads(body)
        lost = 0.0
        if entry["kind"] == "recover":  # everything may have changed
            _, runs, lost = replay(entries[:number])
            spent = {name: run.spent(order) for name, run in runs.items()}
            committed = {name: run.rho(order) for name, run in runs.items()}
            spent[""] = committed[""] = lost
        elif entry["kind"] != "open":
            run = _after(runs, entry)
            spent[run.run], committed[run.run] = run.spent(order), run.rho(order)
        if number in chosen:
            sums = (sum(spent.values()), sum(committed.values()))
            points.append(CoursePoint(number, *(rho + conversion if rho else 0.0 for rho in sums)))
    return tuple(points)


def reserved_at(statement: Statement, run: str) -> int:
    """The number, from 1, of the entry with which a run was reserved; 0 where it never was."""
    return next(
        (
            number
            for number, body in enumerate(statement.entries, start=1)
            if (entry := json.loads(body))["kind"] == "reserve" and entry["run"] == run
        ),
        0,
    )


def _after(runs: dict[str, RunSpend], entry: dict[str, object]) -> RunSpend:
    apply(runs, entry)
    return runs[str(entry["run"])]
