"""`fedimg predict`: a table with a row for each series, objects of what was called, and refusals as the README's codes."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from fedimg.cli import main
from fedimg.prediction.folder import study_folder
from tests.prediction.conftest import KEY, write_series

PUBLIC = f"ed25519:{KEY.public_bytes.hex()}"


@pytest.fixture
def studies(tmp_path):
    """Two studies: one with a ball and a scout of another modality, one without; and files that are no images."""
    root = tmp_path / "in"
    write_series(root / "1" / "ct", study="one", series="ct", ball_mm=(31.0, -5.0, 12.0))
    write_series(
        root / "1" / "us", study="one", series="mr", modality="MR", slices=2, BodyPartExamined="HEAD"
    )
    write_series(root / "2", study="two", series="ct")
    (root / "notes.txt").write_text("nothing")
    (root / "link.dcm").symlink_to(root / "notes.txt")
    return root


@pytest.fixture
def run(bundles, studies, tmp_path, capsys):
    def of(*more, bundle="outlines", out="out", source=studies, key=PUBLIC):
        code = main(["predict", str(bundles(bundle)), str(source), str(tmp_path / out), "--key", key, *more])
        return code, capsys.readouterr()

    return of


def rows_of(folder):
    with (folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_series_has_a_row_and_what_was_called_its_objects(run, tmp_path):
    code, said = run()
    assert code == 0
    assert "Nodule 1.2.0: 2 of 3 series analysed, 1 called" in said.out
    rows = rows_of(tmp_path / "out")
    states = sorted((row["state"], row["reason"]) for row in rows)
    assert states == [
        ("analysed", ""),
        ("analysed", ""),
        ("not analysed", "another body part than CHEST"),
        ("not analysed", "bytes that are not DICOM (not_an_image)"),
    ]
    (called,) = (row for row in rows if row["called"] == "1")
    (other,) = (row for row in rows if row["called"] == "0")
    assert called["finding"] == "ball"
    assert called["where"].startswith("left side, upper third")
    assert float(called["size_mm"]) == pytest.approx(18, abs=4)
    assert float(called["score"]) > float(called["threshold"]) == 0.5 > float(other["score"])
    assert (other["finding"], other["where"], other["outputs"]) == ("", "", "")
    # "not analysed" has no score: it is no result
    assert {row["score"] for row in rows if row["state"] == "not analysed"} == {""}
    folder = tmp_path / "out" / called["outputs"]
    assert called["outputs"] == study_folder(called["study_uid"])
    assert sorted(path.suffixes[-2:][0] for path in folder.iterdir()) == [".png", ".sc", ".seg", ".sr"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"predictions.csv", called["outputs"]}
    for path in (tmp_path / "out", folder):
        assert path.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "out" / "predictions.csv").stat().st_mode & 0o777 == 0o600


def test_json_has_the_same_rows(run, tmp_path):
    code, said = run("--json")
    found = json.loads(said.out)
    assert code == 0
    assert (found["series"], found["analysed"], found["called"]) == (3, 2, 1)
    rows = rows_of(tmp_path / "out")
    for own, row in zip(found["rows"], rows, strict=True):
        assert {key: "" if value is None else str(value) for key, value in own.items()} == row


def test_without_a_threshold_a_model_can_still_be_looked_at(run, tmp_path):
    code, said = run(bundle="voxels")
    assert code == 0
    assert "promises no threshold" in said.out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["predictions.csv"]
    assert run("--all", bundle="voxels", out="all")[0] == 0
    kinds = {path.suffixes[0] for path in (tmp_path / "all").rglob("*.dcm")}
    assert kinds == {".seg", ".sc"}  # and no report


def test_a_volume_that_cannot_be_stacked_is_not_analysed(run, studies, tmp_path):
    sorted((studies / "2").iterdir())[3].unlink()
    code, _ = run(bundle="volumes")
    assert code == 0
    assert "a stack with a slice missing" in {row["reason"] for row in rows_of(tmp_path / "out")}


def test_what_cannot_be_used_is_refused_by_code(run, studies, tmp_path):
    assert run(key="ed25519:" + "0" * 64)[0] == 4
    assert run(key="nonsense")[0] == 2
    assert run(source=tmp_path / "none")[0] == 4
    assert run(out="in/out")[0] == 2
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    assert run(out="full")[0] == 4
    assert (tmp_path / "full" / "x").read_text() == "mine"
    (tmp_path / "empty").mkdir(mode=0o755)
    shutil.rmtree(studies / "1")
    shutil.rmtree(studies / "2")
    code, said = run(out="empty")
    assert code == 4
    assert "none of them readable" in said.err


def test_what_was_done_before_an_interruption_is_in_the_table(run, tmp_path, monkeypatch):
    from fedimg.prediction import folder

    plain, seen = folder.predict, []

    def interrupted(model, files, **more):
        if seen:
            raise KeyboardInterrupt
        seen.append(files)
        return plain(model, files, **more)

    monkeypatch.setattr(folder, "predict", interrupted)
    assert run()[0] == 130
    rows = rows_of(tmp_path / "out")
    assert [row["state"] for row in rows].count("analysed") == 1
