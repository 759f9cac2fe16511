"""One code path, several engines: the same run on each gives the same model."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file

from fedimg.errors import ConfigError


def parameters(run_path):
    return load_file(max((run_path / "checkpoints").glob("*.safetensors")))["parameters"]


@pytest.mark.parametrize("mode", ["per_site", "none"])
def test_flowers_ray_engine_gives_the_same_model_bit_for_bit(small_run, mode):
    pytest.importorskip("ray", reason="needs Ray: pip install 'fedimg[ray]'")
    overrides = ("insecure_test_mode=true", f"privacy={mode}", "rounds=2", "model=scattering")
    here, there = small_run(*overrides), small_run(*overrides, "engine=ray")
    difference = (parameters(here.path) - parameters(there.path)).abs().max()
    assert difference == 0
    assert here.summary["test"] == there.summary["test"]
    assert here.summary["sites"].keys() == there.summary["sites"].keys()


def test_the_test_mode_repeats_itself_bit_for_bit(small_run):
    first, second = small_run("insecure_test_mode=true"), small_run("insecure_test_mode=true")
    assert torch.equal(parameters(first.path), parameters(second.path))


@pytest.mark.parametrize("workers", [1, 2])
def test_fused_clients_agree_with_separate_ones(small_run, workers):
    overrides = ("insecure_test_mode=true", "privacy=none", "rounds=2", "training.learning_rate=0.01")
    apart = small_run(*overrides)
    fused = small_run(*overrides, "engine.fused=true", f"engine.workers={workers}")
    difference = (parameters(apart.path) - parameters(fused.path)).abs().max()
    assert 0 < difference < 1e-6 or torch.equal(parameters(apart.path), parameters(fused.path))
    moved = (
        parameters(apart.path) - load_file(min((apart.path / "checkpoints").iterdir()))["parameters"]
    ).abs()
    assert moved.max() > 1e-4  # so that agreeing means something


def test_private_sites_are_not_fused(small_run):
    with pytest.raises(ConfigError, match=r"privacy=none or client_level, without augmentation, for engine"):
        small_run("engine.fused=true")


def test_a_round_may_ask_a_cohort_of_the_sites(small_run):
    run = small_run("privacy=none", "sites=3", "aggregation.cohort=1", "rounds=3")
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [len(row["sites"]) for row in rows] == [1, 1, 1]


def test_nothing_calls_home():
    assert os.environ["FLWR_TELEMETRY_ENABLED"] == "0"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
