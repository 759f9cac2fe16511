"""`fedimg cohort` and `fedimg deidentify`: from a generated hospital to proof, at the command line."""

import json
import stat

import pytest

from fedimg.cli import main
from fedimg.home import SiteHome
from fedimg.intake import admission


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "hospital"
    overrides = [
        "seed=3",
        "data.cohort.patients_per_hospital=4",
        "data.cohort.image_size=32",
        "data.cohort.slices=1",
    ]
    assert main(["cohort", str(folder), *overrides]) == 0
    return folder


@pytest.fixture
def home(hospital, tmp_path, capsys):
    assert main(["deidentify", "keygen", str(tmp_path / "site.key")]) == 0
    key = f"deid.key={tmp_path / 'site.key'}"
    assert main(["deidentify", "run", str(hospital), str(tmp_path / "home"), "--json", key]) == 0
    return tmp_path / "home"


def outcome(capsys):
    return json.loads(capsys.readouterr().out)


def test_a_key_is_secret_and_made_once(tmp_path, capsys):
    file = tmp_path / "site.key"
    assert main(["deidentify", "keygen", str(file)]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_bytes()) == 32
    content = file.read_bytes()
    assert main(["deidentify", "keygen", str(file)]) != 0
    assert file.read_bytes() == content
    assert content.hex() not in capsys.readouterr().out


def test_every_input_is_released_or_held_back_with_a_reason(hospital, home, capsys):
    found = outcome(capsys)
    inputs = sum(1 for path in hospital.rglob("*") if path.is_file())
    assert found["released"] + sum(found["quarantined"].values()) == inputs
    assert found["released"] == sum(1 for path in (home / "released").rglob("*") if path.is_file()) > 0
    assert sorted(found["quarantined"]) == sorted(found["positions"])


def test_no_planted_identifier_is_left_in_the_home_or_on_the_terminal(hospital, home, capsys):
    shown = capsys.readouterr()
    names = {p.name for p in hospital.iterdir() if p.is_dir()}
    words = {word.encode() for name in names for word in name.split("_") if len(word) > 4}
    assert len(words) > 4
    text = (shown.out + shown.err).encode()
    written = [p.read_bytes() for p in home.rglob("*") if p.is_file()] + [
        str(sorted(home.rglob("*"))).encode()
    ]
    for word in words:
        assert word not in text
        assert not any(word in content for content in written)


def test_the_home_has_the_given_key_and_keeps_it(hospital, home, tmp_path, capsys):
    assert (home / "site.key").read_bytes() == (tmp_path / "site.key").read_bytes()
    assert main(["deidentify", "keygen", str(tmp_path / "other.key")]) == 0
    capsys.readouterr()
    other = f"deid.key={tmp_path / 'other.key'}"
    assert main(["deidentify", "run", str(hospital), str(home), other]) == 2
    assert "found another one" in capsys.readouterr().err


def test_what_was_only_deidentified_is_not_trained_on(home):
    found = admission(SiteHome.open(home))
    assert found.records == ()
    assert {error.found for error in found.refused} == {"none"}
    assert not list((home / "quarantine").iterdir())


def test_verify_holds_until_one_byte_changes(home, capsys):
    capsys.readouterr()
    assert main(["deidentify", "verify", str(home), "--json"]) == 0
    assert outcome(capsys)["verified"] is True
    file = next(p for p in sorted((home / "released").rglob("*")) if p.is_file())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o600)
    file.write_bytes(content)
    assert main(["deidentify", "verify", str(home)]) == 4


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "nowhere", "home"], 4),
        (["run", ".", "home", "sites=3"], 2),
        (["run", ".", "home", "--jsn"], 2),
        (["verify", "nowhere"], 4),
        (["verify", ".", "extra"], 2),
    ],
)
def test_what_cannot_be_done_is_said(arguments, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["deidentify", *arguments]) == code


def test_a_cohort_overwrites_nothing(hospital, capsys):
    assert main(["cohort", str(hospital)]) == 4
    assert "found one with files in it" in capsys.readouterr().err


def test_a_hospital_that_does_not_exist_is_refused(tmp_path, capsys):
    assert main(["cohort", str(tmp_path / "x"), "--hospital", "9"]) == 2
    assert "expected --hospital between 1 and 4" in capsys.readouterr().err


def test_the_same_seed_writes_the_same_hospital(hospital, tmp_path):
    overrides = [
        "seed=3",
        "data.cohort.patients_per_hospital=4",
        "data.cohort.image_size=32",
        "data.cohort.slices=1",
    ]
    assert main(["cohort", str(tmp_path / "again"), *overrides]) == 0
    first = {p.relative_to(hospital): p.read_bytes() for p in hospital.rglob("*") if p.is_file()}
    again = {
        p.relative_to(tmp_path / "again"): p.read_bytes()
        for p in (tmp_path / "again").rglob("*")
        if p.is_file()
    }
    assert first == again
