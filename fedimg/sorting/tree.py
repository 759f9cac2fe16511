"""OUT/modality/body_part/view/: the files again, by what they show, under numbers instead of names.

A number says nothing that the file does not hold, and a table beside the tree says which was which. Hard links cost no
space and change no byte; where the file system has none, or on another disk, files are copied.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import re
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from fedimg.sorting.table import Listed, values_of
from fedimg.values import Quarantine

Way = Literal["link", "copy"]

_FOLDER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_]{0,31}")
_ENDINGS = {".dcm", ".png", ".jpg", ".jpeg", ".nii", ".gz", ".tif", ".tiff"}
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)
_REFUSED = frozenset(str(reason) for reason in Quarantine)


def place(
    listed: Sequence[Listed], out: Path, way: Way, progress: Callable[[int, int], None] | None = None
) -> str:
    """Put every sorted file into the tree `out`/sorted; the table of (number in the tree, path in the source) as CSV.

    Folders have mode 0700, copies 0600; a hard link keeps the mode of its file, which it is. Files that could not be
    sorted are not in it. Raises OSError: a full disk, a file that went away or became a link meanwhile.
    """
    wanted = [entry for entry in listed if entry.answer.reason not in _REFUSED]
    digits = max(6, len(str(len(listed))))
    stream = io.StringIO(newline="")
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(("sorted_path", "position", "path"))
    made: set[Path] = set()
    for done, entry in enumerate(wanted, 1):
        parts = [_folder(value) for value in values_of(entry.answer).values()]
        folder = out.joinpath("sorted", *parts)
        if folder not in made:
            _make(out, ("sorted", *parts))
            made.add(folder)
        target = folder / f"{entry.position:0{digits}}{_ending(entry.path)}"
        _put(entry.path, target, way)
        table.writerow((target.relative_to(out).as_posix(), entry.position, entry.relative or ""))
        if progress is not None:
            progress(done, len(wanted))
    return stream.getvalue()


def _folder(value: str) -> str:
    """A value of the closed vocabulary as a folder's name; anything else would be a fault of this program."""
    if not _FOLDER_NAME.fullmatch(value):
        raise ValueError("an answer outside the vocabulary")
    return value


def _make(out: Path, parts: Sequence[str]) -> None:
    folder = out
    for part in parts:
        folder = folder / part
        folder.mkdir(mode=0o700, exist_ok=True)


def _ending(path: Path) -> str:
    """The file's ending where it is a known one: others may be part of a name."""
    ending = path.suffix.lower()
    if ending == ".gz":
        return ".nii.gz"
    return ending if ending in _ENDINGS else ".dcm"


def _put(source: Path, target: Path, way: Way) -> None:
    """Link or copy; never over a file that is there, never through a link."""
    if way == "link":
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            if stat.S_ISREG(target.lstat().st_mode):
                return
            target.unlink()
            raise OSError(errno.ELOOP, "a link where a file was")
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(reading, "rb") as stream:
        if not stat.S_ISREG(os.fstat(reading).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(writing, "wb") as copy:
            shutil.copyfileobj(stream, copy, 1 << 20)
