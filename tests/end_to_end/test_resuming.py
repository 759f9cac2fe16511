"""What a run says of itself after it was stopped and went on: the same as if it had not been stopped."""

import json
import re

import pytest

from fedimg import report
from fedimg.config import compose
from fedimg.errors import DataError
from fedimg.home import SiteHome
from fedimg.operator_log import read_operator_log
from fedimg.privacy import ledger as privacy_ledger
from fedimg.simulation import simulate


def stopped_after(small_run, number, *overrides):
    """The folder of a run that was interrupted when this round was done."""

    def progress(stage, done, _total):
        if stage == "rounds" and done == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        small_run(*overrides, progress=progress)
    return stopped.value.run_path


def page(path):
    """The report without what names the run and its time, and without the bytes that its intake read itself."""
    text = (path / "report.html").read_text().replace(path.name, "RUN")
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC|[\d.,]+ [KM]?i?B<|[\d.]+ : 1<", "…", text)


def apart_from_time(summary):
    return {**summary, "run": "", "cost": {**summary["cost"], "seconds": 0}}


def test_the_evaluation_at_the_sites_outlives_a_stop(small_run):
    """Stopped after the last round, when all releases are made and paid for: nothing is asked again."""
    overrides = ("insecure_test_mode=true", "privacy=none", "rounds=2")
    unbroken = small_run(*overrides)
    path = stopped_after(small_run, 2, *overrides)
    resumed = simulate(compose([f"resume={path}"]))
    assert resumed.summary["site_evaluation"]
    assert resumed.summary["site_evaluation_round"] == 2
    assert apart_from_time(resumed.summary) == apart_from_time(unbroken.summary)
    assert page(path) == page(unbroken.path)


def test_a_site_that_cannot_come_back_stays_in_the_record(small_run):
    path = stopped_after(small_run, 2)
    policy = path / "sites" / "hospital-2" / "policy.yaml"
    policy.write_text(policy.read_text().replace("max_epsilon: 10.0", "max_epsilon: 0.5"))
    run = simulate(compose([f"resume={path}"]))
    assert list(run.summary["sites"]) == ["hospital-1", "hospital-2"]
    left = run.summary["sites"]["hospital-2"]["left"]
    assert left["after_round"] == 2
    assert left["charged"] == {"train": 2}
    assert 0 < left["epsilon"] < run.summary["sites"]["hospital-2"]["epsilon"] <= 8
    assert "left" not in run.summary["sites"]["hospital-1"]
    assert run.summary["privacy"]["release_records"]["hospital-2"]["left"] == left
    assert run.summary["privacy"]["epsilon"] >= run.summary["sites"]["hospital-2"]["epsilon"]
    text = (path / "report.html").read_text()
    assert "hospital-2 (left after round 2)" in text
    assert "could not join again" in text
    # What it reserved and did not spend is free again.
    home = SiteHome.open(path / "sites" / "hospital-2")
    extract = (path / "ledgers" / "hospital-2.json").read_bytes()
    (spend,) = privacy_ledger.verify(extract, home.signing_key.public_bytes).runs.values()
    assert spend.closed
    assert spend.charged == {"train": 2}
    assert simulate(compose([f"resume={path}"])).summary == run.summary


def test_a_site_whose_ledger_is_lost_stays_in_the_record_with_all_it_had_reserved(small_run):
    path = stopped_after(small_run, 2)
    (path / "sites" / "hospital-2" / "ledger.sqlite").unlink()
    run = simulate(compose([f"resume={path}"]))
    site = run.summary["sites"]["hospital-2"]
    assert site["left"] == {"after_round": 2, "charged": None, "epsilon": None}
    assert 0 < site["epsilon"] <= 8
    text = (path / "report.html").read_text()
    assert "Privacy ledger of hospital-1 over its life" in text
    assert "1 ledger could not be read at the end of the run" in text
    told = read_operator_log(path / "sites" / "hospital-2")
    steps = [line["step"] for line in told if line["kind"] == "LedgerError"]
    assert steps == ["joining", "signing the release record", "closing the run"]


def test_a_crash_before_the_summary_leaves_a_run_that_can_go_on_to_its_report(small_run, monkeypatch):
    """A run counts as finished by its summary: it is written when the report is there."""

    def crash(_data):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(report, "render", crash)
        with pytest.raises(KeyboardInterrupt) as stopped:
            small_run("privacy=none", "rounds=1")
    path = stopped.value.run_path
    assert not (path / "summary.json").exists()
    simulate(compose([f"resume={path}"]))
    assert (path / "report.html").is_file()
    assert (path / "summary.json").is_file()


def test_a_damaged_list_of_participants_is_refused(small_run):
    path = stopped_after(small_run, 1, "privacy=none")
    assert list(json.loads((path / "participants.json").read_text())) == ["hospital-1", "hospital-2"]
    (path / "participants.json").write_text("[1]")
    with pytest.raises(DataError, match=r"a readable participants\.json in the run's folder"):
        simulate(compose([f"resume={path}"]))
