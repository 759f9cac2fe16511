"""Receipts: any changed, missing or reordered line, and any changed released byte, is found."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.crypto.keys import SigningKey
from fedimg.dicom import receipts
from fedimg.dicom.merkle import MerkleTree
from fedimg.dicom.receipts import Receipt, ReceiptLog
from fedimg.errors import ReceiptError

KEY = SigningKey.from_bytes(b"s" * 32)
KEYS = {"patient": "FI1", "study": "1", "series": "2", "instance": "3"}


def merkle_root(leaves: list[bytes]) -> bytes:
    """RFC 9162 section 2.1.1, by its recursive definition: the oracle."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + merkle_root(leaves[:split]) + merkle_root(leaves[split:])).digest()


@given(st.lists(st.binary(max_size=8), max_size=40))
def test_the_root_is_that_of_rfc_9162(leaves):
    tree = MerkleTree()
    for leaf in leaves:
        tree.append(leaf)
    assert tree.root() == merkle_root(leaves)
    assert tree.size == len(leaves)


def test_the_root_of_a_published_tree():
    # The test vectors of certificate-transparency-go, merkle tree of RFC 6962 (same definition).
    tree = MerkleTree()
    assert tree.root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ):
        tree.append(bytes.fromhex(leaf))
    assert tree.root().hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def receipt(position: int, root, data: bytes | None = None) -> Receipt:
    if data is None:
        return Receipt(position, f"link{position}", "quarantined", "unreadable")
    (root / f"{position}.dcm").write_bytes(data)
    return Receipt(
        position,
        f"link{position}",
        "released",
        output=f"{position}.dcm",
        sha256=hashlib.sha256(data).hexdigest(),
        keys=KEYS,
        evidence={"paths": {"X": ("00081030",)}},
    )


@pytest.fixture
def written(tmp_path):
    root = tmp_path / "released"
    root.mkdir()
    path = tmp_path / "receipts.jsonl"
    with ReceiptLog(path, KEY) as log:
        for position in range(7):
            log.append(receipt(position, root, b"file %d" % position if position % 2 else None))
    return path, root


def verified(written) -> int:
    return receipts.verify(written[0], KEY.public_bytes, written[1])


def test_what_was_written_verifies_and_reads_back(written):
    assert verified(written) == 7
    read = list(receipts.read(written[0], KEY.public_bytes))
    assert [entry.position for entry in read] == list(range(7))
    assert read[1].evidence == {"paths": {"X": ["00081030"]}}
    assert stat.S_IMODE(written[0].stat().st_mode) == 0o600


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_changed_byte_of_the_receipts_is_found(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("r")
    root = folder / "released"
    root.mkdir()
    with ReceiptLog(folder / "receipts.jsonl", KEY) as log:
        for position in range(3):
            log.append(receipt(position, root, b"x"))
    path = folder / data.draw(st.sampled_from(["receipts.jsonl", "receipts.head"]))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    before = json.loads(path.read_bytes()) if path.suffix == ".head" else None
    path.write_bytes(bytes(content))
    if before is not None and json_or_none(bytes(content)) == before:
        return  # white space or the case of hexadecimal digits: the same statement
    with pytest.raises(ReceiptError):
        receipts.verify(folder / "receipts.jsonl", KEY.public_bytes, root)
    shutil.rmtree(folder)


def json_or_none(content: bytes):
    try:
        head = json.loads(content)
        return {name: value.lower() if isinstance(value, str) else value for name, value in head.items()}
    except (ValueError, AttributeError):
        return None


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[1:],
        lambda lines: lines[:3] + lines[4:],
        lambda lines: lines[:-1],
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        lambda lines: [*lines[:2], lines[1], *lines[2:]],
        lambda lines: [],
    ],
    ids=["first missing", "middle missing", "last missing", "reordered", "repeated", "empty"],
)
def test_lines_missing_or_out_of_order_are_found(written, change):
    lines = written[0].read_bytes().splitlines(keepends=True)
    written[0].write_bytes(b"".join(change(lines)))
    with pytest.raises(ReceiptError):
        verified(written)


def test_the_error_names_the_line_and_no_value(written):
    lines = written[0].read_bytes().splitlines(keepends=True)
    written[0].write_bytes(b"".join(lines[:3] + lines[4:]))
    with pytest.raises(ReceiptError) as error:
        verified(written)
    assert str(error.value) == (
        "expected an unbroken chain of receipts; found line 4 changed, missing or out of order; "
        "restore the home from its backup, or take the files in again into a new home"
    )


def test_a_rewritten_chain_needs_the_sites_key(written, tmp_path):
    other = tmp_path / "other.jsonl"
    with ReceiptLog(other, SigningKey.from_bytes(b"t" * 32)) as log:
        for entry in receipts.read(written[0], KEY.public_bytes):
            log.append(entry)
    shutil.copy(other, written[0])
    shutil.copy(receipts.head_path(other), receipts.head_path(written[0]))
    with pytest.raises(ReceiptError, match="a signature that does not verify"):
        verified(written)


def test_changed_missing_linked_and_unreceipted_files_are_found(written):
    root = written[1]
    target = root / "3.dcm"
    original = target.read_bytes()
    target.write_bytes(original[:-1] + b"X")
    with pytest.raises(
        ReceiptError, match="expected the file of run position 3; found other bytes than were released"
    ):
        verified(written)
    target.unlink()
    with pytest.raises(ReceiptError, match="no such file"):
        verified(written)
    (root.parent / "elsewhere").write_bytes(original)
    target.symlink_to(root.parent / "elsewhere")
    with pytest.raises(ReceiptError, match="a link in its place"):
        verified(written)
    target.unlink()
    target.write_bytes(original)
    (root / "extra.dcm").write_bytes(b"slipped in")
    with pytest.raises(ReceiptError, match="1 files without one"):
        verified(written)


def test_unsigned_lines_of_an_interrupted_run_are_dropped(written):
    path, root = written
    log = ReceiptLog(path, KEY)
    log.append(receipt(7, root))
    log._file.write(b'{"half a li')
    log._file.flush()
    log._file.close()
    os.close(log._lock)  # killed: no checkpoint
    assert verified(written) == 7
    with ReceiptLog(path, KEY) as again:
        assert len(again) == 7
        again.append(receipt(8, root))
    assert [entry.position for entry in receipts.read(path, KEY.public_bytes)][-1] == 8


def test_one_process_at_a_time(written):
    with ReceiptLog(written[0], KEY), pytest.raises(ReceiptError, match="another intake"):
        ReceiptLog(written[0], KEY)


def test_a_full_disk_leaves_whole_lines(written, monkeypatch):
    path, root = written
    log = ReceiptLog(path, KEY)

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name):
            return getattr(self.file, name)

    monkeypatch.setattr(log, "_file", Full(log._file))
    with pytest.raises(OSError, match="No space left"):
        log.append(receipt(7, root))
    log.append(receipt(8, root))
    log.close()
    assert [entry.position for entry in receipts.read(path, KEY.public_bytes)][6:] == [6, 8]


@pytest.mark.parametrize(
    "change",
    [
        {"output": "/etc/passwd"},
        {"output": "../outside.dcm"},
        {"output": None},
        {"sha256": "00"},
        {"keys": {"patient": "FI1"}},
        {"decision": "maybe"},
        {"position": "0"},
        {"surplus": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_line_that_is_no_receipt_is_refused(written, change):
    body = json.loads(written[0].read_bytes().splitlines()[1]) | change
    del body["previous"], body["number"]
    with pytest.raises(ReceiptError, match="a receipt of this format"):
        Receipt.from_mapping(body)
