"""`fedimg site` and `fedimg ledger` over a real home."""

import json
import stat
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import sites
from fedimg.cli import main
from fedimg.errors import PolicyRefused
from fedimg.home import SiteHome
from fedimg.intake.report import REMEDIES
from fedimg.operator_log import note_held_back, tell_operator
from fedimg.privacy.ledger import Allowance, Ledger
from fedimg.privacy.policy import SitePolicy
from fedimg.values import Quarantine


@dataclass(frozen=True)
class Plan:
    digest: str = "d" * 64
    allowances: tuple = (Allowance("train", 1.5, 0.1, 10, 2),)


@pytest.fixture
def home(tmp_path, capsys):
    assert main(["site", "init", str(tmp_path / "home"), "--patients", "250"]) == 0
    capsys.readouterr()
    return tmp_path / "home"


def spend(home, releases):
    opened = SiteHome.open(home)
    ledger = Ledger.open(opened.ledger, opened.signing_key)
    ledger.reserve("run-1", Plan())
    for _ in range(releases):
        ledger.charge(Plan().digest, "train")
    ledger.disconnect()


def test_a_new_home_is_private_and_has_policy_and_ledger(home):
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in home.iterdir() if p.is_file())
    shipped = SitePolicy.load(Path(sites.__file__).parent / "policies" / "default.yaml")
    assert SitePolicy.load(home / "policy.yaml") == replace(shipped, declared_patients=250)
    assert not SiteHome.open(home).simulated


@pytest.mark.parametrize(
    ("patients", "delta"),
    [(100, 1e-5), (20_000, 5e-6)],  # the smaller of 1e-5 and 1/(10 · patients)
)
def test_delta_follows_the_declared_size(tmp_path, patients, delta, capsys):
    assert main(["site", "init", str(tmp_path / "h"), "--patients", str(patients)]) == 0
    capsys.readouterr()
    assert main(["ledger", "show", str(tmp_path / "h"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["delta"] == pytest.approx(delta)


def test_a_home_is_made_once(home, capsys):
    assert main(["site", "init", str(home), "--patients", "250"]) == 4
    assert "found one with files in it" in capsys.readouterr().err


def test_an_interrupted_making_of_a_home_is_completed(tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    root = tmp_path / "h"
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "create", interrupted)
        assert main(["site", "init", str(root), "--patients", "250"]) == 130
    key = SiteHome.open(root).signing_key.public_bytes
    assert main(["site", "init", str(root), "--patients", "300"]) == 0
    home = SiteHome.open(root)
    assert home.signing_key.public_bytes == key
    assert SitePolicy.load(home.policy).declared_patients == 300
    Ledger.open(home.ledger, home.signing_key).disconnect()


@pytest.mark.parametrize("trace", ["plans", "outbox", "receipts.jsonl", "operator.log", "ledger.sqlite-wal"])
def test_a_home_that_has_worked_gets_no_second_ledger(home, trace, capsys):
    """What was spent would be forgotten."""
    (home / "ledger.sqlite").unlink()
    (home / trace).touch()
    assert main(["site", "init", str(home), "--patients", "250"]) == 4
    assert not (home / "ledger.sqlite").exists()


def test_a_home_without_patients_is_refused(tmp_path, capsys):
    assert main(["site", "init", str(tmp_path / "h"), "--patients", "0"]) == 2
    assert not (tmp_path / "h").exists()


def test_show_counts_what_was_charged(home, capsys):
    spend(home, 3)
    assert main(["ledger", "show", str(home), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    (row,) = shown["runs"]
    assert (row["charged"], row["declared"], row["retries"], row["state"]) == (3, 10, 2, "open")
    assert shown["entries"] == 1 + 1 + 3  # opening, reservation, charges
    assert shown["remaining"] == pytest.approx(shown["budget"] - shown["committed"])
    assert main(["ledger", "show", str(home)]) == 0
    printed = capsys.readouterr().out
    assert "promise to each patient over all runs: ε ≤ 10 at δ = 1e-05" in printed
    assert f"ε spent or reserved {shown['epsilon_spent']:.4g}, ε left {shown['epsilon_left']:.4g}" in printed
    # Two ways to the same number: what is left of ε_max is what is left of the filter's budget.
    assert shown["epsilon_left"] == pytest.approx(shown["remaining"])
    assert shown["epsilon_spent"] + shown["epsilon_left"] == pytest.approx(10)


def test_a_fresh_ledger_has_spent_nothing(home, capsys):
    assert main(["ledger", "show", str(home)]) == 0
    assert "ε spent or reserved 0, ε left 10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("patients", "delta"), [("200", "1e-2"), ("20000", "1e-5"), ("200", "0"), ("200", "nan")]
)
def test_a_delta_that_the_policy_forbids_is_refused(tmp_path, patients, delta, capsys):
    root = tmp_path / "h"
    assert main(["site", "init", str(root), "--patients", patients, "--delta", delta]) == 2
    assert "1/(10 · patients)" in capsys.readouterr().err
    assert not root.exists()


def test_what_was_held_back_is_read_by_reason_with_its_remedy_and_place(home, capsys):
    held = {Quarantine.UNREADABLE: (0, 1, 2, 7), Quarantine.NO_LABEL: (4,)}
    note_held_back(home, "intake", {reason: len(at) for reason, at in held.items()}, held)
    assert main(["site", "log", str(home)]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["time", "step", "kind", "expected", "found", "remedy"]
    assert any(
        "4 unreadable (inputs 0-2, 7)" in row and REMEDIES[Quarantine.UNREADABLE] in row for row in rows
    )
    assert any("1 no label (inputs 4)" in row and REMEDIES[Quarantine.NO_LABEL] in row for row in rows)


def test_an_extract_verifies_without_the_home_and_a_changed_one_does_not(home, tmp_path, capsys):
    spend(home, 2)
    extract = tmp_path / "extract.json"
    assert main(["ledger", "export", str(home), str(extract)]) == 0
    key = SiteHome.open(home).signing_key.public_bytes.hex()
    capsys.readouterr()
    assert main(["ledger", "verify", str(extract), "--key", key, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["verified"], shown["key"], shown["runs"][0]["charged"]) == (True, key, 2)

    document = json.loads(extract.read_text())
    document["entries"].pop()
    extract.write_text(json.dumps(document))
    assert main(["ledger", "verify", str(extract), "--key", key]) == 3
    assert main(["ledger", "verify", str(extract)]) == 3


def test_an_extract_of_another_site_is_not_taken_for_this_one(home, tmp_path, capsys):
    assert main(["site", "init", str(tmp_path / "other"), "--patients", "250", "--another-site"]) == 0
    assert main(["ledger", "export", str(tmp_path / "other"), str(tmp_path / "x.json")]) == 0
    key = SiteHome.open(home).signing_key.public_bytes.hex()
    assert main(["ledger", "verify", str(tmp_path / "x.json"), "--key", key]) == 3
    assert "found an extract that this site did not sign as it stands" in capsys.readouterr().err


def test_export_overwrites_nothing(home, tmp_path):
    (tmp_path / "x.json").write_text("kept")
    assert main(["ledger", "export", str(home), str(tmp_path / "x.json")]) == 4
    assert (tmp_path / "x.json").read_text() == "kept"


@pytest.mark.parametrize("content", [None, "", "{}", "[1]"])
def test_what_is_no_ledger_is_refused(tmp_path, content):
    source = tmp_path / "x.json"
    if content is not None:
        source.write_text(content)
    assert main(["ledger", "show", str(source)]) == 3


def test_the_operator_reads_refusals(home, capsys):
    tell_operator(home, "join", PolicyRefused("ε ≤ 10", "12", "ask for less"))
    assert main(["site", "log", str(home), "--json"]) == 0
    (line,) = json.loads(capsys.readouterr().out)
    assert (line["step"], line["kind"], line["found"]) == ("join", "PolicyRefused", "12")
