"""One command, a whole federation: what it leaves behind, and how it goes on after being stopped."""

import hashlib
import json
import re
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fedimg import client_round
from fedimg.cli import main
from fedimg.config import compose
from fedimg.coordination.terms import terms_of
from fedimg.crypto.keys import SigningKey
from fedimg.dicom import receipts
from fedimg.errors import BudgetExhausted, ConfigError, PolicyRefused
from fedimg.home import SiteHome
from fedimg.intake.commitment import opened
from fedimg.operator_log import read_operator_log
from fedimg.privacy import ledger as privacy_ledger
from fedimg.simulation import simulate
from tests.end_to_end.conftest import SMALL


def parameters(run_path):
    """The last checkpoint's parameters (P,)."""
    return load_file(max((run_path / "checkpoints").glob("*.safetensors")))["parameters"]


def last_model(run_path):
    """SHA-256 of the last checkpoint's parameters."""
    return hashlib.sha256(parameters(run_path).numpy().tobytes()).hexdigest()


class Stop(KeyboardInterrupt):
    """Ctrl-C at a chosen moment."""


def stop_after(round_number):
    def progress(stage, done, _total):
        if stage == "rounds" and done == round_number:
            raise Stop

    return progress


def test_a_private_run_leaves_everything_that_is_promised(small_run):
    run = small_run("audit.empirical=true")
    for name in ("config.yaml", "summary.json", "metrics.jsonl", "report.html"):
        assert (run.path / name).is_file()
    summary = json.loads((run.path / "summary.json").read_text())
    assert summary == run.summary
    assert {"auroc", "accuracy"} <= summary["test"].keys()
    for site in ("hospital-1", "hospital-2"):
        spent = summary["sites"][site]
        assert 0 < spent["epsilon"] <= 8
        assert spent["delta"] == 1e-3
        assert spent["steps"] == 4
        record = summary["privacy"]["release_records"][site]
        assert abs(record["accountants"][1]["epsilon"] - spent["epsilon"]) < 0.02  # Opacus
        home = SiteHome.open(run.path / "sites" / site)
        assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
        extract = (run.path / "ledgers" / f"{site}.json").read_bytes()
        statement = privacy_ledger.verify(extract, home.signing_key.public_bytes)
        (spend,) = statement.runs.values()
        assert spend.closed
        assert spend.charged == {"train": 4, "evaluate": 1}
        count = receipts.verify(home.receipts, home.signing_key.public_bytes, home.released)
        assert count > 16
        assert opened(home, run.summary["run"], record["receipts_commitment"]) == count
        assert (run.path / "receipts" / f"{site}.jsonl").read_bytes() == home.receipts.read_bytes()
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["round"] for row in rows] == [1, 2, 3, 4]
    spent = [row["epsilon"]["hospital-1"] for row in rows]
    assert spent == sorted(spent)
    assert len(list((run.path / "checkpoints").iterdir())) == 4
    page = (run.path / "report.html").read_text()
    assert "No secure aggregation" in page
    assert summary["privacy"]["private"] is True
    ((costliest, measured),) = summary["privacy"]["empirical"].items()
    assert summary["sites"][costliest]["epsilon"] == max(s["epsilon"] for s in summary["sites"].values())
    assert measured["claimed"]["noise_multiplier"] == summary["sites"][costliest]["noise_multiplier"]
    assert measured["claim"] <= summary["sites"][costliest]["epsilon"]  # which covers the retries too
    assert measured["verdict"] == "pass"  # false alarm: 2 in 10 000
    assert "Measured beside the claim" in page
    assert "contradicts" not in page
    assert main(["verify", str(run.path)]) == 0


def test_a_changed_run_folder_does_not_verify(small_run, capsys):
    """The record, the model or a ledger of a run exchanged for another one's: each is named."""
    run = small_run("rounds=1")
    (run.path / "ledgers" / "hospital-1.json").unlink()
    weights = load_file(run.path / "model.safetensors")
    name = next(iter(weights))
    save_file(weights | {name: weights[name] + 1e-3}, run.path / "model.safetensors")
    assert main(["verify", str(run.path), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["verdict"] == "fail"
    assert {c["check"] for c in said["checks"] if not c["passed"]} == {"hospital-1: ledger", "model"}


def test_a_stopped_run_goes_on_to_the_same_model_bit_for_bit_in_the_test_mode(small_run):
    unbroken = small_run("insecure_test_mode=true")
    with pytest.raises(KeyboardInterrupt) as stopped:
        small_run("insecure_test_mode=true", progress=stop_after(2))
    path = stopped.value.run_path
    assert not (path / "summary.json").exists()
    resumed = simulate(compose([f"resume={path}"]))
    assert resumed.path == path
    assert last_model(resumed.path) == last_model(unbroken.path)
    assert resumed.summary["privacy"]["private"] is False
    assert resumed.summary["privacy"]["epsilon"] is None


def test_another_seed_gives_another_model(small_run):
    first, second = small_run("insecure_test_mode=true"), small_run("insecure_test_mode=true", "seed=1")
    assert last_model(first.path) != last_model(second.path)


def test_a_private_run_goes_on_with_fresh_noise_and_its_ledger(small_run):
    with pytest.raises(KeyboardInterrupt) as stopped:
        small_run(progress=stop_after(2))
    path = stopped.value.run_path
    before = parameters(path)
    resumed = simulate(compose([f"resume={path}"]))
    home = SiteHome.open(path / "sites" / "hospital-1")
    statement = privacy_ledger.verify(
        (path / "ledgers" / "hospital-1.json").read_bytes(), home.signing_key.public_bytes
    )
    (spend,) = statement.runs.values()
    assert spend.charged["train"] == 4
    assert not torch.equal(before, parameters(path))
    assert resumed.summary["sites"]["hospital-1"]["epsilon"] <= 8


def test_two_private_runs_share_no_noise(small_run):
    assert last_model(small_run().path) != last_model(small_run().path)


def test_state_keeps_the_budget_between_runs(small_run, tmp_path):
    """What peers lose: the second study at the same sites does not start from zero."""
    state = f"state={tmp_path / 'state'}"
    small_run(state)
    with pytest.raises(BudgetExhausted, match="left at Rényi order"):
        small_run(state)
    told = read_operator_log(tmp_path / "state" / "hospital-1")
    assert told[-1]["kind"] == "BudgetExhausted"


def test_a_sweep_on_one_state_folder_is_charged_to_one_ledger(tmp_path, capsys):
    """Both points are in the ledger, which opened with room for them, and both are counted together."""
    small = [text for text in SMALL if not text.startswith("rounds")]
    folders = [
        f"state={tmp_path / 'state'}",
        f"runs={tmp_path / 'runs'}",
        "rounds=1",
        "audit.empirical=false",
    ]
    assert main(["simulate", "-m", "privacy.epsilon=2,1", *small, *folders, "--json"]) == 0
    shown = capsys.readouterr()
    runs = [Path(outcome["run"]) for outcome in json.loads(shown.out)]
    records = [json.loads((run / "record.json").read_text())["record"] for run in runs]
    assert [found["tuning"]["point"] for found in records] == [1, 2]
    assert [found["sites"][0]["part"]["ledger"]["earlier_runs"] for found in records] == [0, 1]
    assert all(found["sites"][0]["part"]["ledger"]["epsilon_max"] == 1.25 * 3 for found in records)
    home = SiteHome.open(tmp_path / "state" / "hospital-1")
    extract = (runs[1] / "ledgers" / "hospital-1.json").read_bytes()
    spent = privacy_ledger.verify(extract, home.signing_key.public_bytes)
    assert list(spent.runs) == [run.name for run in runs]
    total = float(re.search(r"all 2 runs together: ε = ([\d.]+)", shown.err).group(1))
    epsilons = [found["claim"]["epsilon"] for found in records]
    assert max(epsilons) < total <= sum(epsilons)
    assert [main(["verify", str(run)]) for run in runs] == [0, 0]


def test_without_privacy_it_says_so(small_run):
    run = small_run("privacy=none")
    assert run.summary["privacy"]["mode"] == "none"
    assert run.summary["privacy"]["private"] is False
    assert run.summary["sites"] == {"hospital-1": {}, "hospital-2": {}}
    assert run.summary["site_evaluation"]


def test_one_sites_trouble_is_told_to_its_operator_and_the_others_go_on(small_run, tmp_path):
    """A policy that allows less than is asked: the site is missing from the run, the wire says no more."""

    def progress(stage, done, total):
        if stage == "reading at hospital-2" and done == total:
            (home,) = tmp_path.glob("runs/*/sites/hospital-2")
            (home / "policy.yaml").write_text("declared_patients: 100\nmax_epsilon: 0.5\n")

    run = small_run(progress=progress)
    assert list(run.summary["sites"]) == ["hospital-1"]
    told = read_operator_log(run.path / "sites" / "hospital-2")[-1]
    assert told["kind"] == "PolicyRefused"
    assert "max_epsilon" in told["expected"]


def test_keys_of_a_sites_home_are_nowhere_else(small_run):
    run = small_run()
    secret = (run.path / "sites" / "hospital-1" / "site.key").read_bytes()
    assert isinstance(SigningKey.load(run.path / "sites" / "hospital-1" / "signing.key"), SigningKey)
    for path in run.path.rglob("*"):
        if path.is_file() and path.name != "site.key":
            content = path.read_bytes()
            assert secret not in content
            assert secret.hex().encode() not in content


def test_a_resumed_run_keeps_its_configuration(small_run):
    run = small_run()
    with pytest.raises(ConfigError, match="a resumed run with its own configuration"):
        compose([f"resume={run.path}", "rounds=9"])


def test_a_real_site_never_takes_seeded_noise(small_run, tmp_path):
    """The terms come from the coordinator: whoever knows the seed could take the noise away."""
    run = small_run("insecure_test_mode=true")
    setup_terms = terms_of(compose([f"resume={run.path}"]), run.path.name)
    home = SiteHome.create(tmp_path / "hospital", simulated=False)
    with pytest.raises(PolicyRefused, match="seeded noise and seeded keys together"):
        client_round.join(home, "hospital", setup_terms, torch.device("cpu"))


def test_a_state_folder_keeps_to_its_source(small_run, tmp_path):
    """Two divisions in one home would make one patient two units, at two sites."""
    state = f"state={tmp_path / 'state'}"
    small_run(state, "privacy=none")
    with pytest.raises(ConfigError, match="that this home was filled with"):
        small_run(state, "privacy=none", "seed=1")


def test_a_run_does_not_go_on_with_other_patients_held_out(small_run):
    """Nobody may be in training after having been evaluated as held out: ε counts one role a patient."""
    with pytest.raises(KeyboardInterrupt) as stopped:
        small_run(progress=stop_after(2))
    path = stopped.value.run_path
    config = path / "config.yaml"
    config.write_text(config.read_text().replace("validation_fraction: 0.2", "validation_fraction: 0.0"))
    with pytest.raises(PolicyRefused, match="the terms that this run began with"):
        simulate(compose([f"resume={path}"]))


def test_a_finished_run_that_is_resumed_is_only_closed(small_run):
    run = small_run()
    again = simulate(compose([f"resume={run.path}"]))
    assert again.summary == run.summary


def test_class_weights_of_another_length_are_refused_before_any_data(small_run):
    with pytest.raises(ConfigError, match=r"2 class weights \(asked at hospital-1 and 1 more\); found 3"):
        small_run("training.class_weights=[1.0,1.0,1.0]")


def test_sites_pass_the_battery_before_their_first_round_and_the_report_says_so(small_run):
    done = small_run("audit.battery=true", "rounds=1")
    passed = done.summary["privacy"]["battery"]
    assert {name: found["verdict"] for name, found in passed.items()} == {
        "hospital-1": "pass",
        "hospital-2": "pass",
    }
    assert all(found["checks"] > 30 for found in passed.values())
    said = "the installation of 2 of 2 sites passed the conformance battery"
    assert said in (done.path / "report.html").read_text()
