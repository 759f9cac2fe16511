"""What an order by urgency costs those who wait, from what was measured here; the formula is `monitoring.worklist`'s.

Measured are mean times, not how much they vary: with exponential ones the card's waits are ρs/((1 − ρ_h)(1 − ρ)) for
routine studies, ρs/(1 − ρ_h) for urgent ones, ρs/(1 − ρ) in order of arrival.
"""

from __future__ import annotations

import sqlite3
from itertools import pairwise
from statistics import fmean, median
from typing import Final

from fedimg.monitoring.worklist import Reading
from sites.watch.console.values import WaitInfo

_DAY_S: Final = 86400.0
_LEAST: Final = 10  # of a thing, before its time is called measured
_LONGEST_GAP_S: Final = 3600.0  # between two studies read; whoever was away longer was away


def card(what: str, per_hour: float, urgent_share: float, service_s: float) -> WaitInfo:
    """One queue's card; of one that cannot keep up the waits have no end."""
    busy = per_hour * service_s / 3600
    if not 0 < busy < 1:
        return WaitInfo(what, per_hour, urgent_share, service_s, busy, None, None, None)
    reading = Reading(per_hour, service_s / 60)
    urgent, routine = (60 * minutes for minutes in reading.waits(urgent_share))
    return WaitInfo(what, per_hour, urgent_share, service_s, busy, 60 * reading.wait(), urgent, routine)


def measured(connection: sqlite3.Connection, now: float, workers: int) -> list[WaitInfo]:
    """Of the last 24 hours; only queues of which enough was seen."""
    since = now - _DAY_S
    arrived = connection.execute(
        "SELECT count(*), sum(stat OR priority > 0), min(first_at) FROM study WHERE first_at >= ?", (since,)
    ).fetchone()
    count, urgent, first = int(arrived[0]), int(arrived[1] or 0), arrived[2]
    if count < _LEAST:
        return []
    rate = count / max(now - first, 60.0)
    cards = []
    if (job := _job_seconds(connection, since, count)) is not None:
        cards.append(card("analysis by the models", 3600 * rate, urgent / count, job / max(1, workers)))
    if (reading := _reading_seconds(connection, since)) is not None:
        cards.append(card("reading by people", 3600 * rate, urgent / count, reading))
    return cards


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
