"""`fedimg simulate`: sweeps, output, and how it ends. What a run computes is tested where it is computed."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import fedimg
from fedimg.cli import main
from fedimg.config import compose

SUMMARY = {
    "test": {"auroc": 0.9, "accuracy": 0.8},
    "sites": {
        "a": {"epsilon": 2.5, "delta": 1e-5, "noise_multiplier": 1.5, "sampling_rate": 0.1, "steps": 20}
    },
}


@dataclass(frozen=True)
class Done:
    path: Path
    summary: Any


@pytest.fixture
def simulated(monkeypatch):
    """The library's `simulate` replaced by one that notes what it was asked to run."""
    asked = []

    def simulate(config, progress=None, overrides=(), point=None):
        asked.append(config)
        if progress is not None:
            progress("rounds", config.rounds, config.rounds)
        return Done(Path(f"runs/{len(asked)}"), SUMMARY)

    monkeypatch.setattr("fedimg.simulation.simulate", simulate)
    return asked


def test_overrides_reach_the_run(simulated, capsys):
    assert main(["simulate", "privacy.epsilon=3", "sites=8", "--json"]) == 0
    assert [(c.privacy.epsilon, c.sites) for c in simulated] == [(3.0, 8)]
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {
        "run": "runs/1",
        "overrides": ["privacy.epsilon=3", "sites=8"],
        "summary": SUMMARY,
    }
    assert "rounds: 20 of 20" in shown.err


def test_a_sweep_is_one_run_a_point(simulated, capsys):
    assert main(["simulate", "-m", "privacy.epsilon=1,3,8", "sites=4", "--json"]) == 0
    assert [c.privacy.epsilon for c in simulated] == [1.0, 3.0, 8.0]
    outcomes = json.loads(capsys.readouterr().out)
    assert [o["run"] for o in outcomes] == ["runs/1", "runs/2", "runs/3"]
    assert outcomes[1]["overrides"] == ["privacy.epsilon=3", "sites=4"]


def test_a_sweep_ends_with_a_table_that_names_each_point(simulated, capsys):
    assert main(["simulate", "-m", "privacy.epsilon=1,3", "sites=4"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()[-3:]
    assert head.split() == ["point", "epsilon", "figure", "score", "run"]
    assert [row.split() for row in rows] == [
        ["privacy.epsilon=1", "2.5", "auroc", "0.9", "runs/1"],
        ["privacy.epsilon=3", "2.5", "auroc", "0.9", "runs/2"],
    ]


def test_a_typo_anywhere_in_a_sweep_stops_before_the_first_run(simulated, capsys):
    assert main(["simulate", "-m", "privacy.epsilon=1,3", "siets=4"]) == 2
    assert simulated == []
    assert capsys.readouterr().err == (
        "error: expected a key of the configuration\n"
        "       found siets, which is none\n"
        "       did you mean sites?\n"
    )


def test_a_sweep_without_m_is_refused(simulated):
    assert main(["simulate", "privacy.epsilon=1,3"]) == 2
    assert simulated == []


def test_the_summary_for_a_person_names_metrics_sites_and_the_report(simulated, capsys):
    assert main(["simulate"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "test: auroc 0.9000, accuracy 0.8000" in lines
    assert "a     2.5      1e-05  1.5               0.1            20" in lines
    assert lines[-1] == "report: runs/1/report.html"


def test_the_python_call_takes_overrides_or_a_configuration(simulated):
    assert fedimg.simulate(["sites=3"]).summary == SUMMARY
    assert fedimg.simulate(compose(["sites=5"])).summary == SUMMARY
    assert [c.sites for c in simulated] == [3, 5]


def test_ctrl_c_stops_cleanly_and_the_named_command_can_go_on(tmp_path):
    command = [sys.executable, "-m", "fedimg.cli", "simulate", "experiment=quick", "rounds=400", "device=cpu"]
    command += ["data.cohort.patients_per_hospital=12", "data.cohort.phantom_public_patients=8"]
    command += ["data.cohort.image_size=64", "imaging.image_size=[32,32]"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # a shell's background job is told to ignore interrupts, and so would be what it starts
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - one thread
    ) as running:
        seen = ""
        for line in running.stderr:
            seen += line
            if line == "rounds …\n":
                running.send_signal(signal.SIGINT)
        out = running.stdout.read()
    assert running.returncode == 130, seen
    assert "Traceback" not in seen
    assert out == ""
    (run,) = (tmp_path / "runs").iterdir()
    assert seen.endswith(f"interrupted; go on with: fedimg simulate resume=runs/{run.name}\n")
    assert compose([f"resume={run}"]).rounds == 400
    assert not (run / "summary.json").exists()
