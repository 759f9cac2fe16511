"""Files that a table names must lie in the data folder, truly and not through a link."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from fedimg.errors import ConfigError, DataError


def data_folder(path: str | None) -> Path:
    """`data.path` as an existing folder, links in its own path resolved. Raises ConfigError, DataError."""
    if path is None:
        raise ConfigError("data.path, the folder with the data", "null", "set data.path=FOLDER")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise DataError(
            "an existing folder at data.path", "none", "set data.path to the folder with the data"
        )
    return folder.resolve()


def inside(folder: Path, named: str, row: int) -> Path:
    """The file that row number `row` of a table names, relative to `folder`.

    Raises DataError: absolute, climbing (`..`), empty, with a NUL or backslash, or passing through a
    symbolic link anywhere below `folder`. The file itself need not exist. The message gives the
    row only, since names of files may be patient data.
    """
    relative = PurePosixPath(named)
    parts = relative.parts
    if not parts or relative.is_absolute() or ".." in parts or "\0" in named or "\\" in named:
        raise _outside(row)
    path = folder
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise _outside(row)
    return path


def regular_files(folder: Path, suffixes: Sequence[str] = ()) -> list[Path]:
    """Every regular file below `folder` (of the given endings), sorted; links and hidden names are left out."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place) / name
            wanted = not suffixes or name.lower().endswith(tuple(suffixes))
            if wanted and not name.startswith(".") and not path.is_symlink() and path.is_file():
                found.append(path)
    return sorted(found)


def _outside(row: int) -> DataError:
    return DataError(
        "paths relative to the data folder, without `..` or links",
        f"another one in row {row}",
        "copy the files into the data folder and name them from there",
    )
