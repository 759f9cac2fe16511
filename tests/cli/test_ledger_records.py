"""`fedimg ledger withdraw | remap | recover` over a real home: stored as keyed pseudonyms, told in numbers only."""

import json
import shutil

import pytest

from fedimg.cli import main
from fedimg.crypto.keys import SiteKey
from fedimg.dicom.ledger_keys import LedgerKeys
from fedimg.home import SiteHome
from fedimg.privacy.ledger import Allowance, Ledger

NUMBERS = ("PAT-0001", "PAT-0002", "PAT-0003")


class Plan:
    digest = "d" * 64
    allowances = (Allowance("train", 4.0, 0.1, 10, 2, "patients"),)


@pytest.fixture
def home(tmp_path, capsys):
    """A home with an open run in which all three patients are; two releases were made."""
    assert main(["site", "init", str(tmp_path / "home"), "--patients", "250"]) == 0
    capsys.readouterr()
    made = SiteHome.open(tmp_path / "home")
    keys = LedgerKeys(made.site_key)
    ledger = Ledger.open(made.ledger, made.signing_key)
    ledger.reserve("run-1", Plan)
    ledger.enrol("run-1", {"patients": [keys.of("HOSP", number) for number in NUMBERS]}, keys.digest)
    for _ in range(2):
        ledger.charge(Plan.digest, "train")
    ledger.disconnect()
    return made


def seats_withdrawn(home):
    keys = LedgerKeys(home.site_key)
    ledger = Ledger.open(home.ledger, home.signing_key)
    gone = ledger.withdrawn(ledger.seats([keys.of("HOSP", number) for number in NUMBERS]))
    ledger.disconnect()
    return gone.tolist()


def listed(tmp_path, *lines):
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    return str(tmp_path / "list.csv")


def test_withdrawn_patients_are_stored_as_pseudonyms_and_told_as_numbers(home, tmp_path, capsys):
    file = listed(tmp_path, "patient_id,issuer", "pat-0002,hosp", "PAT-0009,HOSP")
    assert main(["ledger", "withdraw", str(home.root), "--patients", file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"withdrawn": 2, "of_these_in_a_run_before": 1}
    assert seats_withdrawn(home) == [False, True, False]
    stored = b"".join(path.read_bytes() for path in home.root.glob("ledger.sqlite*")).upper()
    assert b"PAT-000" not in stored
    assert main(["ledger", "withdraw", str(home.root), "--patients", file]) == 0
    assert capsys.readouterr().out == "withdrawn: 2\nof these in a run before: 2\n"


def test_show_verify_and_export_do_not_turn_on_patients(home, tmp_path, capsys):
    """Their output is the same byte for byte before and after a withdrawal and a merged record."""

    def said():
        outputs = []
        for action in ("show", "verify"):
            assert main(["ledger", action, str(home.root), "--json"]) == 0
            outputs.append(capsys.readouterr().out)
        out = tmp_path / f"extract-{len(list(tmp_path.iterdir()))}.json"
        assert main(["ledger", "export", str(home.root), str(out), "--json"]) == 0
        named = json.loads(capsys.readouterr().out)
        assert named["file"] == str(out)
        return [*outputs, named["head"], out.read_bytes()]

    before = said()
    main(["ledger", "withdraw", str(home.root), "--patients", listed(tmp_path, "PAT-0001,HOSP")])
    main(["ledger", "remap", str(home.root), "--patients", listed(tmp_path, "PAT-0002,HOSP,PAT-0003,HOSP")])
    capsys.readouterr()
    assert said() == before


def test_a_new_site_key_carries_every_record_over_or_nothing(home, tmp_path, capsys):
    old = tmp_path / "old.key"
    shutil.copy(home.root / "site.key", old)
    (home.root / "site.key").unlink()
    SiteKey.create(home.root / "site.key")
    file = listed(tmp_path, "PAT-0001,HOSP", "PAT-0002,HOSP")
    base = ["ledger", "remap", str(home.root), "--from-key", str(old), "--patients"]
    assert main(["ledger", "withdraw", str(home.root), "--patients", file]) == 3
    assert "the site key under which this ledger knows its patients" in capsys.readouterr().err
    assert main([*base, file]) == 3
    assert "1 records without a patient" in capsys.readouterr().err
    file = listed(tmp_path, *(f"{number},HOSP" for number in NUMBERS))
    assert main([*base, file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"carried_over": 3}
    assert main(["ledger", "withdraw", str(home.root), "--patients", listed(tmp_path, "PAT-0003,HOSP")]) == 0
    assert seats_withdrawn(SiteHome.open(home.root)) == [False, False, True]


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["PAT-0001,HOSP,x"], "another in line 1"),
        (["PAT-0001", ",HOSP"], "another in line 2"),
        ([""], "none"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused_and_not_quoted(home, tmp_path, capsys, lines, found):
    assert main(["ledger", "withdraw", str(home.root), "--patients", listed(tmp_path, *lines)]) == 4
    error = capsys.readouterr().err
    assert found in error
    assert "PAT" not in error
    assert seats_withdrawn(home) == [False] * 3


def test_recovering_after_the_loss_of_the_disk(home, tmp_path, capsys):
    backup = tmp_path / "backup.json"
    main(["ledger", "export", str(home.root), str(backup)])
    ledger = Ledger.open(home.ledger, home.signing_key)
    ledger.reserve("run-1", Plan)
    ledger.charge(Plan.digest, "train")
    head, reserved = ledger.head.name, ledger.last_reserved
    ledger.disconnect()
    for file in home.root.glob("ledger.sqlite*"):
        file.unlink()
    capsys.readouterr()
    words = ["ledger", "recover", str(home.root), "--backup", str(backup)]
    assert main([*words, "--head", "5-abc"]) == 3
    assert "NUMBER-DIGEST" in capsys.readouterr().err
    assert main([*words, "--head", head, "--reserved", str(reserved), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["epsilon_left"] > 0
    assert main(["ledger", "show", str(home.root), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(run["state"], run["charged"]) for run in shown["runs"]] == [("closed", 12)]
    assert shown["written_off"] == 0
    assert shown["head"] == said["head"].split("-")[1]
