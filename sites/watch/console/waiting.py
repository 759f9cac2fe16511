"""What an order by urgency costs those who wait: measured arrivals, put into the formula of a queue with priorities.

One server, Poisson arrivals, service times with coefficient of variation 1, nobody interrupted (Cobham 1954): with load
ρ = λs, of which ρ_h urgent, an urgent one waits ρs/(1 − ρ_h), a routine one ρs/((1 − ρ_h)(1 − ρ)), and without an order
everybody ρs/(1 − ρ). The mean over all is the same: whatever urgent ones gain, the others pay.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Final

from sites.watch.console.values import WaitInfo

_DAY_S: Final = 86400.0
_LEAST: Final = 10  # of a thing, before its time is called measured
_LONGEST_GAP_S: Final = 3600.0  # between two studies read; whoever was away longer was away


@dataclass(frozen=True, slots=True)
class Waits:
    """Mean waits in seconds; None where they have no end."""

    busy: float
    in_order_s: float | None
    urgent_s: float | None
    routine_s: float | None


def waits(rate_per_s: float, urgent_share: float, service_s: float) -> Waits:
    """The card's formula."""
    load = rate_per_s * service_s
    urgent_load = load * urgent_share
    return Waits(
        load,
        load * service_s / (1 - load) if load < 1 else None,
        load * service_s / (1 - urgent_load) if urgent_load < 1 and load < 1 else None,
        load * service_s / ((1 - urgent_load) * (1 - load)) if load < 1 else None,
    )


def measured(connection: sqlite3.Connection, now: float, workers: int) -> list[WaitInfo]:
    """Of the last 24 hours; only queues of which enough was seen."""
    since = now - _DAY_S
    arrived = connection.execute(
        "SELECT count(*), sum(priority > 0), min(first_at) FROM study WHERE first_at >= ?", (since,)
    ).fetchone()
    count, urgent, first = int(arrived[0]), int(arrived[1] or 0), arrived[2]
    if count < _LEAST:
        return []
    rate = count / max(now - first, 60.0)
    cards = []
    if (job := _job_seconds(connection, since, count)) is not None:
        cards.append(_card("analysis by the models", rate, urgent / count, job / max(1, workers)))
    if (reading := _reading_seconds(connection, since)) is not None:
        cards.append(_card("reading by people", rate, urgent / count, reading))
    return cards


def _card(what: str, rate: float, share: float, service_s: float) -> WaitInfo:
    found = waits(rate, share, service_s)
    return WaitInfo(
        what,
        3600 * rate,
        share,
        service_s,
        found.busy,
        found.in_order_s,
        found.urgent_s,
        found.routine_s,
    )


def _job_seconds(connection: sqlite3.Connection, since: float, studies: int) -> float | None:
    """All the work that a study makes, in seconds of one worker."""
    count, seconds = connection.execute(
        "SELECT count(*), sum(finished_at - started_at) FROM job WHERE finished_at >= ? AND started_at IS NOT NULL",
        (since,),
    ).fetchone()
    return float(seconds) / studies if count >= _LEAST else None


def _reading_seconds(connection: sqlite3.Connection, since: float) -> float | None:
    """Between two studies that were read one after the other while the second already lay there: nobody was idle."""
    found = connection.execute(
        "SELECT read_at, coalesce(completed_at, last_at) FROM study WHERE read_at >= ? ORDER BY read_at",
        (since,),
    ).fetchall()
    gaps = [
        after[0] - before[0]
        for before, after in pairwise(found)
        if after[1] <= before[0] and 0 < after[0] - before[0] <= _LONGEST_GAP_S
    ]
    if len(gaps) < _LEAST:
        return None
    # a few long ones are a break; the mean of what is left is what a queue needs
    longest = 5 * median(gaps)
    return fmean(gap for gap in gaps if gap <= longest)
