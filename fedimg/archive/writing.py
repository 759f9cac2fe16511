"""An archive, written in one go: names and digests first, then the files. Memory is flat over any number of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fedimg import canonical
from fedimg.archive.layout import MOST_BYTES, MOST_FACTS, MOST_FILES, Entry, check_follows, signed_bytes
from fedimg.crypto.keys import SigningKey
from fedimg.crypto.sealed_stream import SealedWriter
from fedimg.durable import fresh_file
from fedimg.errors import DataError

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """A file to be put in.

    Attributes:
        name: in the archive. root, path: of the file, `path` below `root`; no part of it may be a link.
        moving: it may be replaced or grow meanwhile, so its bytes are taken once and kept until they are written.
        known: its size and SHA-256, where they are known; other bytes are refused.
    """

    name: str
    root: Path
    path: str
    moving: bool = False
    known: Entry | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """Attributes: files, bytes: how many were put in, and their size together."""

    files: int
    bytes: int


def write(
    target: Path,
    recipient: bytes,
    purpose: str,
    facts: Mapping[str, Any],
    sender: SigningKey,
    members: Iterable[Member],
    spool: Path,
) -> Written:
    """Make a new file for the holder of `recipient` (X25519), whole or not at all.

    Args:
        members: in the order of their names, part by part. spool: a folder of mode 0700 on the disk of the files,
            for what has to wait; no name ever stands there.

    Raises DataError: the name is taken, a name is none, a file is a link, or changed while it was read.
    """
    with ExitStack() as stack:
        out = stack.enter_context(fresh_file(target))
        records, kept = (stack.enter_context(tempfile.TemporaryFile(dir=spool)) for _ in range(2))
        files, size = _listed(members, records, kept)
        stream = SealedWriter(out, recipient, purpose)
        told = canonical.encode({**facts, "sender": sender.public_bytes.hex()})
        if len(told) > MOST_FACTS:
            raise DataError("facts of at most 64 KiB", "more", "give shorter names")
        seen = hashlib.sha256()
        for data in _manifest(told, files, size, records):
            seen.update(data)
            stream.write(data)
        stream.write(sender.sign(signed_bytes(purpose, stream.header_digest, seen.digest())))
        kept.seek(0)
        for entry, member in _again(records):
            _put(entry, member, kept, stream)
        stream.close()
    return Written(files, size)


def _manifest(facts: bytes, files: int, size: int, records: BinaryIO) -> Iterator[bytes]:
    yield struct.pack(">I", len(facts)) + facts + struct.pack(">QQ", files, size)
    for entry, _ in _again(records):
        yield entry.to_bytes()


def _listed(members: Iterable[Member], records: BinaryIO, kept: BinaryIO) -> tuple[int, int]:
    """Digest every file, and keep those that move; what is noted in `records` is read by `_again`."""
    before, files, size = None, 0, 0
    for member in members:
        check_follows(before, member.name)
        try:
            entry = member.known or _digested(member, kept)
        except FileNotFoundError:
            if member.moving:
                continue  # it was removed meanwhile
            raise
        _note(records, entry, member)
        before, files, size = member.name, files + 1, size + entry.size
        if files > MOST_FILES or size > MOST_BYTES:
            raise DataError(f"at most {MOST_FILES} files of 32 TiB together", "more", "take them in parts")
    return files, size


def _note(records: BinaryIO, entry: Entry, member: Member) -> None:
    where = os.fsencode(member.root) + b"\0" + member.path.encode()
    said = entry.to_bytes()
    records.write(struct.pack(">II?", len(said), len(where), member.moving) + said + where)


def _again(records: BinaryIO) -> Iterator[tuple[Entry, Member]]:
    records.seek(0)
    while head := records.read(9):
        said, where, moving = struct.unpack(">II?", head)
        entry = read_entry(records.read(said))
        root, path = records.read(where).split(b"\0")
        yield entry, Member(entry.name, Path(os.fsdecode(root)), path.decode(), moving)


def read_entry(data: bytes) -> Entry:
    """Inverse of `Entry.to_bytes`, of what this program wrote a moment ago."""
    name = data[2:-40].decode("ascii")
    return Entry(name, int.from_bytes(data[-40:-32], "big"), data[-32:])


def _digested(member: Member, kept: BinaryIO) -> Entry:
    digest, size = hashlib.sha256(), 0
    with opened(member.root, member.path) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
            if member.moving:
                kept.write(block)
    return Entry(member.name, size, digest.digest())


def _put(entry: Entry, member: Member, kept: BinaryIO, stream: SealedWriter) -> None:
    """Write the bytes that the entry tells of. Raises DataError where they are no more there."""
    with ExitStack() as stack:
        source = kept if member.moving else stack.enter_context(opened(member.root, member.path))
        digest, left = hashlib.sha256(), entry.size
        while left and (block := source.read(min(_BLOCK, left))):
            digest.update(block)
            stream.write(block)
            left -= len(block)
        longer = not member.moving and bool(source.read(1))
    if left or longer or digest.digest() != entry.sha256:
        raise DataError(
            "files that stay as they are while they are read",
            "one that changed",
            "wait for what writes there",
        )


def opened(root: Path, path: str) -> BinaryIO:
    """A regular file below `root`, of which no part is a link. Raises DataError; FileNotFoundError without one."""
    *folders, name = path.split("/")
    held = [os.open(root, os.O_RDONLY | os.O_DIRECTORY)]
    try:
        for folder in folders:
            held.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=held[-1]))
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=held[-1])
    except FileNotFoundError:
        raise
    except OSError:
        raise _no_file() from None
    finally:
        for descriptor in held:
            os.close(descriptor)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _no_file()
    return os.fdopen(handle, "rb")


def _no_file() -> DataError:
    return DataError(
        "regular files that can be read", "a link, or something else", "put the files themselves there"
    )


def room_for(folder: Path, size: int) -> None:
    """Raises DataError where the disk has less room."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DataError(
            f"a disk with room for {size} bytes", f"{free} bytes", "free space, or name another place"
        )
