"""Signed chains of lines: what receipts and the log of look-ups are written with.

    NAME.jsonl   each line holds the SHA-256 of the line before it
    NAME.head    number of lines, hash of the last, Merkle root (RFC 9162 section 2.1), Ed25519 signature

Lines behind the last signed head are of an interrupted run and do not count. A signature cannot show
that both files were put back to an earlier state together: an `Anchor`, kept elsewhere, can.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from fedimg.crypto.keys import SigningKey
from fedimg.crypto.keys import verify as signature_valid
from fedimg.dicom.merkle import MerkleTree
from fedimg.errors import ReceiptError

FORMAT = 2
REMEDY = "restore the home from its backup, or take the files in again into a new home"
GENESIS = "0" * 64
_LONGEST_LINE = 1 << 24


@dataclass(frozen=True, slots=True)
class Anchor:
    """The highest state of a chain that this machine has seen, in a file apart from the chain.

    Guarantee: a chain put back to an earlier state is refused as long as the anchor's file was not
    put back with it. Whoever can write both can undo both: this finds restored backups and
    accidents, and attackers who reach the home only.
    """

    path: Path

    def seen(self) -> tuple[int, str] | None:
        """(lines, hash of the last), or None where nothing was noted here."""
        try:
            noted = json.loads(self.path.read_bytes())
            lines, last = noted["lines"], noted["last"]
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError):
            lines, last = None, None
        if type(lines) is not int or not isinstance(last, str):
            found = "one that does not parse"
            raise ReceiptError("the note of the last state seen", found, "ask who changed it, then delete it")
        return lines, last

    def note(self, lines: int, last: str) -> None:
        """Move forward. Raises OSError for a full disk, ReceiptError where nothing may be written."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(self.path, json.dumps({"last": last, "lines": lines}).encode())
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
                raise
            raise ReceiptError(
                "a folder in which this machine notes the receipts it has seen",
                error.strerror or "an error",
                "set FEDIMG_STATE_DIR to one that can be written, outside of input and output",
            ) from None


class ChainLog:
    """A chain open for appending. One process at a time.

    Args:
        path: NAME.jsonl, made (0600) where absent. signing_key: of the site.
        label: what is signed begins with it, so that the signature serves nowhere else.

    Raises ReceiptError where what is there does not verify.
    """

    def __init__(
        self, path: Path, signing_key: SigningKey, label: bytes, anchor: Anchor | None = None
    ) -> None:
        self._path, self._key, self._label, self._anchor = path, signing_key, label, anchor
        self._tree, self._last, self._signed_size = MerkleTree(), GENESIS, 0
        self._lock = _locked(path.with_suffix(".lock"))
        try:
            self._offset = self._resume()
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            self._file: IO[bytes] = os.fdopen(os.open(path, flags, 0o600), "r+b")
            try:
                self._file.truncate(self._offset)  # unsigned lines of an interrupted run
                self._file.seek(self._offset)
                self.checkpoint()
            except BaseException:
                self._file.close()
                raise
        except BaseException:
            os.close(self._lock)
            raise

    def _resume(self) -> int:
        """Take up the signed lines; the offset behind them."""
        offset = 0
        # An empty file without head is a log that was being made when the process ended.
        begun = head_path(self._path).exists() or (self._path.exists() and self._path.stat().st_size)
        if begun or (self._anchor is not None and self._anchor.seen() is not None):
            for line, end, _ in signed_lines(self._path, self._key.public_bytes, self._label, self._anchor):
                self._tree.append(line)
                self._last, offset = hashlib.sha256(line).hexdigest(), end
        return offset

    def __len__(self) -> int:
        return self._tree.size

    def write(self, body: Mapping[str, Any]) -> None:
        """Add one line; it counts from the next `checkpoint` on.

        Raises OSError (a full disk); the log then still holds whole lines only.
        """
        body = {"previous": self._last, "number": self._tree.size, **body}
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
        root = self._tree.root()
        head = {
            "format": FORMAT,
            "lines": self._tree.size,
            "last": self._last,
            "root": root.hex(),
            "signature": self._key.sign(_statement(self._label, self._tree.size, self._last, root)).hex(),
        }
        _replace(head_path(self._path), json.dumps(head, sort_keys=True).encode())
        if self._anchor is not None:
            self._anchor.note(self._tree.size, self._last)
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


def _replace(target: Path, data: bytes) -> None:
    """Write a file (0600) so that either the old content or the new is there, whatever happens."""
    temporary = target.with_name(target.name + "-new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)


def _locked(path: Path) -> int:
    """A descriptor that holds the lock until it is closed, or its process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ReceiptError("one intake at a time", "another intake at work", "wait for it to end") from None
    return descriptor


@contextmanager
def chain_locked(path: Path) -> Iterator[None]:
    """Nobody appends to the chain meanwhile. Raises ReceiptError where somebody does."""
    descriptor = _locked(path.with_suffix(".lock"))
    try:
        yield
    finally:
        os.close(descriptor)


def head_path(path: Path) -> Path:
    """Where the signed head of a chain lies."""
    return path.with_suffix(".head")


def _statement(label: bytes, lines: int, last: str, root: bytes) -> bytes:
    return label + b"\0" + lines.to_bytes(8, "big") + bytes.fromhex(last) + root


def read_head(path: Path, public_key: bytes, label: bytes) -> dict[str, Any]:
    """The signed state of the chain at `path`: lines, last, root. Raises ReceiptError."""
    try:
        head = json.loads(head_path(path).read_bytes())
        statement = _statement(label, head["lines"], head["last"], bytes.fromhex(head["root"]))
        signature = bytes.fromhex(head["signature"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise ReceiptError(
            "a signed head of the receipts", "none, or one that does not parse", REMEDY
        ) from None
    if head.get("format") != FORMAT or not signature_valid(public_key, signature, statement):
        raise ReceiptError("a head signed by this site", "a signature that does not verify", REMEDY)
    return head  # type: ignore[no-any-return]  # json.loads; every field used is checked above


def signed_lines(
    path: Path, public_key: bytes, label: bytes, anchor: Anchor | None = None
) -> Iterator[tuple[bytes, int, dict[str, Any]]]:
    """Signed lines, the offset behind each, their content. Raises ReceiptError at the first that does not fit."""
    head = read_head(path, public_key, label)
    tree, last, offset = MerkleTree(), GENESIS, 0
    seen = anchor.seen() if anchor is not None else None
    if seen is not None and seen[0] > head["lines"]:
        raise _put_back(f"{head['lines']} lines")
    try:
        file = path.open("rb")
    except OSError:
        raise ReceiptError("the receipts that the head speaks of", "no such file", REMEDY) from None
    with file:
        for number in range(head["lines"]):
            if seen == (number, last):
                seen = None
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
    if seen is not None and seen != (head["lines"], last):
        raise _put_back("another history")


def _put_back(found: str) -> ReceiptError:
    remedy = "they were put back to an earlier state: restore the later one from its backup"
    return ReceiptError("the receipts that this machine has seen, or more", found, remedy)


def _parsed(line: bytes) -> dict[str, Any]:
    """The object of a whole line; an empty one for anything else, which no chain accepts."""
    try:
        body = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {}
