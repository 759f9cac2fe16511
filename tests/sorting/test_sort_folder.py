"""A folder of everything that lies about in folders: a table, a tree, and a source that reads the table."""

import csv
import io
import os
import stat

import numpy as np
import pytest
from PIL import Image

from fedimg.dicom.authoring import write_image
from fedimg.durable import fresh_folder
from fedimg.errors import ConfigError, DataError
from fedimg.sorting import Answer, Asked, By, Sorter, sort_folder
from fedimg.sorting.table import Labels, earlier_table, left_out, table_of
from fedimg.sorting.tree import place
from fedimg.sources import DataConfig
from fedimg.sources.load import load

PIXELS = (np.random.default_rng(1).normal(2000, 400, (24, 24))).astype(np.uint16)
NAME = "DOE^JANE"


def write(path, modality="CR", **attributes):
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {"PatientID": "P1", "PatientName": NAME, "BodyPartExamined": "CHEST", "ViewPosition": "PA"}
    write_image(path, modality=modality, pixels=PIXELS, attributes=known | attributes)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "in"
    write(folder / "doe_jane" / "a.dcm")
    write(folder / "doe_jane" / "no_ending", ViewPosition="LL", PatientID="P2")
    write(folder / "knee.dcm", BodyPartExamined="KNEE", ViewPosition="", PatientID="P3")
    (folder / "notes.txt").write_text("not an image")
    (folder / "cut.dcm").write_bytes((folder / "knee.dcm").read_bytes()[:500])
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(folder / "black.png")
    (folder / "link.dcm").symlink_to(folder / "knee.dcm")
    (folder / "outside").symlink_to("/etc")
    write(folder / ".hidden.dcm")
    write(folder / "odd\nname.dcm")
    os.mkfifo(folder / "pipe")
    return folder


def rows_of(text):
    return {row["path"]: row for row in csv.DictReader(io.StringIO(text))}


def test_every_entry_is_listed_with_a_reason(source):
    listed = list(sort_folder(source, Sorter()))
    rows = rows_of(table_of(listed, Labels()))
    assert rows["doe_jane/a.dcm"] == {
        "path": "doe_jane/a.dcm", "modality": "CR", "body_part": "chest", "view": "pa",
        "decided_by": "header", "confidence": "", "reason": "complete",
    }  # fmt: skip
    assert rows["doe_jane/no_ending"]["view"] == "lateral"
    assert rows["knee.dcm"]["reason"] == "no_view"
    assert rows["notes.txt"]["reason"] == "not_an_image"
    assert rows["cut.dcm"]["reason"] == "unreadable"
    assert rows["black.png"]["decided_by"] == "nothing"
    assert len(rows) == 6
    told = list(csv.DictReader(io.StringIO(left_out(listed))))
    assert sorted(row["reason"] for row in told) == ["complete", "complete", "link", "link", "not_an_image"]
    assert len(listed) == len(rows) + len(told)


def test_nothing_behind_a_link_is_read(source, monkeypatch):
    seen = []
    sorter = Sorter()
    monkeypatch.setattr(Sorter, "sort", lambda self, path: seen.append(path) or Answer())
    list(sort_folder(source, sorter))
    assert all(not path.is_symlink() and source in path.parents for path in seen)
    assert len(seen) == 8


def test_an_unsure_image_stays_unknown(source):
    class Unsure:
        def look(self, frame, modalities):
            from fedimg.sorting.classifier import CLASSES

            return CLASSES[2], 0.89

    listed = Sorter(0.9, of_weights=Unsure).sort(source / "black.png")
    assert (listed.reason, listed.decided_by) == ("below_threshold", By.NOTHING)
    listed = Sorter(0.88, of_weights=Unsure).sort(source / "black.png")
    assert (listed.modality.value, listed.confidence, listed.decided_by) == ("CR", 0.89, By.IMAGE)


@pytest.mark.parametrize("way", ["link", "copy"])
def test_the_tree_holds_every_sorted_file_under_a_number(source, tmp_path, way):
    listed = list(sort_folder(source, Sorter()))
    with fresh_folder(tmp_path / "out") as out:
        table = place(listed, out, way)
    placed = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(placed) == 6
    assert not [path for path in placed if "doe" in str(path).lower().removeprefix(str(tmp_path))]
    for row in csv.DictReader(io.StringIO(table)):
        if row["path"]:
            made, original = tmp_path / "out" / row["sorted_path"], source / row["path"]
            assert made.read_bytes() == original.read_bytes()
            assert made.samefile(original) == (way == "link")
            if way == "copy":
                assert stat.S_IMODE(made.stat().st_mode) == 0o600
    for folder in (tmp_path / "out").rglob("*"):
        if folder.is_dir():
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (tmp_path / "out" / "sorted" / "CR" / "chest" / "pa").is_dir()


def test_a_tree_never_overwrites(source, tmp_path):
    listed = list(sort_folder(source, Sorter()))
    place(listed, tmp_path, "copy")
    with pytest.raises(FileExistsError):
        place(listed, tmp_path, "copy")
    with pytest.raises(FileExistsError):
        place(listed, tmp_path, "link")


def test_a_file_that_became_a_link_meanwhile_is_refused(source, tmp_path):
    listed = [entry for entry in sort_folder(source, Sorter()) if entry.path.name == "knee.dcm"]
    (source / "knee.dcm").rename(source / "real.dcm")
    (source / "knee.dcm").symlink_to(source / "real.dcm")
    for way in ("link", "copy"):
        with pytest.raises(OSError, match=r"link|symbolic"):
            place(listed, tmp_path / way if (tmp_path / way).mkdir() is None else tmp_path, way)
        assert not [p for p in (tmp_path / way).rglob("*") if p.is_symlink() or p.is_file()]


def test_an_answer_outside_the_vocabulary_is_no_folder(source, tmp_path):
    from dataclasses import replace

    from fedimg.sorting.answer import Said

    entry = next(e for e in sort_folder(source, Sorter()) if e.path.name == "a.dcm")
    forged = replace(entry, answer=replace(entry.answer, view=Said("../../up", By.TEXT)))
    with pytest.raises(ValueError, match="vocabulary"):
        place([forged], tmp_path, "copy")


def test_the_table_is_a_source_of_labels(source, tmp_path):
    """data=dicom data.labels=OUT/manifest.csv: answers as classes; what is unknown goes without label."""
    table = tmp_path / "manifest.csv"
    table.write_text(table_of(list(sort_folder(source, Sorter())), Labels(Asked.VIEW)))
    config = DataConfig(name="dicom", path=str(source), labels=str(table), classes=("pa", "lateral"))
    items = {item.path.name: item.label for m in load(config, tmp_path, 1, 0).values() for item in m.items}
    assert items["a.dcm"] == 0
    assert items["no_ending"] == 1
    assert items["knee.dcm"] is None
    assert items["notes.txt"] is None


def test_an_earlier_table_keeps_its_labels_where_the_answer_is_the_one_asked_for(source, tmp_path):
    earlier = tmp_path / "labels.csv"
    earlier.write_text("path,label,patient_id\ndoe_jane/a.dcm,1,P1\nknee.dcm,0,P3\n")
    labels = Labels(earlier=earlier_table(earlier), only={Asked.BODY_PART: "chest"})
    rows = rows_of(table_of(list(sort_folder(source, Sorter())), labels))
    assert (rows["doe_jane/a.dcm"]["label"], rows["doe_jane/a.dcm"]["patient_id"]) == ("1", "P1")
    assert rows["knee.dcm"]["label"] == ""
    table = tmp_path / "manifest.csv"
    table.write_text(table_of(list(sort_folder(source, Sorter())), labels))
    config = DataConfig(name="dicom", path=str(source), labels=str(table))
    found = [
        item for m in load(config, tmp_path, 1, 0).values() for item in m.items if item.label is not None
    ]
    assert [item.path.name for item in found] == ["a.dcm"]


def test_what_contradicts_itself_is_refused(source, tmp_path):
    with pytest.raises(ConfigError, match="labels come from one place"):
        Labels(Asked.VIEW, {})
    with pytest.raises(DataError, match="a folder of image files"):
        list(sort_folder(tmp_path / "absent", Sorter()))
    with pytest.raises(ConfigError, match="threshold"):
        Sorter(0.2)
