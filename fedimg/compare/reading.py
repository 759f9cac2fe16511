"""A run's folder → a row: what its summary says, and nothing that is not there."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fedimg.compare.rows import METRICS, OF_TASK, Row, Score
from fedimg.errors import DataError

PUBLIC_SET = "public test set"
AT_SITES = "sites' held-out patients"
_MOST_BYTES = 64 << 20


def read_run(folder: Path, learner: str | None = None, epsilon: float | None = None) -> Row:
    """The row of a finished run, named by its experiment or network where `learner` does not name it.

    Raises:
        DataError: no finished run is there, or its files are not what a run writes.
    """
    try:
        summary = _mapping(json.loads(_text(folder / "summary.json")))
        config = _mapping(yaml.safe_load(_text(folder / "config.yaml")))
        return _row(folder, summary, config, learner, epsilon)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as fault:
        raise DataError(
            "a finished run's folder, with summary.json and config.yaml",
            f"one that cannot be read as such ({type(fault).__name__})",
            "name a finished run: `fedimg runs list` says which are",
        ) from fault


def _row(
    folder: Path,
    summary: Mapping[str, Any],
    config: Mapping[str, Any],
    learner: str | None,
    epsilon: float | None,
) -> Row:
    privacy, model = _mapping(summary["privacy"]), str(config["model"]["name"])
    baseline = summary.get("baseline")
    if baseline is not None:  # nothing was learnt
        learner, model, epsilon = str(baseline), str(baseline), 0.0
    mode, private = str(privacy["mode"]), bool(privacy["private"])
    if epsilon is None:
        epsilon = math.inf if mode == "none" else float(config["privacy"]["epsilon"])
    scores, measured_on = _scores(summary)
    cost = _mapping(summary.get("cost") or {})
    seconds = cost.get("seconds")
    sites = [_mapping(site) for site in _mapping(summary["sites"]).values()]
    return Row(
        learner or str(config.get("experiment") or model),
        epsilon,
        mode,
        "finished",
        model=model,
        rounds=int(summary["rounds"]),
        scores=scores,
        measured_on=measured_on,
        seconds=None if seconds is None else float(seconds),
        bytes_sent=_bytes(cost.get("bytes_sent")),
        bytes_received=_bytes(cost.get("bytes_received")),
        epsilon=_spent(folder, sites) if private else 0.0 if baseline is not None else None,
        delta=0.0
        if baseline is not None
        else max((float(site["delta"]) for site in sites if site.get("delta") is not None), default=None)
        if private
        else None,
        private=private,
        unit=str(privacy["unit"]),
        secagg=str(privacy["secagg"]),
        run=str(folder),
        public="intake" in summary if summary.get("simulated") else None,
        data=_data_of(config),
        task=str(summary.get("task") or "classification"),
    )


def _scores(summary: Mapping[str, Any]) -> tuple[dict[str, Score], str]:
    """On the coordinator's public set; where there is none, from the sites' histograms, if they answered."""
    found, intervals = _mapping(summary.get("test") or {}), _mapping(summary.get("test_intervals") or {})
    measured_on = PUBLIC_SET
    if not found:
        found, intervals = _mapping(summary.get("site_evaluation") or {}), {}
        measured_on = AT_SITES
    scores = {
        name: Score(float(found[name]), *(float(end) for end in intervals.get(name, ())))
        for name in OF_TASK.get(str(summary.get("task")), METRICS)
        if found.get(name) is not None
    }
    return scores, measured_on if scores else ""


def _spent(folder: Path, sites: list[Mapping[str, Any]]) -> float | None:
    """The largest ε after the last round; what a site's plan had set aside where the rounds say nothing.

    A site without a guarantee leaves the federation without one.
    """
    declared = [site.get("epsilon") for site in sites]
    if not declared or None in declared:
        return None
    last = [line for line in _text(folder / "metrics.jsonl").splitlines() if line][-1:]
    spent = _mapping(json.loads(last[0]).get("epsilon") or {}) if last else {}
    return max(map(float, spent.values())) if spent else max(float(value or 0.0) for value in declared)


def _bytes(found: Any) -> dict[str, int] | None:
    return {str(name): int(count) for name, count in _mapping(found).items()} if found else None


def _data_of(config: Mapping[str, Any]) -> str:
    """A digest of what the data are and how they were divided: rows of other data are no comparison."""
    asked = {name: config.get(name) for name in ("data", "sites", "seed")}
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def _text(file: Path) -> str:
    if file.stat().st_size > _MOST_BYTES:
        raise ValueError("larger than what a run writes")
    return file.read_text("utf-8")


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError("not a mapping")
    return value
