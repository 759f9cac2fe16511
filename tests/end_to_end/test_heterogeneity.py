"""Whole runs of algorithms whose sites keep a state: in one process, on Ray, with secure sums."""

import json

import pytest
from safetensors.torch import load_file

from fedimg.cli import main

TEST_MODE = ("insecure_test_mode=true", "training.local_steps=2", "rounds=3")


def last(path):
    return load_file(max((path / "checkpoints").glob("*.safetensors")))


def test_ray_carries_states_like_one_process(small_run):
    """A site may be asked in another process each time: what it keeps lies in its home."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'fedimg[ray]'")
    here = small_run(*TEST_MODE, "training=scaffold")
    there = small_run(*TEST_MODE, "training=scaffold", "engine=ray")
    ours, theirs = last(here.path), last(there.path)
    assert {"algorithm.control", "algorithm/taken", "parameters"} <= ours.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    plain = small_run(*TEST_MODE, "aggregation=fedavg")
    assert not last(plain.path)["parameters"].equal(ours["parameters"])


def test_a_private_run_with_secure_sums_is_charged_as_ever_and_verifies(small_run, capsys):
    run = small_run("sites=3", "training=scaffold", "training.local_steps=2", "rounds=2", "secagg=pairwise")
    record = json.loads((run.path / "record.json").read_text())["record"]
    assert [one["part"]["charged"] for one in record["sites"]] == [{"evaluate": 1, "train": 4}] * 3
    assert main(["verify", str(run.path)]) == 0
    assert {"auroc"} <= run.summary["test"].keys()
    assert "scaffold" in (run.path / "report.html").read_text()
    capsys.readouterr()


def test_own_parameters_have_no_global_model_and_their_own_evaluation(small_run):
    run = small_run("training=fedbn", "rounds=2")
    assert run.summary["test"] == {}
    assert "each has a model of its own" in run.summary["test_absent"]
    assert run.summary["site_evaluation_round"] == 2
    for site in ("hospital-1", "hospital-2"):
        folder = run.path / "sites" / site / "heterogeneity" / run.path.name
        own = load_file(folder / "personal.safetensors")
        measured = json.loads((folder / "measured.json").read_text())
        assert measured["personal"]["images"] == measured["global"]["images"] > 0
        assert {name for name in own if name.startswith("head")} == {"head.weight", "head.bias"}


def test_references_beside_such_a_run_are_plain(small_run):
    run = small_run("training=fedbn", "rounds=2", "compare=true", "privacy=none")
    assert all(row["auroc"] is not None for row in run.summary["comparison"])
