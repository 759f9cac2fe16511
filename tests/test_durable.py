"""The old file or the new one, whatever happens in between."""

import stat

import pytest

from fedimg import durable
from fedimg.durable import alone, is_held, write_durably
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
