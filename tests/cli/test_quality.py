"""`fedimg quality` as it is typed: on a folder, on a source, on a site's home."""

import json
import stat

import numpy as np
import pytest

from fedimg.cli import main
from fedimg.cohort import anatomy
from fedimg.dicom.authoring import write_image


def pixels(seed):
    return (
        anatomy.ultrasound(np.random.default_rng(seed), (48, 48), 1, None, 1.0)[0].values * 1000 + 500
    ).astype(np.uint16)


def write(folder, name, patient, seed):
    known = {"PatientID": patient, "ViewPosition": "PA"}
    write_image(folder / f"{name}.dcm", modality="CR", pixels=pixels(seed), attributes=known)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "doe"
    made.mkdir()
    for number in range(6):
        write(made, f"doe_{number}", f"P{number}", number)
    return made


def test_sound_data(folder, capsys):
    assert main(["quality", str(folder)]) == 0
    printed = capsys.readouterr()
    assert "6 inputs, 6 usable, 6 patients: nothing was found" in printed.out
    assert "doe" not in printed.out + printed.err


def test_something_serious_is_exit_code_1(folder, tmp_path, capsys):
    write(folder, "doe_other", "Q", 0)
    page = tmp_path / "page.html"
    assert main(["quality", str(folder), "--page", str(page)]) == 1
    printed = capsys.readouterr()
    assert "copy_across_patients" in printed.out
    assert "doe" not in printed.out + printed.err  # names stand in the page and in --json only
    assert "doe_other.dcm" in page.read_text(encoding="utf-8")
    assert stat.S_IMODE(page.stat().st_mode) == 0o600


def test_warnings_count_with_strict(folder):
    write(folder, "doe_again", "P0", 0)
    assert main(["quality", str(folder)]) == 0
    assert main(["quality", str(folder), "--strict"]) == 1


def test_json_names_the_files(folder, capsys):
    write(folder, "doe_other", "Q", 0)
    assert main(["quality", str(folder), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    (finding,) = found["findings"]
    assert finding["kind"] == "copy_across_patients"
    assert finding["where"] == [["doe_0.dcm", "doe_other.dcm"]]
    assert "for this site alone" in found["confidential"]


def test_a_source_with_labels(folder, capsys):
    rows = [f"doe_{k}.dcm,{k % 2 if k < 5 else ''},{'public' if k == 4 else 'train'}\n" for k in range(6)]
    (folder / "labels.csv").write_text("path,label,split\n" + "".join(rows))
    write(folder, "doe_leak", "P9", 4)
    (folder / "labels.csv").open("a").write("doe_leak.dcm,0,train\n")
    assert main(["quality", "data=dicom", f"data.path={folder}", "sites=1", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    kinds = {finding["kind"]: finding["count"] for finding in found["findings"]}
    assert kinds["copy_across_parts"] == 1
    assert kinds["unlabelled"] == 1
    assert found["parts"] == {"public": 1, "train": 6}


def test_a_home(folder, tmp_path, monkeypatch, capsys):
    """What training would read: released files, by pseudonyms."""
    home = tmp_path / "home"
    write(folder, "doe_other", "Q", 0)
    rows = [f"doe_{k}.dcm,{k % 2}\n" for k in range(6)]
    (folder / "labels.csv").write_text("path,label\n" + "".join(rows) + "doe_other.dcm,0\n")
    assert main(["site", "init", str(home), "--patients", "10"]) == 0
    words = ["data=dicom", f"data.path={folder}", "data.declared_patients=10", "deid.workers=0"]
    assert main(["site", "admit", str(home), *words]) == 0
    capsys.readouterr()
    # The intake judges each patient's files without looking at another's: only this finds who is two.
    assert main(["quality", str(home), "--page", str(home / "quality.html"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["inputs"] == 7
    assert "copy_across_patients" in {finding["kind"] for finding in found["findings"]}
    assert set(found["parts"]) <= {"train", "validation"}
    assert "doe" not in json.dumps(found)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["doe", "doe"], 2, "one folder, or the keys of a source"),
        (["doe", "data=cohort"], 2, "one folder, or the keys of a source"),
        (["absent"], 4, "a folder of image files"),
        (["imaging.image_size=[8,8]"], 2, "a folder, or data=…"),
        (["doe", "--page", "page.txt"], 2, "a name that ends in .html"),
        (["doe", "--page", "doe/page.html"], 2, "FILE.html outside of the data"),
        (["doe", "--page", "absent/page.html"], 2, "a folder to write into"),
    ],
)
def test_what_cannot_be_done_is_refused(folder, tmp_path, monkeypatch, capsys, words, code, told):
    monkeypatch.chdir(tmp_path)
    assert main(["quality", *words]) == code
    assert told in capsys.readouterr().err
