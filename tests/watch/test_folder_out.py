"""Folders that are whole or not there, under names that say nothing."""

import json
import stat

import pytest

from fedimg.errors import ConfigError
from sites.watch.deliveries import Delivery, Undelivered
from sites.watch.folder_out import Folder
from tests.watch.receivers import NAME, PATIENT, dicom_file


def delivery(*paths, body=b'{"resourceType":"Bundle"}'):
    return Delivery(1, "out", "folder", "abc-0-raised", body, paths)


def test_files_and_bundle_come_together_under_hashes(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    files = [dicom_file(tmp_path, n) for n in (1, 2)]
    Folder(out).deliver(delivery(*files))
    (place,) = out.iterdir()
    assert {path.read_bytes() for path in place.glob("*.dcm")} == {path.read_bytes() for path in files}
    assert json.loads((place / "alert.json").read_bytes()) == {"resourceType": "Bundle"}
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    for path in (place, *place.iterdir()):
        for planted in (PATIENT, NAME, "4711", "abc-0"):
            assert planted not in path.name
        assert path.is_dir() or stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(list(place.iterdir())) == 3


def test_a_repeat_changes_nothing_and_another_key_is_another_folder(tmp_path):
    out, path = tmp_path / "out", dicom_file(tmp_path)
    out.mkdir()
    Folder(out).deliver(delivery(path))
    (place,) = out.iterdir()
    before = place.stat().st_mtime_ns
    Folder(out).deliver(delivery(path, body=b"other"))
    assert place.stat().st_mtime_ns == before
    assert (place / "alert.json").read_bytes() == b'{"resourceType":"Bundle"}'
    Folder(out).deliver(Delivery(2, "out", "folder", "abc-1-updated", b"{}"))
    assert len(list(out.iterdir())) == 2


def test_what_breaks_in_the_middle_leaves_no_folder(tmp_path, monkeypatch):
    out, files = tmp_path / "out", [dicom_file(tmp_path, n) for n in (1, 2)]
    out.mkdir()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("sites.watch.folder_out.write_durably", full)
        with pytest.raises(Undelivered, match="No space left on device") as refused:
            Folder(out).deliver(delivery(*files))
    assert (refused.value.permanent, refused.value.answered) == (False, False)
    assert not list(out.iterdir())
    Folder(out).deliver(delivery(*files))
    assert len(list(out.iterdir())) == 1


def test_a_group_may_read_where_the_settings_say_so(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    Folder(out, group=True).deliver(delivery(dicom_file(tmp_path)))
    (place,) = out.iterdir()
    assert stat.S_IMODE(place.stat().st_mode) == 0o750
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {0o640}


def test_a_file_that_is_gone_is_dead_and_a_folder_that_is_not_there_is_refused(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="a folder to deliver to"):
        Folder(out)
    out.mkdir()
    with pytest.raises(Undelivered, match="a file that is gone") as refused:
        Folder(out).deliver(delivery(tmp_path / f"{NAME}.dcm"))
    assert refused.value.permanent
    assert NAME not in str(refused.value)
    assert not list(out.iterdir())
