"""An archive, read by the one it is for: first who made it and what is in it, then file after file."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from fedimg import canonical
from fedimg.archive.layout import (
    MOST_BYTES,
    MOST_FACTS,
    MOST_FILES,
    MOST_NAME,
    REMEDY,
    SIGNATURE,
    Entry,
    check_follows,
    signed_bytes,
)
from fedimg.archive.writing import read_entry, room_for
from fedimg.crypto.keys import is_identity, verify
from fedimg.crypto.sealed_stream import SealedReader
from fedimg.crypto.sealing import SealingKey
from fedimg.errors import DataError

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """An archive whose maker's signature holds; its files are still to be read.

    Attributes:
        facts: what its maker says of it. sender: the maker's Ed25519 key, hex. files, size: how many, and their bytes.
    """

    facts: dict[str, Any]
    sender: str
    files: int
    size: int
    _stream: SealedReader
    _records: BinaryIO

    @classmethod
    @contextmanager
    def open(cls, path: Path, key: SealingKey, purpose: str, spool: Path) -> Iterator[Self]:
        """Read up to the signature, and check it. `spool`: a private folder, in which no name ever stands.

        Raises DataError: cut, changed, for another key or purpose, or names and sizes that no archive has.
        """
        try:
            source = path.open("rb")
        except OSError as error:
            raise DataError("a file that can be read", error.strerror or "an error", "name another") from None
        with source, tempfile.TemporaryFile(dir=spool) as records:
            stream = SealedReader(source, key, purpose)
            seen = _Seen(stream)
            (length,) = struct.unpack(">I", seen.read(4))
            if length > MOST_FACTS:
                raise _malformed()
            facts = canonical.decode_canonical(seen.read(length), "archive")
            sender = facts.get("sender") if isinstance(facts, dict) else None
            files, size = struct.unpack(">QQ", seen.read(16))
            if files > MOST_FILES or size > min(MOST_BYTES, os.fstat(source.fileno()).st_size):
                raise _malformed()
            if sum(_listed(seen, records, files)) != size:
                raise _malformed()
            signature = stream.read(SIGNATURE)
            signed = signed_bytes(purpose, stream.header_digest, seen.digest.digest())
            if not isinstance(sender, str) or not _signed_by(sender, signature, signed):
                raise DataError("an archive that its maker signed", "another signature", REMEDY)
            yield cls(facts, sender, files, size, stream, records)

    def extract(self, into: Path, wanted: Callable[[str], bool]) -> None:
        """Write every file (0600, folders 0700) below `into`, which is private and new.

        Raises DataError: a name that is not `wanted`, other bytes than the signed ones, something behind the last
        file, or no room. What was written by then is there; the caller throws the folder away.
        """
        room_for(into, self.size)
        for entry in self.entries():
            if not wanted(entry.name):
                raise DataError("files of this kind of archive only", "another one", REMEDY)
        made = into
        for entry in self.entries():
            path = into / entry.name
            if path.parent != made:
                _make_folders(into, path.parent)
                made = path.parent
            self._write(entry, path)
        self._stream.end()

    def entries(self) -> Iterator[Entry]:
        """What is in it, in order."""
        self._records.seek(0)
        while head := self._records.read(2):
            (length,) = struct.unpack(">H", head)
            yield read_entry(head + self._records.read(length + 40))

    def _write(self, entry: Entry, path: Path) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        digest, left = hashlib.sha256(), entry.size
        with os.fdopen(handle, "wb") as file:
            while left:
                block = self._stream.read(min(_BLOCK, left))
                digest.update(block)
                file.write(block)
                left -= len(block)
        if digest.digest() != entry.sha256:
            raise DataError("files as the manifest names them", "other bytes", REMEDY)


class _Seen:
    """Reads, and digests what was read."""

    def __init__(self, stream: SealedReader) -> None:
        self._stream, self.digest = stream, hashlib.sha256()

    def read(self, length: int) -> bytes:
        data = self._stream.read(length)
        self.digest.update(data)
        return data


def _listed(seen: _Seen, records: BinaryIO, files: int) -> Iterator[int]:
    """The sizes of the files, whose records go to the disk."""
    before = None
    for _ in range(files):
        head = seen.read(2)
        (length,) = struct.unpack(">H", head)
        if not 0 < length <= MOST_NAME:
            raise _malformed()
        data = head + seen.read(length + 40)
        try:
            entry = read_entry(data)
        except UnicodeDecodeError:
            raise _malformed() from None
        check_follows(before, entry.name)
        records.write(data)
        before = entry.name
        yield entry.size


def _make_folders(root: Path, folder: Path) -> None:
    at = root
    for part in folder.relative_to(root).parts:
        at /= part
        at.mkdir(mode=0o700, exist_ok=True)


def _signed_by(sender: str, signature: bytes, signed: bytes) -> bool:
    try:
        public = bytes.fromhex(sender)
    except ValueError:
        return False
    return is_identity(public) and verify(public, signature, signed)


def _malformed() -> DataError:
    return DataError("an archive with names and sizes within bounds", "another", REMEDY)
