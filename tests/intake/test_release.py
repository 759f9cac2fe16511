"""A release on its way into quarantine: whole, whatever the system takes at a time."""

from __future__ import annotations

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.intake import release


@given(st.lists(st.binary(max_size=40), max_size=4), st.integers(1, 30))
def test_all_parts_are_written_however_few_bytes_go_at_a_time(tmp_path_factory, parts, most):
    def few(descriptor, buffers):
        return os.write(descriptor, b"".join(buffers)[:most])

    path = tmp_path_factory.mktemp("quarantine") / "link-1.part"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release.os, "writev", few)
        release._write(path, parts)
    assert path.read_bytes() == b"".join(parts)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_killed_process_left_under_the_name_is_replaced(tmp_path):
    path, elsewhere = tmp_path / "link-1.part", tmp_path / "elsewhere"
    elsewhere.write_bytes(b"untouched")
    path.symlink_to(elsewhere)
    release._write(path, (b"a", bytearray(b"b")))
    assert path.read_bytes() == b"ab" and not path.is_symlink()
    assert elsewhere.read_bytes() == b"untouched"


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "no space")

    monkeypatch.setattr(release.os, "writev", full)
    with pytest.raises(OSError, match="no space"):
        release._write(tmp_path / "link-1.part", (b"a",))
    assert not list(tmp_path.iterdir())
