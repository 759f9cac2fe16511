"""`fedimg cohort` and `fedimg deidentify`: from a generated hospital to proof, at the command line."""

import csv
import io
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
        "data.cohort.image_size=64",
        "data.cohort.slices=1",
    ]
    assert main(["cohort", str(folder), *overrides]) == 0
    return folder


FAST = ["deid.workers=0"]


@pytest.fixture(scope="module")
def filled(hospital, tmp_path_factory):
    """An output folder and its key, filled once; tests that change it work on `out`."""
    place = tmp_path_factory.mktemp("station")
    assert main(["deidentify", "keygen", str(place / "site.key")]) == 0
    key = f"deid.key={place / 'site.key'}"
    assert main(["deidentify", "run", str(hospital), str(place / "out"), "--json", key, *FAST]) == 0
    return place / "out", key


@pytest.fixture
def out(hospital, tmp_path, capsys):
    assert main(["deidentify", "keygen", str(tmp_path / "site.key")]) == 0
    key = f"deid.key={tmp_path / 'site.key'}"
    assert main(["deidentify", "run", str(hospital), str(tmp_path / "out"), "--json", key, *FAST]) == 0
    return tmp_path / "out"


def outcome(capsys):
    return json.loads(capsys.readouterr().out)


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_key_is_secret_and_made_once(tmp_path, capsys):
    file = tmp_path / "site.key"
    assert main(["deidentify", "keygen", str(file)]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_bytes()) == 32
    content = file.read_bytes()
    assert main(["deidentify", "keygen", str(file)]) != 0
    assert file.read_bytes() == content
    assert content.hex() not in capsys.readouterr().out


def test_every_input_is_released_or_held_back_with_a_reason(hospital, out, capsys):
    found = outcome(capsys)
    inputs = sum(1 for path in hospital.rglob("*") if path.is_file())
    assert found["released"] + sum(found["quarantined"].values()) == found["inputs"] == inputs
    assert found["released"] == len(files(out / "released")) > 0
    assert sorted(found["quarantined"]) == sorted(found["positions"])
    for path in (out, out / "released", out / "quarantine"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for name in ("deid.json", "receipts.jsonl", "receipts.head"):
        assert stat.S_IMODE((out / name).stat().st_mode) == 0o600


def test_no_planted_identifier_is_left_in_the_output_or_on_the_terminal(hospital, out, capsys):
    shown = capsys.readouterr()
    names = {p.name for p in hospital.iterdir() if p.is_dir()}
    words = {word.encode() for name in names for word in name.split("_") if len(word) > 4}
    assert len(words) > 4
    text = (shown.out + shown.err).encode()
    written = [*files(out).values(), str(sorted(out.rglob("*"))).encode()]
    for word in words:
        assert word not in text
        assert not any(word in content for content in written)


def test_a_rerun_changes_nothing_and_another_key_is_refused(hospital, out, tmp_path, capsys):
    before = files(out)
    key = f"deid.key={tmp_path / 'site.key'}"
    assert main(["deidentify", "run", str(hospital), str(out), key, *FAST]) == 0
    assert files(out) == before
    assert main(["deidentify", "keygen", str(tmp_path / "other.key")]) == 0
    capsys.readouterr()
    other = f"deid.key={tmp_path / 'other.key'}"
    assert main(["deidentify", "run", str(hospital), str(out), other]) == 2
    assert "found another one" in capsys.readouterr().err
    assert main(["deidentify", "run", str(hospital), str(out), key, "deid.project=another", *FAST]) == 2
    assert "the project that this folder was filled under" in capsys.readouterr().err
    assert files(out) == before


def test_another_key_gives_other_pseudonyms_everywhere(hospital, out, tmp_path, filled):
    one, other = files(out / "released"), files(filled[0] / "released")
    assert len(one) == len(other)
    assert not set(one) & set(other)
    parts = [{part for path in tree for part in path.parts} for tree in (one, other)]
    assert not parts[0] & parts[1]


@pytest.mark.parametrize("place", ["in", "out"])
def test_a_key_within_input_or_output_is_refused(place, tmp_path, capsys, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    file = tmp_path / place / "site.key"
    assert main(["deidentify", "keygen", str(file)]) == 0
    run = ["deidentify", "run", str(tmp_path / "in"), str(tmp_path / "out")]
    assert main([*run, f"deid.key={file}"]) == 2
    assert f"a site key outside of {place.upper()}" in capsys.readouterr().err
    monkeypatch.setenv("FEDIMG_SITE_KEY_FILE", str(file))
    assert main(run) == 2


def test_input_and_output_lie_apart(filled, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for out in (tmp_path / "in", tmp_path / "in" / "out", tmp_path):
        assert main(["deidentify", "run", str(tmp_path / "in"), str(out), filled[1]]) == 2
        assert "expected IN and OUT apart" in capsys.readouterr().err


def test_the_key_may_come_from_a_command(hospital, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FEDIMG_SITE_KEY_COMMAND", "printf %064d 7")
    (tmp_path / "in").mkdir()
    assert main(["deidentify", "run", str(tmp_path / "in"), str(tmp_path / "out"), *FAST]) == 0
    assert main(["deidentify", "verify", str(tmp_path / "out")]) == 0
    monkeypatch.delenv("FEDIMG_SITE_KEY_COMMAND")
    assert main(["deidentify", "run", str(tmp_path / "in"), str(tmp_path / "new"), *FAST]) == 2
    assert "expected a site key" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_what_was_only_deidentified_is_not_trained_on(hospital, tmp_path):
    home = SiteHome.create(tmp_path / "home", simulated=True)
    assert main(["deidentify", "run", str(hospital), str(home.root), *FAST]) == 0
    found = admission(home)
    assert found.records == ()
    assert {error.found for error in found.refused} == {"none"}
    assert not list(home.quarantine.iterdir())


def test_verify_holds_until_one_byte_changes(out, capsys):
    capsys.readouterr()
    assert main(["deidentify", "verify", str(out), "--json"]) == 0
    found = outcome(capsys)
    assert (found["verified"], found["key_given"]) == (True, False)
    assert main(["deidentify", "verify", str(out), "--key", found["public_key"]]) == 0
    assert "signed by the key given" in capsys.readouterr().out
    assert main(["deidentify", "verify", str(out), "--key", "00" * 32]) == 4
    file = next(p for p in sorted((out / "released").rglob("*")) if p.is_file())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o600)
    file.write_bytes(content)
    assert main(["deidentify", "verify", str(out)]) == 4


def test_verify_of_an_unfinished_run_says_so(out, capsys):
    (out / "quarantine" / "survey.sqlite").write_bytes(b"")
    assert main(["deidentify", "verify", str(out)]) == 1
    assert "not every input has a decision" in capsys.readouterr().err


def test_a_plan_needs_no_key_and_agrees(hospital, filled, capsys):
    capsys.readouterr()
    assert main(["deidentify", "plan", str(hospital), "--json", *FAST]) == 0
    planned = outcome(capsys)
    assert sum(entry["reason"] is None for entry in planned) == len(files(filled[0] / "released"))
    assert main(["deidentify", "plan", str(hospital), *FAST]) == 0
    assert "would be released" in capsys.readouterr().out


def test_a_review_lists_looks_releases_and_discards(hospital, out, tmp_path, capsys):
    key = [f"deid.key={tmp_path / 'site.key'}", *FAST]
    capsys.readouterr()
    assert main(["deidentify", "review", str(out), "list", "--json", *key]) == 0
    held = outcome(capsys)
    assert held and {"position", "reason", "overridable"} <= set(held[0])
    position = held[0]["position"]
    (tmp_path / "private").mkdir(mode=0o700)
    review = ["deidentify", "review", str(out), "--input", str(hospital), *key]
    pictured = next(
        entry for entry in held if entry["reason"] in ("burned_in_text", "duplicate", "object_type")
    )
    file = tmp_path / "private" / "a.png"
    assert main([*review, "preview", str(pictured["position"]), str(file)]) == 0
    assert file.read_bytes().startswith(b"\x89PNG")
    assert "confidential" in capsys.readouterr().err
    if not pictured["overridable"]:
        code = main(
            [*review, "release", str(pictured["position"]), "--reason", "no-text", "--reviewer", "R1"]
        )
        assert code == 2
    assert main([*review, "discard", str(position), "--reviewer", "R1"]) == 0
    capsys.readouterr()
    assert main(["deidentify", "review", str(out), "--position", str(position), *key]) == 0
    assert "discard R1" in capsys.readouterr().out
    assert main(["deidentify", "verify", str(out)]) == 0


def test_the_table_is_printed_in_three_forms(capsys):
    capsys.readouterr()
    assert main(["deidentify", "table", "--json"]) == 0
    rows = outcome(capsys)
    assert main(["deidentify", "table", "--csv"]) == 0
    assert len(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))) == len(rows) > 50
    assert main(["deidentify", "table"]) == 0
    assert "SOPClassUID" in capsys.readouterr().out
    assert main(["deidentify", "table", "--profile", "none"]) == 2


def test_a_pseudonym_leads_back_to_its_patient_under_custody_only(hospital, out, tmp_path, capsys):
    pydicom = pytest.importorskip("pydicom")
    pseudonym = next((out / "released").iterdir()).name
    numbers = set()
    for path in hospital.rglob("*"):
        if path.is_file():
            dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            numbers.add((str(dataset.get("PatientID", "")), str(dataset.get("IssuerOfPatientID", ""))))
    with (tmp_path / "candidates.csv").open("w", newline="") as file:
        csv.writer(file).writerows(sorted(numbers))
    find = ["deidentify", "reidentify", str(out), "--candidates", str(tmp_path / "candidates.csv")]
    find += ["--custodian", "C1", f"deid.key={tmp_path / 'site.key'}"]
    capsys.readouterr()
    assert main([*find, "--pseudonym", pseudonym, "--json"]) == 0
    (found,) = outcome(capsys)
    assert (found["patient_id"], found["issuer"]) in numbers
    assert main([*find, "--pseudonym", "FI" + "0" * 20]) == 4
    assert len((out / "audit.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "nowhere", "home"], 4),
        (["run", ".", "home", "sites=3"], 2),
        (["run", ".", "home", "--jsn"], 2),
        (["verify", "nowhere"], 4),
        (["verify", ".", "extra"], 2),
        (["review", "nowhere", "explode"], 2),
        (["plan", "nowhere"], 4),
        (["frobnicate"], 2),
    ],
)
def test_what_cannot_be_done_is_said(arguments, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["deidentify", *arguments]) == code


def test_the_help_names_the_exit_codes(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["deidentify", "--help"])
    assert ended.value.code == 0
    assert "exit codes: 0 every input has a decision" in " ".join(capsys.readouterr().out.split())


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
        "data.cohort.image_size=64",
        "data.cohort.slices=1",
    ]
    assert main(["cohort", str(tmp_path / "again"), *overrides]) == 0
    assert files(hospital) == files(tmp_path / "again")


def test_a_report_of_originals_is_written_beside_the_output_never_into_it(filled, hospital, tmp_path, capsys):
    out, key = filled
    page = tmp_path / "page.html"
    assert main(["deidentify", "report", str(out), "--file", str(page), "--input", str(hospital), key]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "data:image/png" in page.read_text()
    for inside in (out / "page.html", out / "released" / "page.html"):
        assert main(["deidentify", "report", str(out), "--file", str(inside), key]) == 2
        assert "FILE.html outside of OUT" in capsys.readouterr().err
        assert not inside.exists()
    assert main(["deidentify", "report", str(out), key]) == 2
    assert main(["deidentify", "report", str(out), "--file", str(tmp_path / "page.dcm"), key]) == 2
    assert "ends in .html" in capsys.readouterr().err


def test_a_homes_report_lies_in_the_home(hospital, tmp_path, capsys):
    home = SiteHome.create(tmp_path / "home", simulated=True)
    assert main(["deidentify", "run", str(hospital), str(home.root), "--json", *FAST]) == 0
    assert main(["deidentify", "report", str(home.root)]) == 0
    assert (home.root / "report.html").is_file()
    assert capsys.readouterr().out.endswith(f"{home.root / 'report.html'}\n")
