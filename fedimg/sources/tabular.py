"""CSV files pass an allow-list of columns: anything else is dropped while reading, and counted.

A hospital's export often holds more than was asked for: names, addresses, reports. What is not on
the list never becomes a Python object that outlives its row. Messages name rows and the columns of
the allow-list; a cell, or the name of a column outside the list, may be patient data.
"""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedimg.errors import DataError

_LARGEST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a CSV, restricted to allowed columns.

    Attributes:
        columns: the allowed ones that the file has.
        rows: cell text without surrounding blanks, by column.
        dropped_columns: how many others the file has.
    """

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    dropped_columns: int


def read_table(path: Path, allowed: Sequence[str], required: Sequence[str]) -> Table:
    """Read a CSV (UTF-8, comma, header in the first line; case of the header does not matter).

    Raises DataError: absent, not a regular file, over 256 MiB, not UTF-8, not CSV; no row; a column of
    `required` missing; an allowed column twice; a row longer or shorter than the header.
    """
    lines = csv.reader(_text(path).splitlines(keepends=True), strict=True)
    try:
        header = [name.strip().lower() for name in next(lines, [])]
        where = {name: header.index(name) for name in allowed if name in header}
        _check_header(header, where, required)
        rows = []
        for number, cells in enumerate(lines, start=2):
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise _refuse(f"{len(header)} cells in every row", f"{len(cells)} in row {number}")
            rows.append({name: cells[place].strip() for name, place in where.items()})
    except csv.Error:
        raise _refuse("a well-formed CSV file", f"a quoting error in line {lines.line_num}") from None
    if not rows:
        raise _refuse("at least one row below the header", "none")
    return Table(tuple(where), tuple(rows), len(header) - len(where))


def _check_header(header: Sequence[str], where: Mapping[str, int], required: Sequence[str]) -> None:
    missing = [name for name in required if name not in where]
    if missing:
        raise _refuse(f"the columns {', '.join(required)}", f"no column {', '.join(missing)}")
    twice = [name for name in where if header.count(name) > 1]
    if twice:
        raise _refuse("each column once", f"{', '.join(twice)} more than once")


def _text(path: Path) -> str:
    try:
        # O_NONBLOCK: a FIFO under this name must not hang the run.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_BYTES:
                raise _refuse(f"a regular file of at most {_LARGEST_BYTES >> 20} MiB", "something else")
            return file.read(_LARGEST_BYTES + 1).decode("utf-8-sig")
    except OSError as error:
        raise DataError(
            "a readable CSV file at data.labels, by default labels.csv in data.path",
            error.strerror or "an error",
            "write it, or name another with data.labels=FILE (relative to the working folder)",
        ) from None
    except UnicodeDecodeError:
        raise _refuse("UTF-8 text", "other bytes") from None


def _refuse(expected: str, found: str) -> DataError:
    return DataError(f"a table with {expected}", found, "correct the CSV file and start again")
