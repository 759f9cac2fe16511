"""Runs over TLS between real processes: the simulation's model, whoever is refused, killed or away."""

import json
import shutil
from pathlib import Path

import pytest
from loopback_federation import SERVER, SMALL, same_model

from fedimg.cli import main
from fedimg.home import SiteHome
from fedimg.operator_log import read_operator_log
from server.registry import Stage
from server.submission import submit

ROOT = Path(__file__).parents[2]
DONE = (Stage.FINISHED, Stage.STOPPED, Stage.FAILED)
THREE = "rounds=3"


def told(net, name):
    return json.dumps(read_operator_log(net.home(name)))


def rows(net, run):
    lines = (net.net / "runs" / run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_model_is_the_simulations_bit_for_bit_with_secure_sums(started, unbroken, capsys):
    run = started.train(THREE, "secagg=pairwise")
    entry = started.until(run, *DONE)
    assert (entry.stage, entry.round, entry.reason) == (Stage.FINISHED, 3, "")
    folder = started.net / "runs" / run
    assert same_model(folder, unbroken)
    summary, before = (json.loads((path / "summary.json").read_text()) for path in (folder, unbroken))
    assert summary["site_evaluation"] == before["site_evaluation"]
    assert not summary["simulated"]
    assert summary["void_rounds"] == []
    assert summary["missing"] == {}
    # the record holds together, with every site's own signature, and the ledgers are closed at the sites
    assert main(["verify", str(folder)]) == 0
    record = json.loads((folder / "record.json").read_text())["record"]
    keys = {name: SiteHome.open(started.home(name)).signing_key.public_bytes.hex() for name in started.names}
    assert {one["part"]["site"]: one["key"] for one in record["sites"]} == keys
    assert all(one["part"]["charged"]["train"] == 3 for one in record["sites"])
    capsys.readouterr()
    assert main(["runs", "list", str(started.net), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["run"], row["state"], row["round"]) == (run, "finished", "3 of 3")
    for name in (SERVER, *started.names):
        assert started.stop(name) == 0


def test_who_is_refused_stays_out_and_the_run_goes_on_without(net, tmp_path):
    """A site whose policy does not allow the run, and then one whose program is another: each by itself."""
    first, second, third = net.names
    net.change_policy(second, max_epsilon=0.5)
    program = tmp_path / "changed"
    for part in ("fedimg", "sites", "server", "conf"):
        shutil.copytree(ROOT / part, program / part, ignore=shutil.ignore_patterns("__pycache__"))
    with (program / "fedimg" / "errors.py").open("a") as file:
        file.write("# one line more\n")
    net.start(SERVER)
    net.start(first)
    net.start(second)
    net.start(third, program)
    run = net.train(THREE, "secagg=none", "federation.start_with=1")
    assert net.until(run, *DONE).stage is Stage.FINISHED
    assert {name for row in rows(net, run) for name in row["sites"]} == {first}
    assert "max_epsilon" in told(net, second)
    assert "install the same release at both ends" in told(net, third)
    assert net.charged(first, run)["train"] == 3
    assert net.charged(second, run) == net.charged(third, run) == {}


def test_a_person_agrees_once_and_to_this_program(net, capsys):
    name = net.names[0]
    net.change_policy(name, preapproved_epsilon=0.0)
    net.start(SERVER)
    net.start(name)
    run = net.train(THREE, "secagg=none", "federation.start_with=1", "aggregation.min_sites=1")
    entry = net.until(run, Stage.GATHERING)
    while "consent" not in entry.reason:
        entry = net.until(run, Stage.GATHERING)
    assert f"{name}: waits for its operator's consent" in entry.reason
    assert net.charged(name, run) == {}
    capsys.readouterr()
    assert main(["site", "approve", str(net.home(name)), "--json"]) == 0
    (offered,) = json.loads(capsys.readouterr().out)
    assert (offered["state"], offered["epsilon"], offered["run"]) == ("approval", 3, run)
    assert main(["site", "approve", str(net.home(name)), offered["plan"][:12]]) == 0
    assert net.until(run, *DONE).stage is Stage.FINISHED


def test_killed_sites_and_a_killed_server_lose_nothing(started, unbroken):
    """All three are needed in each round, so that the model has to be the unbroken one to the last bit."""
    run = started.train(THREE, "secagg=none", "aggregation.min_sites=3", "federation.deadline_s=60")
    started.until(run, Stage.RUNNING, Stage.WAITING, rounds=1)
    victim = started.names[1]
    started.kill(victim)
    started.kill(SERVER)
    started.start(SERVER)
    entry = started.until(run, Stage.GATHERING, Stage.WAITING)
    while victim not in entry.reason:
        entry = started.until(run, Stage.GATHERING, Stage.WAITING)
    started.start(victim)
    assert started.until(run, *DONE).stage is Stage.FINISHED
    assert [row["round"] for row in rows(started, run)] == [1, 2, 3]
    assert all(len(row["sites"]) == 3 for row in rows(started, run))
    plain = started.net / "runs" / run
    # plain sums round to float64, secure ones to their grid: 3 rounds of steps of 2⁻²⁷
    found, expected = (max((p / "checkpoints").glob("*")) for p in (plain, unbroken))
    from safetensors.torch import load_file

    assert (load_file(found)["parameters"] - load_file(expected)["parameters"]).abs().max() < 1e-6
    for name in started.names:
        assert 3 <= started.charged(name, run)["train"] <= 4


def test_a_run_is_stopped_resumed_and_told_from_others(started, capsys):
    run = started.train("rounds=40", "secagg=none", "privacy.retry_allowance=2")
    started.until(run, Stage.RUNNING, rounds=1)
    folder = str(started.net / "runs" / run)
    assert main(["runs", "stop", folder]) == 0
    entry = started.until(run, Stage.STOPPED)
    assert entry.reason == "asked to"
    assert 1 <= entry.round < 40
    assert main(["runs", "stop", folder]) == 4
    assert main(["runs", "resume", folder]) == 0
    assert started.until(run, *DONE).stage is Stage.FINISHED
    assert [row["round"] for row in rows(started, run)] == list(range(1, 41))
    assert main(["runs", "show", folder]) == 0
    capsys.readouterr()


def test_a_site_that_is_away_at_the_end_closes_its_ledger_when_it_is_back(net):
    first, second, third = net.names
    for name in (SERVER, first, second, third):
        net.start(name)
    run = net.train(THREE, "secagg=none", "aggregation.min_sites=2", "federation.deadline_s=2")
    net.until(run, Stage.RUNNING, rounds=1)
    net.kill(third)
    assert net.until(run, *DONE, seconds=60).stage is Stage.FINISHED
    record = json.loads((net.net / "runs" / run / "record.json").read_text())["record"]
    signed = {one["part"]["site"]: one["signature"] is not None for one in record["sites"]}
    assert signed == {first: True, second: True, third: False}
    assert main(["verify", str(net.net / "runs" / run)]) == 0
    net.start(third)
    part = net.home(third) / "runs" / run / "ended.part"
    for _ in range(600):
        if part.exists():
            break
        net.until(run, Stage.FINISHED)
        import time

        time.sleep(0.05)
    assert part.exists()


@pytest.mark.parametrize("key", ["sites=4", "state=x", "data.path=x", "engine=ray", "privacy=client_level"])
def test_what_has_no_meaning_between_machines_is_refused_before_it_is_queued(net, key, capsys):
    assert main(["train", str(net.net), key]) == 2
    assert not (net.net / "runs").exists()
    capsys.readouterr()


def test_nothing_of_a_patient_is_in_logs_or_in_the_coordinators_folder(started, base):
    """Names, numbers, birth dates and UIDs of the files that the homes were filled from, as text and as they are."""
    import pydicom

    (source,) = base.glob("homes/.source/*")
    planted = set()
    for file in sorted(source.rglob("*.dcm"))[::7]:
        try:
            found = pydicom.dcmread(file, stop_before_pixels=True)
        except Exception:  # noqa: BLE001 - broken files are among them
            continue
        values = [found.get(name) for name in ("PatientID", "PatientBirthDate", "StudyInstanceUID")]
        values += str(found.get("PatientName", "")).split("^")
        planted |= {str(value) for value in values if value and len(str(value)) >= 5}
    assert len(planted) > 20
    run = started.train("rounds=1", "secagg=pairwise")
    assert started.until(run, *DONE).stage is Stage.FINISHED
    started.train("rounds=1", "secagg=none", "privacy.epsilon=9")  # and one that is refused
    entry = started.until(started.train("rounds=1", "secagg=none"), Stage.QUEUED, Stage.GATHERING)
    assert entry
    files = [path for path in started.net.rglob("*") if path.is_file()]
    files += [started.folder / f"{name}.log" for name in (SERVER, *started.names)]
    assert len(files) > 20
    for path in files:
        data = path.read_bytes()
        for value in planted:
            assert value.encode() not in data, f"{path.name} has a planted value"
            assert value not in str(path.relative_to(started.folder))


def test_a_classical_model_is_learnt_over_the_link_like_any_other(started, capsys):
    """From one secure sum of patients' statistics, in float64; the record holds."""
    plain = [override for override in SMALL if not override.startswith("model")]
    run = submit(started.net, [*plain, "experiment=ridge", "model.classical.projected=8", "secagg=pairwise"])
    assert started.until(run, *DONE).stage is Stage.FINISHED
    folder = started.net / "runs" / run
    assert main(["verify", str(folder)]) == 0
    record = json.loads((folder / "record.json").read_text())["record"]
    assert record["model"]["name"] == "ridge"
    assert [one["part"]["charged"]["train"] for one in record["sites"]] == [1, 1, 1]
    capsys.readouterr()


def test_sites_keep_their_control_variates_over_the_link(started, capsys):
    """SCAFFOLD between processes: two vectors both ways, in secure sums, and a state in every home."""
    run = submit(started.net, [*SMALL, "training=scaffold", "rounds=2", "secagg=pairwise"])
    assert started.until(run, *DONE).stage is Stage.FINISHED
    for name in started.names:
        kept = sorted((started.home(name) / "heterogeneity" / run).glob("*.safetensors"))
        assert [path.stem for path in kept] == ["000001", "000002"]
    assert main(["verify", str(started.net / "runs" / run)]) == 0
    capsys.readouterr()
