"""What this site has seen of a model, from the store: how often it looked, what became of its alerts, what people found."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sites.watch.console.models_reading import ModelInfo
from sites.watch.console.reading import mapping, number_of, read_json

_WEEK_S: Final = 7 * 86400.0
_MOST_LABELS: Final = 5000


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What labels said of a model at its threshold, the last time. `kept`: False where they contradict the promise."""

    positives: int
    hits: int
    negatives: int
    false_alarms: int
    target: float | None
    kept: bool


@dataclass(frozen=True, slots=True)
class SeenHere:
    """What this site has seen of a model.

    Attributes:
        studies, seconds: looked at in the last week, and since when within it.
        outcomes: alerts by state. labels: (score, whether a person found it) by finding.
    """

    studies: int
    seconds: float
    outcomes: Mapping[str, int]
    labels: Mapping[str, list[tuple[float, bool]]]
    evaluated: Evaluated | None

    @property
    def per_day(self) -> float | None:
        """Studies a day; None before an hour has been seen."""
        return self.studies * 86400 / self.seconds if self.studies and self.seconds >= 3600 else None


def seen_here(connection: sqlite3.Connection, model: ModelInfo, now: float) -> SeenHere:
    """What happened at this site with one model."""
    studies, first = connection.execute(
        "SELECT count(DISTINCT study), min(finished_at) FROM result WHERE model = ? AND finished_at >= ?",
        (model.digest, now - _WEEK_S),
    ).fetchone()
    outcomes = connection.execute(
        "SELECT state, count(*) FROM alert WHERE model = ? GROUP BY 1", (model.digest,)
    ).fetchall()
    labels: dict[tuple[str, str], tuple[float, bool]] = {}
    for study, finding, present, prediction in connection.execute(
        "SELECT label.study, label.finding, label.present, result.prediction FROM label "
        "JOIN result ON result.study = label.study JOIN job ON job.id = result.job "
        "WHERE result.model = ? AND job.state != 'superseded' ORDER BY label.at DESC LIMIT ?",
        (model.digest, _MOST_LABELS),
    ):
        score = number_of(mapping(mapping(read_json(prediction)).get("scores")).get(finding))
        if score is not None:
            # of several series the study's score is the highest: it is what would have called it
            before = labels.get((study, finding), (0.0, bool(present)))[0]
            labels[study, finding] = max(score, before), bool(present)
    by_finding: dict[str, list[tuple[float, bool]]] = {}
    for (_, finding), found in labels.items():
        by_finding.setdefault(finding, []).append(found)
    seconds = now - first if first is not None else 0.0
    counts = {str(state): int(count) for state, count in outcomes}
    return SeenHere(int(studies), seconds, counts, by_finding, _evaluated(connection, model))


def _evaluated(connection: sqlite3.Connection, model: ModelInfo) -> Evaluated | None:
    row = connection.execute(
        "SELECT * FROM evaluation WHERE model = ? ORDER BY id DESC LIMIT 1", (model.digest,)
    ).fetchone()
    if row is None:
        return None
    counts = (row["positives"], row["hits"], row["negatives"], row["false_alarms"])
    return Evaluated(*counts, row["target"], bool(row["kept"]))
