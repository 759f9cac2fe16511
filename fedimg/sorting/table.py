"""A folder → a table with one row a file, which the sources `dicom`, `nifti` and `images` read as their labels.

The table is for the site alone: its paths are the source's own. Whatever could not stand in it (links, names that a
table cannot hold, files that a source does not see) is told by its number in the walk and its reason, in a table of
its own.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedimg.errors import ConfigError, DataError
from fedimg.intake.folder import entries_of
from fedimg.sorting.answer import UNKNOWN, Answer, Asked
from fedimg.sorting.looking import Sorter
from fedimg.sources.tabular import read_table
from fedimg.values import Quarantine

COLUMNS = ("path", "modality", "body_part", "view", "decided_by", "confidence", "reason")
CARRIED = ("patient_id", "label", "site", "split")
"""Columns of an earlier table of labels that go along, by path."""

_TABLES = ("labels.csv", "manifest.csv")


@dataclass(frozen=True, slots=True)
class Listed:
    """One file of the source. `relative` is None where a table cannot hold its name: then there is only a reason."""

    position: int
    path: Path
    relative: str | None
    answer: Answer


@dataclass(frozen=True)
class Labels:
    """What fills the table's label: one of the answers, or an earlier table; only in rows that `only` lets through.

    Attributes:
        of: the question whose answer is the label, or None.
        earlier: rows of an earlier table by path.
        only: question → the one value that may pass.
    """

    of: Asked | None = None
    earlier: Mapping[str, Mapping[str, str]] | None = None
    only: Mapping[Asked, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.of is not None and self.earlier is not None:
            raise ConfigError("--label or --labels", "both", "labels come from one place")

    @property
    def columns(self) -> tuple[str, ...]:
        if self.earlier is not None:
            carried = {name for row in self.earlier.values() for name in row}
            return tuple(name for name in CARRIED if name in carried)
        return ("label",) if self.of is not None or self.only else ()

    def cells(self, listed: Listed) -> dict[str, str]:
        """The row's further cells. A label that is left empty keeps the file out of a training, with a reason."""
        said = values_of(listed.answer)
        passes = all(said[question] == value for question, value in self.only.items())
        row = dict((self.earlier or {}).get(listed.relative or "", {}))
        if self.of is not None:
            row["label"] = said[self.of]
        if not passes or row.get("label") == UNKNOWN:
            row["label"] = ""
        return row


def earlier_table(path: Path) -> dict[str, dict[str, str]]:
    """Rows of a table of labels by path. Raises DataError: no such table, no column path, a path twice."""
    table = read_table(path, ("path", *CARRIED), ("path", "label"))
    rows: dict[str, dict[str, str]] = {}
    for number, row in enumerate(table.rows, start=2):
        cells = dict(row)
        if rows.setdefault(cells.pop("path"), cells) is not cells:
            raise DataError("one row for each file", f"another in row {number}", "remove one of the two")
    return rows


def values_of(answer: Answer) -> dict[Asked, str]:
    return {
        Asked.MODALITY: answer.modality.value,
        Asked.BODY_PART: answer.body_part.value,
        Asked.VIEW: answer.view.value,
    }


def sort_folder(
    source: Path, sorter: Sorter, progress: Callable[[int, int], None] | None = None
) -> Iterator[Listed]:
    """Every entry below `source`, in a stable order. Links are named and never followed.

    Raises DataError where there is no such folder.
    """
    if not source.is_dir():
        raise DataError("a folder of image files", "none there", "name the folder to sort")
    entries = list(entries_of(source))
    for position, path in enumerate(entries):
        relative = _cell_of(path, source)
        if path.is_symlink():
            yield Listed(position, path, None, Answer(reason=str(Quarantine.LINK)))
        elif not path.is_file():
            yield Listed(position, path, None, Answer(reason=str(Quarantine.NOT_AN_IMAGE)))
        elif path.name not in _TABLES or path.parent != source:
            yield Listed(position, path, relative, sorter.sort(path))
        if progress is not None:
            progress(position + 1, len(entries))


def _cell_of(path: Path, source: Path) -> str | None:
    """The path as a source finds it again, or None: hidden files are seen by none, and cells lose their blanks."""
    relative = path.relative_to(source)
    text = relative.as_posix()
    hidden = any(part.startswith(".") for part in relative.parts)
    holds = text.isprintable() and text == text.strip() and "\\" not in text
    return text if holds and not hidden else None


def table_of(listed: Sequence[Listed], labels: Labels) -> str:
    """The table as CSV text, of the files whose names it can hold."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(
        stream, (*COLUMNS, *labels.columns), restval="", extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    for entry in listed:
        if entry.relative is not None:
            writer.writerow({**_cells(entry.answer), "path": entry.relative, **labels.cells(entry)})
    return stream.getvalue()


def left_out(listed: Sequence[Listed]) -> str:
    """What no table of labels can name, as CSV text: positions in the walk, and reasons."""
    rows = [f"{entry.position},{entry.answer.reason}\n" for entry in listed if entry.relative is None]
    return "position,reason\n" + "".join(rows)


def _cells(answer: Answer) -> dict[str, str]:
    said = {str(question): value for question, value in values_of(answer).items()}
    confidence = "" if answer.confidence is None else f"{answer.confidence:.4f}"
    return {**said, "decided_by": str(answer.decided_by), "confidence": confidence, "reason": answer.reason}
