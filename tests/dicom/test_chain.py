"""Chains: a label keeps signatures apart; an anchor finds a chain that was put back."""

from __future__ import annotations

import stat

import pytest

from fedimg.crypto.keys import SigningKey
from fedimg.dicom.chain import Anchor, ChainLog, head_path, signed_lines
from fedimg.errors import ReceiptError

KEY = SigningKey.from_bytes(b"s" * 32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.jsonl"


@pytest.fixture
def anchor(tmp_path):
    return Anchor(tmp_path / "elsewhere" / "seen.json")


def write(path, number, anchor=None):
    with ChainLog(path, KEY, b"one", anchor) as log:
        for n in range(number):
            log.write({"n": n})


def bodies(path, anchor=None, label=b"one"):
    return [body for _, _, body in signed_lines(path, KEY.public_bytes, label, anchor)]


def test_what_was_written_reads_back_and_goes_on(path, anchor):
    write(path, 2, anchor)
    write(path, 1, anchor)
    assert [body["n"] for body in bodies(path, anchor)] == [0, 1, 0]
    assert anchor.seen()[0] == 3
    assert stat.S_IMODE(anchor.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(anchor.path.parent.stat().st_mode) == 0o700


def test_a_head_signed_for_one_kind_of_log_is_no_head_of_another(path):
    write(path, 2)
    with pytest.raises(ReceiptError, match="a signature that does not verify"):
        bodies(path, label=b"other")


def test_a_shorter_chain_than_was_seen_is_refused(path, anchor):
    write(path, 2, anchor)
    earlier = path.read_bytes(), head_path(path).read_bytes()
    write(path, 1, anchor)
    path.write_bytes(earlier[0])
    head_path(path).write_bytes(earlier[1])
    assert len(bodies(path)) == 2  # by itself it holds
    with pytest.raises(ReceiptError, match=r"found 2 lines; they were put back to an earlier state"):
        bodies(path, anchor)
    with pytest.raises(ReceiptError, match="put back"):
        ChainLog(path, KEY, b"one", anchor)


def test_a_longer_chain_of_another_history_is_refused(path, anchor, tmp_path):
    write(path, 2, anchor)
    with ChainLog(tmp_path / "other.jsonl", KEY, b"one") as log:
        for n in range(5):
            log.write({"m": n})
    path.write_bytes((tmp_path / "other.jsonl").read_bytes())
    head_path(path).write_bytes(head_path(tmp_path / "other.jsonl").read_bytes())
    with pytest.raises(ReceiptError, match="found another history"):
        bodies(path, anchor)


def test_a_chain_that_vanished_is_missed(path, anchor):
    write(path, 2, anchor)
    path.unlink()
    head_path(path).unlink()
    with pytest.raises(ReceiptError, match="a signed head of the receipts"):
        ChainLog(path, KEY, b"one", anchor)


def test_a_kill_between_head_and_anchor_is_no_fault(path, anchor):
    write(path, 2, anchor)
    before = anchor.path.read_bytes()
    write(path, 1, anchor)
    anchor.path.write_bytes(before)  # the head is newer than what was noted
    assert len(bodies(path, anchor)) == 3


def test_an_anchor_that_does_not_parse_is_told(path, anchor):
    write(path, 1, anchor)
    anchor.path.write_text("{}")
    with pytest.raises(ReceiptError, match="found one that does not parse"):
        bodies(path, anchor)


def test_a_place_that_cannot_be_written_is_told_before_anything_is_done(path, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ReceiptError, match="set FEDIMG_STATE_DIR to one that can be written"):
        ChainLog(path, KEY, b"one", Anchor(tmp_path / "file" / "below" / "seen.json"))
