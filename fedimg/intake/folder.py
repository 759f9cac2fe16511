"""Every entry of an input folder, in a stable order: what is no file gets a decision too.

Positions in reports count along this order, from 0. Symbolic links are named, never followed: what
they point to may lie anywhere. A folder that cannot be listed is one input, which cannot be read.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from fedimg.errors import DataError
from fedimg.values import SourceItem

_KINDS: dict[str, Literal["nifti", "image"]] = {
    ".nii": "nifti",
    ".gz": "nifti",
    ".png": "image",
    ".jpg": "image",
    ".jpeg": "image",
}


def item_of(path: Path) -> SourceItem:
    """An input by its name's ending; whatever has no known one is taken for DICOM and judged by its bytes."""
    return SourceItem(path, _KINDS.get(path.suffix.lower(), "dicom"))


class FolderInputs:
    """The inputs below a folder: iterable any number of times, never a list in memory.

    Raises DataError where there is no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError("a folder of image files", "none there", "name the folder to de-identify")
        self.root = root

    def __iter__(self) -> Iterator[SourceItem]:
        return map(item_of, entries_of(self.root))

    def __len__(self) -> int:
        """Counted anew: a walk over names only."""
        return sum(1 for _ in entries_of(self.root))


def entries_of(folder: Path) -> Iterator[Path]:
    """Files and links, in order; what cannot be listed is one entry, which cannot be read."""
    try:
        with os.scandir(folder) as listing:
            found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing)
    except OSError:
        yield folder
        return
    for name, is_folder in found:
        if is_folder:
            yield from entries_of(folder / name)
        else:
            yield folder / name


class ListedInputs:
    """The same inputs as the survey saw them: a file that arrives later is for the next run."""

    def __init__(self, index: Path) -> None:
        self._uri = index.absolute().as_uri() + "?mode=ro"

    def __iter__(self) -> Iterator[SourceItem]:
        database = sqlite3.connect(self._uri, uri=True)
        try:
            for (path,) in database.execute("SELECT path FROM inputs ORDER BY position"):
                yield item_of(Path(os.fsdecode(path)))
        finally:
            database.close()
