"""The watcher's metrics for Prometheus, read from the store when they are asked for.

No label is a UID, a name, a study's key or anything else of a patient: labels are this program's own words and names of
models, findings, sources and targets; whatever does not look like one is called "other".
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fedimg import __version__
from fedimg.web import metrics
from sites.watch.console.values import Running
from sites.watch.store.schema import reader

_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/+-]{0,63}")
_UID_OR_KEY: Final = re.compile(r"\d+(\.\d+){3,}|[0-9a-f]{32,}|\d{5,}")
_BUCKETS: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_RESULT: Final = "SELECT result.finished_at - job.queued_at AS s FROM result JOIN job ON job.id = result.job"
_ALERT: Final = "SELECT alert.raised_at - job.queued_at AS s FROM alert JOIN job ON job.id = alert.job"

_PICTURE: Final = "SELECT finished_at - owed_at AS s FROM attention WHERE state = 'made'"


class WatchMetrics:
    """One process's. `process`: what only the running watcher knows."""

    def __init__(self, root: Path, process: Callable[[], Running | None], code: str = "") -> None:
        self.registry = metrics.registry_of("watch", __version__, code)
        self.registry.register(_Read(root, process))

    def text(self) -> bytes:
        return metrics.text(self.registry)


@dataclass(eq=False)  # a registry keeps collectors by identity
class _Read(Collector):
    root: Path
    process: Callable[[], Running | None]

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        with closing(reader(self.root)) as connection:
            connection.execute("BEGIN")  # one moment for all of them
            found = [*_of_store(connection), *_counters(connection)]
        yield from found
        if (running := self.process()) is not None:
            yield from _of_process(running)


def _of_store(connection: sqlite3.Connection) -> Iterable[Metric]:
    yield _gauge(
        connection, "studies", "Studies by state.", ("state",), "SELECT state, count(*) FROM study GROUP BY 1"
    )
    yield GaugeMetricFamily(
        "fedimg_watch_studies_unread",
        "Studies that nobody has marked as read.",
        _one(connection, "SELECT count(*) FROM study WHERE read_at IS NULL"),
    )
    yield _gauge(
        connection, "jobs", "Jobs by state.", ("state",), "SELECT state, count(*) FROM job GROUP BY 1"
    )
    yield _gauge(
        connection,
        "alerts",
        "Alerts by finding and state.",
        ("finding", "state"),
        "SELECT finding, state, count(*) FROM alert GROUP BY 1, 2",
    )
    yield GaugeMetricFamily(
        "fedimg_watch_alerts_suppressed",
        "Alerts above the rate limit: shown, not pushed.",
        _one(connection, "SELECT count(*) FROM alert WHERE suppressed"),
    )
    yield _histogram(connection, "result_seconds", "From the queue to the result.", _RESULT)
    yield _histogram(connection, "alert_seconds", "From the queue to the alert.", _ALERT)
    yield _gauge(
        connection,
        "pictures",
        "Pictures of what calls rest on, made after their alerts, by state.",
        ("state",),
        "SELECT state, count(*) FROM attention GROUP BY 1",
    )
    yield _histogram(connection, "picture_seconds", "From the alert to its picture.", _PICTURE)
    yield _gauge(
        connection,
        "deliveries",
        "Deliveries by target and state.",
        ("target", "state"),
        "SELECT target, state, count(*) FROM delivery GROUP BY 1, 2",
    )
    name = "SELECT model.name, {} FROM drift_look JOIN model ON model.digest = drift_look.model {} GROUP BY 1"
    latest = (
        "WHERE drift_look.id IN (SELECT max(id) FROM drift_look GROUP BY model) AND model.role != 'retired'"
    )
    yield _gauge(
        connection,
        "drift",
        "Whether the last look found drift.",
        ("model",),
        name.format("max(drift_look.alarm)", latest),
    )
    yield _gauge(
        connection,
        "drift_looks",
        "Looks that were taken.",
        ("model",),
        name.format("count(*)", ""),
        counter=True,
    )
    yield _gauge(
        connection,
        "drift_alarms",
        "Looks that found drift.",
        ("model",),
        name.format("sum(drift_look.alarm)", ""),
        counter=True,
    )


def _counters(connection: sqlite3.Connection) -> Iterable[Metric]:
    rows = connection.execute("SELECT label, value FROM counter WHERE name = 'received' ORDER BY 1")
    received = CounterMetricFamily(
        "fedimg_watch_received", "Files that came in, since the first start.", labels=("source",)
    )
    _add(received, [((row[0],), row[1]) for row in rows])
    yield received
    others = connection.execute(
        "SELECT name, sum(value) FROM counter WHERE name NOT IN ('received', 'refused') GROUP BY 1 ORDER BY 1"
    )
    events = CounterMetricFamily(
        "fedimg_watch_events", "Other things counted since the first start.", labels=("event",)
    )
    _add(events, [((row[0],), row[1]) for row in others])
    yield events


def _of_process(running: Running) -> Iterable[Metric]:
    refused = CounterMetricFamily(
        "fedimg_watch_refused", "Files that were not taken, since this process began.", labels=("reason",)
    )
    counts = {name: count for name, count in running.counts.items() if name.startswith("refused.")}
    _add(refused, [((name.removeprefix("refused."),), count) for name, count in counts.items()])
    yield refused
    spool = CounterMetricFamily(
        "fedimg_watch_spool", "Other files that came, since this process began.", labels=("what",)
    )
    _add(spool, [((name,), count) for name, count in running.counts.items() if name not in counts])
    yield spool
    yield GaugeMetricFamily(
        "fedimg_watch_held_up", "1 while nothing can be written and nothing is taken.", bool(running.held)
    )
    yield GaugeMetricFamily("fedimg_watch_workers", "Worker processes.", len(running.workers))
    yield GaugeMetricFamily("fedimg_watch_spool_files", "Files that wait in the spool.", running.spool_files)
    yield GaugeMetricFamily("fedimg_watch_spool_bytes", "Their bytes.", running.spool_bytes)
    yield GaugeMetricFamily("fedimg_watch_free_bytes", "Free on the spool's disk.", running.free_bytes)


def _gauge(
    connection: sqlite3.Connection,
    name: str,
    text: str,
    labels: Sequence[str],
    question: str,
    *,
    counter: bool = False,
) -> Metric:
    kind = CounterMetricFamily if counter else GaugeMetricFamily
    family = kind(f"fedimg_watch_{name}", text, labels=labels)
    rows = connection.execute(question).fetchall()
    _add(family, [(tuple(row)[:-1], row[len(labels)]) for row in rows])
    return family


def _add(
    family: GaugeMetricFamily | CounterMetricFamily, rows: Sequence[tuple[tuple[object, ...], float]]
) -> None:
    """Rows whose labels become the same are added up: Prometheus takes each once."""
    sums: dict[tuple[str, ...], float] = {}
    for values, count in rows:
        words = tuple(word(value) for value in values)
        sums[words] = sums.get(words, 0.0) + float(count)
    for words, count in sums.items():
        family.add_metric(words, count)


def word(value: object) -> str:
    """A label's value: a short word of this program or of an operator, or "other"."""
    text = str(value)
    return text if _WORD.fullmatch(text) and not _UID_OR_KEY.search(text) else "other"


def _histogram(connection: sqlite3.Connection, name: str, text: str, question: str) -> Metric:
    sums = ", ".join(f"coalesce(sum(s <= {bound}), 0)" for bound in _BUCKETS)
    found = connection.execute(
        f"SELECT {sums}, count(s), coalesce(sum(s), 0.0) FROM ({question}) WHERE s >= 0"  # noqa: S608 - own words
    ).fetchone()
    buckets = [(str(bound), float(count)) for bound, count in zip(_BUCKETS, found, strict=False)]
    buckets.append(("+Inf", float(found[len(_BUCKETS)])))
    family = HistogramMetricFamily(f"fedimg_watch_{name}", text)
    family.add_metric((), buckets, float(found[len(_BUCKETS) + 1]))
    return family


def _one(connection: sqlite3.Connection, question: str) -> float:
    return float(connection.execute(question).fetchone()[0])
