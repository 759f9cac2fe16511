"""Files that are whole or absent: what a kill, a crash or a power cut leaves is the old file or the new one."""

from __future__ import annotations

import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

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


@contextmanager
def fresh_file(path: Path) -> Iterator[BinaryIO]:
    """Write a new file (0600) that gets its name when it is whole and on the disk, and never takes another's.

    What is left over of a write that was killed is `.NAME.….partial`; the next one for that name removes it.
    Raises DataError where the name is taken.
    """
    if _taken(path):
        raise _no_place()
    _discard_partials(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(partial, path)  # unlike a rename, never over a file that was made meanwhile
        except FileExistsError:
            raise _no_place() from None
        except OSError:  # a disk that has no links
            if _taken(path):
                raise _no_place() from None
            partial.rename(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """Fill a new folder (0700) that gets its name when it is whole and on the disk, and never takes another's.

    What is left over of a process that was killed is `.NAME.….partial`; the next one for that name removes it.
    Raises DataError where the name is taken, by an empty folder too.
    """
    if _taken(path):
        raise _no_place()
    _discard_partials(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    partial.mkdir(mode=0o700)
    try:
        yield partial
        os.sync()  # once for all files in it
        if _taken(path):
            raise _no_place()
        partial.rename(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _taken(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _no_place() -> DataError:
    return DataError(
        "a name that nothing has yet", "something of that name", "name another, or remove it first"
    )


def _discard_partials(path: Path) -> None:
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
