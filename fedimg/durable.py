"""Files that are whole or absent: what a kill, a crash or a power cut leaves is the old file or the new one."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedimg.errors import DataError


def write_durably(path: Path, data: str | bytes, mode: int = 0o600) -> None:
    """Replace `path` by `data`, text as UTF-8; on the disk, name included, when this returns.

    What is left over of a write that was cut short is `.NAME.….partial`, which nothing reads.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data.encode() if isinstance(data, str) else data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Names that were added to or removed from a folder are on the disk when this returns."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until no other process is within this for the same folder, and keep others out meanwhile."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def alone(file: Path, expected: str) -> Iterator[None]:
    """Hold a file's lock for as long as this lasts; the system lets go of it when the process ends, however it ends.

    Raises DataError where another process holds it; `expected` says of what there may be one.
    """
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(expected, "one that runs already", "end that one first") from None
        yield
    finally:
        os.close(handle)


def is_held(file: Path) -> bool:
    """Whether a process holds `alone` of this file. Nothing is made; only who begins at this very moment would notice."""
    try:
        handle = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
