"""The verbs of single audits: JSON, exit codes, pages, and what is said of real patients."""

import json
import stat
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from fedimg.audit import empirical
from fedimg.cli import main
from fedimg.cli.audit import _output
from fedimg.config import compose
from fedimg.simulation import past as past_runs
from fedimg.simulation import simulate

SMALL = {
    "empirical": ["--epsilon", "8", "--steps", "20", "--sampling-rate", "0.2"],
    "inversion": ["--patients", "2", "--steps", "5", "--sampling-rate", "0.5"],
}


@pytest.mark.parametrize("name", ["empirical", "inversion"])
def test_an_audit_prints_its_verdict_and_writes_a_page_for_its_owner_alone(name, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["audit", name, *SMALL[name], "--json", "--report", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["audit"] == name
    assert found["verdict"] == "pass"
    assert found["seconds"] > 0
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    text = page.read_text("utf-8")
    ET.fromstring(text.removeprefix("<!DOCTYPE html>\n"))
    assert "What this does not show" in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_a_claim_that_is_contradicted_fails(monkeypatch, capsys):
    original = empirical.audited_plan
    monkeypatch.setattr(
        empirical,
        "audited_plan",
        lambda plan: original(type(plan)(**{**_fields(plan), "noise_multiplier": 0.5})),
    )
    assert main(["audit", "empirical", *SMALL["empirical"]]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("fail, ")


def _fields(plan):
    return {name: getattr(plan, name) for name in plan.__dataclass_fields__}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["empirical", "--report", "page.txt"], "a name that ends in .html"),
        (["inversion", "--report", "nowhere/page.html"], "a folder to write the page into"),
        (["membership", "--models", "7"], "--models is even and at least 8"),
        (["site", "--permutations", "10"], "--permutations is at least 199"),
        (["empirical", "no-such-run"], "a run folder with a config.yaml"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_work(arguments, error, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["audit", *arguments]) in (2, 4)
    assert error in capsys.readouterr().err


@pytest.fixture(scope="module")
def past(tmp_path_factory):
    """A run of two generated sites, two rounds."""
    settings = [
        "sites=2",
        "rounds=2",
        "training.local_steps=1",
        "compare=false",
        "model=cnn",
        "model.width=4",
        "imaging.image_size=[32,32]",
        "data.cohort.patients_per_hospital=26",
        "data.cohort.broken_files=0",
        "data.cohort.phantom_public_patients=10",
        "data.cohort.image_size=64",
        "data.cohort.modalities=[CR]",
        "data.cohort.max_studies=1",
        "deid.workers=0",
        "privacy.delta=1e-3",
        "privacy.expected_batch_size=8",
        "evaluation.bootstrap=2",
        "evaluation.validation_fraction=0",
        "evaluation.site_evaluations=0",
        "audit.empirical=false",
    ]
    return simulate(compose([*settings, f"runs={tmp_path_factory.mktemp('runs')}"])).path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("empirical", []),
        ("inversion", ["--patients", "1", "--site", "hospital-2"]),
        ("membership", ["--models", "8"]),
        ("site", ["--permutations", "199"]),
    ],
)
def test_a_past_run_is_audited_on_its_own_data_and_plans(name, options, past, capsys):
    before = sorted(p for p in past.rglob("*") if "cache" not in p.parts)
    assert main(["audit", name, str(past), *options, "--json"]) in ((0, 1) if name == "site" else (0,))
    outcome = capsys.readouterr()
    found = json.loads(outcome.out)
    assert found["audit"] == name
    assert found.get("data", "public or generated") == "public or generated"
    assert _output.REAL not in outcome.err
    assert sorted(p for p in past.rglob("*") if "cache" not in p.parts) == before
    if name == "empirical":  # sites of equal size have equal plans, so one measurement
        ((_, one),) = found["plans"].items()
        summary = json.loads((past / "summary.json").read_text())
        assert one["claimed"]["noise_multiplier"] == summary["sites"]["hospital-1"]["noise_multiplier"]
    if name == "site":
        assert found["models"]["the released model"]["patients"] == 52


def test_results_of_real_patients_are_said_to_be_theirs(past, monkeypatch, capsys):
    """Whatever is neither generated nor declared public is taken for patients' data."""
    opened = replace(past_runs.open_past(past), public_data=False)
    monkeypatch.setattr(past_runs, "open_past", lambda _folder: opened)
    assert main(["audit", "site", str(past), "--permutations", "199", "--json"]) in (0, 1)
    outcome = capsys.readouterr()
    assert json.loads(outcome.out)["data"] == "real patients"
    assert _output.REAL in outcome.err
