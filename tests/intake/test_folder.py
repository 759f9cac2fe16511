"""Whatever lies in an input folder gets one decision, and nothing but images comes out."""

from __future__ import annotations

import os
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from fedimg.dicom import receipts
from fedimg.errors import DataError
from fedimg.intake import FolderInputs, run_intake
from fedimg.values import Quarantine


def receipts_of(out):
    return {r.position: r for r in receipts.read(out.receipts, out.signing_key.public_bytes)}


def test_every_entry_has_a_decision_and_only_images_come_out(source, slice_of, out, config, tmp_path):
    first = slice_of(0)
    (tmp_path / "elsewhere.dcm").write_bytes(slice_of(1).read_bytes())
    (source / "Quirrell Annabeth" / "001.dcm").unlink()
    (source / "a link.dcm").symlink_to(tmp_path / "elsewhere.dcm")
    (source / "dangling.dcm").symlink_to(tmp_path / "nothing")
    (source / "linked folder").symlink_to(tmp_path)
    (source / "letter about Quirrell.dcm").write_text("Dear Annabeth Quirrell")
    (source / "empty.dcm").write_bytes(b"")
    os.mkfifo(source / "pipe")
    (source / "DICOMDIR").write_bytes(Path(get_testdata_file("DICOMDIR")).read_bytes())
    entries = list(FolderInputs(source))
    assert len(entries) == len(FolderInputs(source)) == 8
    result = run_intake(FolderInputs(source), out, config)
    assert result.released == 1
    assert dict(result.quarantined) == {
        Quarantine.LINK: 3,
        Quarantine.NOT_AN_IMAGE: 3,
        Quarantine.OBJECT_TYPE: 1,
    }
    decided = receipts_of(out)
    assert sorted(decided) == list(range(8))
    assert {entries[p].path for p, r in decided.items() if r.decision == "released"} == {first}
    (released,) = [path for path in out.released.rglob("*") if path.is_file()]
    assert pydicom.dcmread(released).Modality == "CT"


def test_no_name_of_a_file_or_folder_is_in_the_output(source, slice_of, out, config):
    slice_of(0)
    (source / "Quirrell.txt").write_text("x")
    run_intake(FolderInputs(source), out, config)
    for path in out.root.rglob("*"):
        content = path.read_bytes().lower() if path.is_file() else b""
        for word in (b"quirrell", b"annabeth", b"5550123", b"20120309", b"19500607"):
            assert word not in content
            assert word.decode() not in str(path.relative_to(out.root)).lower()


def test_the_order_is_by_name_and_the_same_every_time(source):
    for name in ("b/2", "a/9", "a/10", "c", "b/1"):
        path = source / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    names = [str(item.path.relative_to(source)) for item in FolderInputs(source)]
    assert names == ["a/10", "a/9", "b/1", "b/2", "c"]
    assert names == [str(item.path.relative_to(source)) for item in FolderInputs(source)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_an_input_too(source, slice_of, out, config):
    slice_of(0).chmod(0)
    (source / "closed").mkdir(mode=0)
    result = run_intake(FolderInputs(source), out, config)
    assert dict(result.quarantined) == {Quarantine.UNREADABLE: 2}
    (source / "closed").chmod(0o700)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="expected a folder of image files; found none there"):
        FolderInputs(tmp_path / "nowhere")


def test_two_runs_with_any_number_of_processes_write_the_same(source, slice_of, out, config, tmp_path, key):
    from dataclasses import replace

    from fedimg.home import OutFolder

    for seed in range(20):
        slice_of(seed, PatientID=f"P{seed % 3}")
    other = OutFolder.create(tmp_path / "other", key, "trial")
    run_intake(FolderInputs(source), out, config)
    run_intake(FolderInputs(source), other, replace(config, workers=2))

    def content(folder):
        files = [path for path in folder.released.rglob("*") if path.is_file()]
        files += [folder.receipts, folder.root / "receipts.head"]
        return {path.relative_to(folder.root): path.read_bytes() for path in files}

    assert len(content(out)) == 22
    assert content(out) == content(other)
    run_intake(FolderInputs(source), other, config)  # once more: nothing changes
    assert content(out) == content(other)
