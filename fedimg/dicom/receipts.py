"""Receipts: one line per input, chained, with a Merkle root that the site signs.

    receipts.jsonl   each line holds the SHA-256 of the line before it
    receipts.head    number of lines, hash of the last, Merkle root (RFC 9162 section 2.1), Ed25519 signature

A line holds counts, tag paths, keyed digests and closed codes, never a value of the input. Lines
behind the last signed head are of an interrupted run: they are dropped and their inputs taken in
again. What a signature cannot show is that both files were put back to an earlier state together.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

from fedimg.crypto.keys import SigningKey
from fedimg.crypto.keys import verify as signature_valid
from fedimg.dicom.merkle import MerkleTree
from fedimg.dicom.receipt import REMEDY, Receipt
from fedimg.errors import ReceiptError

__all__ = ["FORMAT", "Receipt", "ReceiptLog", "check_file", "head_path", "read", "verify"]

FORMAT = 1
_GENESIS = "0" * 64
_LONGEST_LINE = 1 << 24


class ReceiptLog:
    """The file behind `Receipt`s, open for appending. One process at a time.

    Args:
        path: receipts.jsonl, made (0600) where absent. signing_key: the site's.

    Raises ReceiptError where what is there does not verify.
    """

    def __init__(self, path: Path, signing_key: SigningKey) -> None:
        self._path, self._key = path, signing_key
        self._tree, self._last, self._signed_size = MerkleTree(), _GENESIS, 0
        self._lock = _locked(path.with_suffix(".lock"))
        try:
            self._offset = self._resume()
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            self._file: IO[bytes] = os.fdopen(os.open(path, flags, 0o600), "r+b")
            self._file.truncate(self._offset)  # unsigned lines of an interrupted run
            self._file.seek(self._offset)
            self.checkpoint()
        except BaseException:
            os.close(self._lock)
            raise

    def _resume(self) -> int:
        """Take up the signed lines; the offset behind them."""
        offset = 0
        # An empty file without head is a log that was being made when the process ended.
        if head_path(self._path).exists() or (self._path.exists() and self._path.stat().st_size):
            for line, end, _ in _signed_lines(self._path, self._key.public_bytes):
                self._tree.append(line)
                self._last, offset = hashlib.sha256(line).hexdigest(), end
        return offset

    def __len__(self) -> int:
        return self._tree.size

    def append(self, receipt: Receipt) -> None:
        """Add one line; it counts from the next `checkpoint` on.

        Raises OSError (a full disk); the log then still holds whole lines only.
        """
        body = {"previous": self._last, "number": self._tree.size, **receipt.to_mapping()}
        line = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        try:
            self._file.write(line + b"\n")
            self._file.flush()
        except OSError:
            self._rewind()
            raise
        self._offset += len(line) + 1
        self._tree.append(line)
        self._last = hashlib.sha256(line).hexdigest()

    def _rewind(self) -> None:
        """Cut a half-written line; the buffered rest of it goes with the file object."""
        with suppress(OSError):  # closing flushes once more; on a full disk that fails again, which is known
            self._file.close()
        self._file = os.fdopen(os.open(self._path, os.O_RDWR | os.O_NOFOLLOW), "r+b")
        self._file.truncate(self._offset)
        self._file.seek(self._offset)

    def checkpoint(self) -> None:
        """Make all lines durable and sign them. Raises OSError; the signed state before then stands."""
        self._file.flush()
        os.fsync(self._file.fileno())
        statement = _statement(self._tree.size, self._last, self._tree.root())
        head = {
            "format": FORMAT,
            "lines": self._tree.size,
            "last": self._last,
            "root": self._tree.root().hex(),
            "signature": self._key.sign(statement).hex(),
        }
        target = head_path(self._path)
        temporary = target.with_suffix(".head-new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(head, sort_keys=True).encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        self._signed_size = self._tree.size

    @property
    def unsigned(self) -> int:
        """Lines since the last checkpoint."""
        return self._tree.size - self._signed_size

    def close(self) -> None:
        """Checkpoint and close."""
        try:
            if self.unsigned:
                self.checkpoint()
        finally:
            self._file.close()
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _locked(path: Path) -> int:
    """A descriptor that holds the lock until it is closed, or its process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ReceiptError("one intake at a time", "another intake at work", "wait for it to end") from None
    return descriptor


def head_path(path: Path) -> Path:
    """Where the signed head of a receipt file lies."""
    return path.with_suffix(".head")


def _statement(lines: int, last: str, root: bytes) -> bytes:
    """What is signed: a domain label, so that the signature serves nowhere else, and the whole state."""
    return b"fedimg receipts 1\0" + lines.to_bytes(8, "big") + bytes.fromhex(last) + root


def _read_head(path: Path, public_key: bytes) -> dict[str, Any]:
    try:
        head = json.loads(head_path(path).read_bytes())
        statement = _statement(head["lines"], head["last"], bytes.fromhex(head["root"]))
        signature = bytes.fromhex(head["signature"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise ReceiptError(
            "a signed head of the receipts", "none, or one that does not parse", REMEDY
        ) from None
    if head.get("format") != FORMAT or not signature_valid(public_key, signature, statement):
        raise ReceiptError("a head signed by this site", "a signature that does not verify", REMEDY)
    return head  # type: ignore[no-any-return]  # json.loads; every field used is checked above


def _signed_lines(path: Path, public_key: bytes) -> Iterator[tuple[bytes, int, dict[str, Any]]]:
    """Signed lines, the offset behind each, their content. Raises ReceiptError at the first that does not fit."""
    head = _read_head(path, public_key)
    tree, last, offset = MerkleTree(), _GENESIS, 0
    try:
        file = path.open("rb")
    except OSError:
        raise ReceiptError("the receipts that the head speaks of", "no such file", REMEDY) from None
    with file:
        for number in range(head["lines"]):
            line = file.readline(_LONGEST_LINE)
            offset += len(line)
            body = _parsed(line)
            if body.pop("previous", None) != last or body.pop("number", None) != number:
                found = f"line {number + 1} changed, missing or out of order"
                raise ReceiptError("an unbroken chain of receipts", found, REMEDY)
            line = line[:-1]
            tree.append(line)
            last = hashlib.sha256(line).hexdigest()
            yield line, offset, body
    if last != head["last"] or tree.root().hex() != head["root"]:
        raise ReceiptError(
            "receipts whose root is the signed one", "another root: the last line changed", REMEDY
        )


def _parsed(line: bytes) -> dict[str, Any]:
    """The object of a whole line; an empty one for anything else, which no chain accepts."""
    try:
        body = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {}


def read(path: Path, public_key: bytes) -> Iterator[Receipt]:
    """The receipts of the signed part, in order.

    Raises ReceiptError at the first fault; a changed last line shows at the end, so take all
    before believing any.
    """
    for _, _, body in _signed_lines(path, public_key):
        yield Receipt.from_mapping(body)


def check_file(receipt: Receipt, released_root: Path) -> None:
    """Whether the released file is the one of the receipt. Raises ReceiptError (naming the position only)."""
    where = f"the file of run position {receipt.position}"
    path = released_root / (receipt.output or "")
    try:
        if path.is_symlink():
            raise ReceiptError(where, "a link in its place", "take the input in again")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        raise ReceiptError(where, "no such file", "take the input in again") from None
    if found != receipt.sha256:
        raise ReceiptError(where, "other bytes than were released", "take the input in again")


def verify(path: Path, public_key: bytes, released_root: Path) -> int:
    """Check everything: chain, root, signature, every released byte, and that no other file is there.

    Returns the number of receipts. Raises ReceiptError at the first fault.
    """
    latest: dict[str, Receipt] = {}
    receipts = 0
    for receipt in read(path, public_key):
        receipts += 1
        if receipt.decision == "released":
            latest[receipt.output or ""] = receipt
    for receipt in latest.values():
        check_file(receipt, released_root)
    present = {
        file.relative_to(released_root).as_posix() for file in released_root.rglob("*") if not file.is_dir()
    }
    if present - latest.keys():
        found = f"{len(present - latest.keys())} files without one"
        raise ReceiptError(
            "a receipt for every released file", found, "take the inputs in again, or remove the files"
        )
    return receipts
