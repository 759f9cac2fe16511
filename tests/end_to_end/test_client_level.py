"""Whole runs with `privacy=client_level`: small virtual clients of arrays, a coordinator with a ledger."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fedimg.cli.verify import run as verify
from fedimg.config import compose
from fedimg.errors import BudgetExhausted, ConfigError, PolicyRefused
from fedimg.home import SiteHome
from fedimg.operator_log import read_operator_log
from fedimg.privacy import ledger as privacy_ledger
from fedimg.simulation import simulate

CLIENTS = 12


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Generated images of two classes as a MedMNIST-like file: a bright half, on the side of the class."""
    generator = np.random.default_rng(0)

    def split(n):
        labels = np.arange(n) % 2
        images = generator.integers(0, 80, (n, 28, 28))
        for image, label in zip(images, labels, strict=True):
            image[:, 14 * label : 14 * label + 14] += 120
        return images.astype(np.uint8), labels[:, None].astype(np.uint8)

    parts = {"train": split(3 * CLIENTS), "val": split(4), "test": split(40)}
    path = tmp_path_factory.mktemp("arrays") / "pneumoniamnist_generated.npz"
    named = {
        f"{s}_{what}": a for s, p in parts.items() for what, a in zip(("images", "labels"), p, strict=True)
    }
    np.savez(path, **named)
    return path


@pytest.fixture
def run(arrays, tmp_path):
    def start(*overrides, progress=None):
        small = (
            "privacy=client_level", "data=medmnist", f"data.path={arrays}", f"sites={CLIENTS}", "rounds=3",
            "model=cnn", "model.width=4", "imaging.image_size=[28,28]", "privacy.delta=1e-4", "compare=false",
            "privacy.sampling_rate=0.5", "evaluation.bootstrap=20", f"runs={tmp_path / 'runs'}",
        )  # fmt: skip
        return simulate(compose([*small, *overrides]), progress)

    return start


def parameters(path):
    return load_file(max((path / "checkpoints").glob("*.safetensors")))["parameters"]


def test_a_run_charges_the_coordinator_and_names_no_client(run):
    done = run()
    home = SiteHome.open(done.path / "sites" / "coordinator")
    extract = (done.path / "ledgers" / "coordinator.json").read_bytes()
    (spend,) = privacy_ledger.verify(extract, home.signing_key.public_bytes).runs.values()
    assert spend.closed
    assert spend.charged == {"train": 3, "evaluate": 1}
    record = done.summary["privacy"]["release_records"]["coordinator"]
    assert record["declared_clients"] == CLIENTS
    assert (record["unit"], done.summary["privacy"]["unit"]) == ("client", "client")
    assert done.summary["privacy"]["private"] is True
    assert 7.9 < done.summary["sites"]["coordinator"]["epsilon"] <= 8
    assert done.summary["privacy"]["battery"]["coordinator"]["verdict"] == "pass"
    assert "The server is trusted" in done.summary["trust"]
    assert "auroc" in done.summary["test"]
    for name in ("summary.json", "metrics.jsonl", "report.html"):
        assert not re.search(r"site-\d", (done.path / name).read_text())
    assert not (done.path / "participants.json").exists()
    assert not re.search(r"site-\d", (done.path / "record.json").read_text())
    assert verify([str(done.path)]) == 0
    rows = [json.loads(line) for line in (done.path / "metrics.jsonl").read_text().splitlines()]
    assert [row.keys() & {"sites", "missing"} for row in rows] == [set()] * 3
    assert rows[-1]["epsilon"]["coordinator"] <= 8
    page = (done.path / "report.html").read_text()
    for said in (
        "The server is trusted",
        "add or remove one client",
        "Clients, as declared",
        "Budget by ledger",
        "coordinator",
        "installation passed the conformance battery",
    ):
        assert said in page
    for client in (done.path / "sites").glob("site-*"):  # they keep neither a ledger nor an un-noised update
        assert not {"ledger.sqlite", "plans", "outbox"} & {path.name for path in client.iterdir()}


class Stop(KeyboardInterrupt):
    """Ctrl-C at a chosen moment."""


def after_round_one(stage, done, _total):
    if stage == "rounds" and done == 1:
        raise Stop


def test_stopped_and_resumed_it_ends_at_the_same_model_and_clients_may_be_fused(run):
    test_mode = ("insecure_test_mode=true", "evaluation.site_evaluations=0", "rounds=2")
    unbroken = run(*test_mode)
    with pytest.raises(KeyboardInterrupt) as stopped:
        run(*test_mode, progress=after_round_one)
    resumed = simulate(compose([f"resume={stopped.value.run_path}"]))
    assert torch.equal(parameters(resumed.path), parameters(unbroken.path))
    fused = run(*test_mode, "engine.fused=true")
    assert (parameters(fused.path) - parameters(unbroken.path)).abs().max() < 1e-5
    assert unbroken.summary["privacy"]["private"] is False
    assert unbroken.summary["sites"]["coordinator"]["epsilon"] is None
    assert "Insecure test mode" in (unbroken.path / "report.html").read_text()


def test_the_coordinators_ledger_is_for_good_and_refuses_before_data_is_read(run, tmp_path):
    state = f"state={tmp_path / 'state'}"
    once = (state, "rounds=2", "privacy.retry_allowance=0")  # nothing of what is reserved comes back
    run(*once)
    reading = []

    def progress(stage, _done, _total):
        reading.append(stage)

    with pytest.raises(BudgetExhausted, match="in this site's ledger"):
        run(*once, progress=progress)
    assert not [stage for stage in reading if "joining" in stage or "rounds" in stage]


def test_a_client_whose_policy_does_not_trust_the_coordinator_stays_out(run, tmp_path):
    state = tmp_path / "state"
    run(f"state={state}", "rounds=1", "privacy.epsilon=1")
    for client in sorted(state.glob("site-*"))[1:]:
        (client / "policy.yaml").write_text("declared_patients: 3\nmin_patients: 1\n")
    run(f"state={state}", "rounds=1", "privacy.epsilon=0.05")
    told = read_operator_log(sorted(state.glob("site-*"))[1])[-1]
    assert "allow_client_level" in told["expected"]
    first = min(state.glob("site-*"))
    (first / "policy.yaml").write_text("declared_patients: 3\nmin_patients: 1\n")
    with pytest.raises(PolicyRefused, match="does not trust the coordinator"):
        run(f"state={state}", "rounds=1", "privacy.epsilon=0.02")


def test_a_cohort_is_sampled_and_never_of_a_fixed_size(run):
    with pytest.raises(ConfigError, match=r"aggregation\.cohort=0 with privacy=client_level"):
        run("aggregation.cohort=5")
