"""What is drawn over an image in the home: found by its digest, refused once changed, made again once redrawn."""

from __future__ import annotations

import json
import os
import stat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from fedimg.dicom.refusal import Quarantined
from fedimg.home import SiteHome
from fedimg.intake import IntakeConfig, admitted, run_intake, targets
from fedimg.intake.labels import Label, LabelFile, read_labels
from fedimg.values import Drawn, Quarantine, SourceItem

CONFIG = IntakeConfig(project="trial", workers=0)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)))
def test_packing_keeps_every_voxel(labels):
    assert np.array_equal(targets.unpacked(targets.packed(labels)), labels)


@given(st.binary(max_size=60))
def test_other_bytes_are_refused_and_nothing_else_happens(data):
    with pytest.raises(Quarantined):
        targets.unpacked(data)


@pytest.fixture
def picture(tmp_path):
    """A picture of somebody, and a mask over it."""
    folder = tmp_path / "in"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (24, 24)).astype(np.uint8)
    drawn = np.zeros((24, 24), np.uint8)
    drawn[5:11, 3:9] = 255
    Image.fromarray(pixels).save(folder / "one.png")
    Image.fromarray(drawn).save(folder / "mask.png")
    return folder, drawn > 0


def item(folder, **changes):
    given_ = {"label": 1, "drawn": Drawn((folder / "mask.png",))} | changes
    return SourceItem(folder / "one.png", "image", "PATIENT-7", **given_)


@pytest.fixture
def home(tmp_path):
    return SiteHome.create(tmp_path / "home", simulated=True)


def test_a_mask_becomes_a_target_of_its_image_and_nothing_of_it_is_readable(home, picture):
    folder, drawn = picture
    run_intake([item(folder)], home, CONFIG)
    (record,) = admitted(home)
    assert np.array_equal(targets.load(home.root, record.target)[0], drawn)
    path = targets.path_of(home.root, record.target)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    said = (home.root / "labels.jsonl").read_text() + (home.root / "receipts.jsonl").read_text()
    assert "PATIENT-7" not in said
    assert "mask.png" not in said


def test_a_second_intake_makes_nothing_again_unless_the_mask_was_redrawn(home, picture, monkeypatch):
    folder, drawn = picture
    run_intake([item(folder)], home, CONFIG)
    (first,) = admitted(home)
    seen = []
    monkeypatch.setattr(targets, "voxel_labels", lambda *a: seen.append(a) or drawn[None].astype(np.uint8))
    assert run_intake([item(folder)], home, CONFIG).resumed == 1
    assert not seen
    monkeypatch.undo()
    Image.fromarray((~drawn).astype(np.uint8) * 255).save(folder / "mask.png")
    run_intake([item(folder)], home, CONFIG)
    (second,) = admitted(home)
    assert (second.path, second.sha256) == (first.path, first.sha256)
    assert np.array_equal(targets.load(home.root, second.target)[0], ~drawn)
    run_intake([item(folder, drawn=None)], home, CONFIG)
    assert admitted(home)[0].target == ""


def test_a_target_that_was_lost_is_made_again_and_one_that_was_changed_is_refused(home, picture):
    folder, drawn = picture
    run_intake([item(folder)], home, CONFIG)
    (record,) = admitted(home)
    path = targets.path_of(home.root, record.target)
    whole = path.read_bytes()
    path.write_bytes(targets.packed(np.zeros((1, 24, 24), np.uint8)))
    with pytest.raises(Quarantined) as refused:
        targets.load(home.root, record.target)
    assert refused.value.reason is Quarantine.RECEIPT_INVALID
    for spoil in (path.unlink, lambda: path.write_bytes(whole[:10])):
        spoil()
        run_intake([item(folder)], home, CONFIG)
        assert path.read_bytes() == whole
    assert drawn.any()


def test_a_target_that_is_a_link_or_a_pipe_is_not_read(home, picture):
    folder, _ = picture
    run_intake([item(folder)], home, CONFIG)
    (record,) = admitted(home)
    path = targets.path_of(home.root, record.target)
    elsewhere = folder / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(Quarantined):
        targets.load(home.root, record.target)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Quarantined):
        targets.load(home.root, record.target)


def test_a_mask_that_was_redrawn_leaves_nothing_of_the_first(home, picture):
    folder, drawn = picture
    run_intake([item(folder)], home, CONFIG)
    Image.fromarray((~drawn).astype(np.uint8) * 255).save(folder / "mask.png")
    run_intake([item(folder)], home, CONFIG)
    assert [path.name for path in (home.root / "targets").iterdir()] == [admitted(home)[0].target]


def test_an_image_whose_mask_does_not_fit_is_held_back_and_the_others_go_on(home, picture):
    folder, _ = picture
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(folder / "small.png")
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (24, 24)).astype(np.uint8)).save(
        folder / "two.png"
    )
    other = SourceItem(folder / "two.png", "image", "PATIENT-8", 0, drawn=Drawn((folder / "small.png",)))
    result = run_intake([other, item(folder)], home, CONFIG)
    assert dict(result.quarantined) == {Quarantine.WRONG_SHAPE: 1}
    assert len(admitted(home)) == 1


def test_labels_come_back_as_they_were_put_and_old_lines_still_count(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text('{"instance":"old","label":1,"split":"train"}\n')
    full = Label(3, "public", "ab" * 32, "cd" * 32, 2.5, (2, 5, 1), (("age", 63.0), ("marker", 0.5)), "FLAIR")
    with LabelFile(path) as labels:
        labels.put("new", full)
        labels.put("plain", Label(0, "train"))
        assert labels.get("new") == full
        labels.flush()
    assert read_labels(path) == {"old": Label(1, "train"), "new": full, "plain": Label(0, "train")}


@pytest.mark.parametrize(
    "change",
    [
        {"target": "../etc"},
        {"drawn": 3},
        {"value": "2"},
        {"value": True},
        {"target": ["a"]},
        {"label": 1 << 62},
        {"label": -2},
        {"value": 10**400},
        {"features": [1]},
        {"features": {"Jane Doe": 1}},
        {"features": {"age": "63"}},
        {"features": {"age": True}},
        {"features": {"age": float("nan")}},
        {"features": {f"f{k}": 1 for k in range(65)}},
        {"modality": "ct of Jane Doe"},
        {"modality": 3},
    ],
)
def test_a_line_that_is_no_label_is_skipped(tmp_path, change):
    line = {"instance": "a", "label": 1, "split": "train"} | change
    (tmp_path / "l").write_text(json.dumps(line) + "\n")
    assert read_labels(tmp_path / "l") == {}
