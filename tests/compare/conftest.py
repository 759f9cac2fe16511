"""Rows of a comparison, and run folders as a run leaves them."""

from __future__ import annotations

import json
import math

import pytest
import yaml

from fedimg.compare.rows import Row, Score

SUMMARY = {
    "simulated": True,
    "test": {"auroc": 0.9, "accuracy": 0.8, "recall": 0.7, "f1": 0.75, "ece": 0.1},
    "test_intervals": {"auroc": [0.85, 0.95], "accuracy": [0.75, 0.85], "recall": [0.6, 0.8]},
    "sites": {"a": {"epsilon": 2.9, "delta": 1e-5}, "b": {"epsilon": 3.0, "delta": 2e-5}},
    "privacy": {"mode": "distributed", "private": True, "unit": "patient", "secagg": "pairwise"},
    "site_evaluation": {"auroc": 0.6},
    "rounds": 2,
    "cost": {"seconds": 1.5, "bytes_sent": {"a": 100, "b": 300}, "bytes_received": {"a": 50, "b": 60}},
    "intake": {},
}
CONFIG = {
    "model": {"name": "ridge"},
    "experiment": "ridge",
    "privacy": {"epsilon": 3.0},
    "data": {"name": "cohort"},
    "sites": 2,
    "seed": 0,
}
ROUNDS = [{"round": 1, "epsilon": {"a": 1.0, "b": 1.1}}, {"round": 2, "epsilon": {"a": 2.5, "b": 2.75}}]


@pytest.fixture
def row():
    def made(learner="ridge", epsilon=3.0, **changes):
        values = {
            "mode": "none" if math.isinf(epsilon) else "distributed",
            "state": "finished",
            "model": "ridge",
            "rounds": 1,
            "scores": {"auroc": Score(0.9, 0.85, 0.95), "accuracy": Score(0.8)},
            "measured_on": "public test set",
            "seconds": 12.0,
            "bytes_sent": {"a": 1000, "b": 2500},
            "epsilon": None if math.isinf(epsilon) else epsilon,
            "delta": None if math.isinf(epsilon) else 1e-5,
            "private": not math.isinf(epsilon),
            "unit": "patient",
            "run": "runs/1",
            "public": True,
        }
        return Row(learner, epsilon, **(values | changes))

    return made


@pytest.fixture
def run_folder(tmp_path):
    """Write a run folder, with keys of its files changed, or left out; a text or None stands for a whole file."""

    def made(name="20260131-1", summary=(), config=(), rounds=ROUNDS, without=()):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        for file, kept, changes, written in (
            ("summary.json", SUMMARY, summary, json.dumps),
            ("config.yaml", CONFIG, config, yaml.safe_dump),
        ):
            values = kept | dict(() if isinstance(changes, str | None) else changes)
            text = {key: value for key, value in values.items() if key not in without}
            if changes is not None:
                (folder / file).write_text(changes if isinstance(changes, str) else written(text))
        (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rounds))
        return folder

    return made
