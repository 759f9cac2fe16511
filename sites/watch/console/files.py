"""Files of a result, from a closed list of names, and from below the results' folder only."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fedimg.errors import DataError

_MOST_BYTES: Final = 1 << 30
_PIECE: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Output:
    """`key`: in the result's outputs. `media`: its type. `title`: what a link says; "" for one that is shown."""

    key: str
    media: str
    title: str


OUTPUTS: Final[Mapping[str, Output]] = {
    "preview.png": Output("preview", "image/png", ""),
    "sr.dcm": Output("sr", "application/dicom", "Structured report (SR)"),
    "seg.dcm": Output("seg", "application/dicom", "Segmentation (SEG)"),
    "sc.dcm": Output("sc", "application/dicom", "Secondary capture (SC)"),
}


@dataclass(frozen=True)
class OpenFile:
    """A file that was checked, open. Whoever reads it to the end, or stops, has closed it."""

    descriptor: int
    size: int

    def pieces(self) -> Iterator[bytes]:
        with os.fdopen(self.descriptor, "rb") as file:
            while piece := file.read(_PIECE):
                yield piece


def open_output(folder: Path, path: str) -> OpenFile:
    """Raises DataError for what is not a regular file below the folder, or is a link."""
    fault = DataError("a file of this result", "none", "it may have been removed after its time")
    try:
        found = Path(path).resolve(strict=True)
        if not found.is_relative_to(folder.resolve(strict=True)):
            raise fault
        # what was checked is what is opened: the last part may have become a link since
        descriptor = os.open(found, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError, RuntimeError):
        raise fault from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
        os.close(descriptor)
        raise fault
    return OpenFile(descriptor, status.st_size)
