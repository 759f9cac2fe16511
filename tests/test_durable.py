"""The old file or the new one, whatever happens in between."""

import os
import stat

import pytest

from fedimg import durable
from fedimg.durable import alone, fresh_file, fresh_folder, is_held, write_durably
from fedimg.errors import DataError


def test_text_and_bytes_arrive_with_their_mode_and_nothing_beside_them(tmp_path):
    write_durably(tmp_path / "a", "größer")
    write_durably(tmp_path / "b", b"\x00\xff", mode=0o644)
    write_durably(tmp_path / "a", "kleiner")
    assert (tmp_path / "a").read_text("utf-8") == "kleiner"
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o644
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    write_durably(tmp_path / "a", "old")

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_durably(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_lock_that_is_looked_at_is_neither_made_nor_taken(tmp_path):
    file = tmp_path / "lock"
    assert not is_held(file)
    assert not file.exists()
    with alone(file, "one"):
        assert is_held(file)
        with pytest.raises(DataError, match="one that runs already"), alone(file, "one"):
            pytest.fail("two of them")
    assert not is_held(file)
    with alone(file, "one"):
        assert is_held(file)


# ------------------------------------------------------------------------------------ new files and folders, whole


@pytest.mark.parametrize("name", ["plain", "with [brackets] *"])
def test_a_fresh_file_is_there_when_it_is_whole_and_private(tmp_path, name):
    path = tmp_path / name
    (tmp_path / f".{name}.00.partial").write_text("of one that was killed")
    with fresh_file(path) as stream:
        stream.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["plain", "with [brackets] *"])
def test_a_fresh_folder_is_there_when_it_is_whole_and_private(tmp_path, name):
    path = tmp_path / name
    left = tmp_path / f".{name}.00.partial"
    left.mkdir()
    (left / "key").write_text("of one that was killed")
    with fresh_folder(path) as partial:
        (partial / "x").write_bytes(b"whole")
        assert not path.exists()
    assert (path / "x").read_bytes() == b"whole"
    assert path.stat().st_mode & 0o777 == 0o700
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("fresh", [fresh_file, fresh_folder])
def test_what_fails_leaves_nothing(tmp_path, fresh):
    with pytest.raises(RuntimeError), fresh(tmp_path / "x"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fresh", [fresh_file, fresh_folder])
@pytest.mark.parametrize("kind", ["file", "folder", "link to nothing"])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_name_that_is_taken_stays_what_it_is(tmp_path, fresh, kind, when):
    path = tmp_path / "x"
    make = {"file": path.touch, "folder": path.mkdir, "link to nothing": lambda: path.symlink_to("none")}[
        kind
    ]
    if when == "before":
        make()
    with pytest.raises(DataError, match="something of that name"), fresh(path):
        make()
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert path.is_symlink() == (kind == "link to nothing")


def test_a_disk_without_links_gets_the_file_too_and_never_over_another(tmp_path, monkeypatch):
    def none(*_):
        raise PermissionError

    monkeypatch.setattr(os, "link", none)
    with fresh_file(tmp_path / "x") as stream:
        stream.write(b"whole")
    assert (tmp_path / "x").read_bytes() == b"whole"
    with pytest.raises(DataError), fresh_file(tmp_path / "y"):
        (tmp_path / "y").write_text("another's")
    assert (tmp_path / "y").read_text() == "another's"
