"""`fedimg sort` as it is typed."""

import csv
import json
import stat

import numpy as np
import pytest

from fedimg.cli import main
from fedimg.dicom.authoring import write_image

PIXELS = np.random.default_rng(2).normal(2000, 300, (24, 24)).astype(np.uint16)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, view in (("doe_jane_1.dcm", "PA"), ("doe_jane_2.dcm", "LL")):
        known = {"PatientID": "P1", "BodyPartExamined": "CHEST", "ViewPosition": view}
        write_image(folder / name, modality="CR", pixels=PIXELS, attributes=known)
    (folder / "doe_jane.txt").write_text("no image")
    return folder


def test_a_folder_is_sorted_and_only_counts_are_printed(source, tmp_path, capsys):
    assert main(["sort", str(source), str(tmp_path / "out"), "--tree", "copy", "--label", "view"]) == 0
    printed = capsys.readouterr()
    assert "doe" not in printed.out + printed.err
    assert "3 files, 1 without an answer; 2 with a label" in printed.out
    rows = list(csv.DictReader((tmp_path / "out" / "manifest.csv").open(encoding="utf-8")))
    assert {row["path"]: row["label"] for row in rows} == {
        "doe_jane.txt": "", "doe_jane_1.dcm": "pa", "doe_jane_2.dcm": "lateral"}  # fmt: skip
    assert len(list((tmp_path / "out" / "sorted" / "CR" / "chest").rglob("*.dcm"))) == 2
    for path in [tmp_path / "out", *(tmp_path / "out").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_json(source, tmp_path, capsys):
    assert main(["sort", str(source), str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == 3
    assert {
        "modality": "CR",
        "body_part": "chest",
        "view": "pa",
        "decided_by": "header",
        "files": 1,
    } in found["kinds"]
    assert {"reason": "not_an_image", "files": 1} in found["reasons"]


def test_what_is_there_is_never_overwritten(source, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert main(["sort", str(source), str(tmp_path / "out")]) == 4
    assert list((tmp_path / "out").iterdir()) == []
    assert "a name that nothing has yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["in", "in/out"], 2, "SOURCE and OUT apart"),
        (["absent", "out"], 4, "a folder of image files"),
        (["in", "out", "--only", "knee"], 2, "--only modality|body_part|view=VALUE"),
        (["in", "out", "--threshold", "0.1"], 2, "a threshold in [0.5, 1]"),
        (["in", "out", "--labels", "none.csv"], 4, "a readable CSV file"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    source, tmp_path, monkeypatch, capsys, words, code, told
):
    monkeypatch.chdir(tmp_path)
    assert main(["sort", *words]) == code
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not (source / "out").exists()
