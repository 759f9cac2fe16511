"""What a table says of an image: its class or findings, a number, and what is drawn over it: masks or boxes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedimg.errors import DataError
from fedimg.imaging.config import MODALITY
from fedimg.sources.config import DataConfig
from fedimg.sources.paths import inside
from fedimg.subgroups import ATTRIBUTES, Codes, age_code, maker_code, sex_code
from fedimg.values import NO_CLASS, Box, Drawn

_LONGEST = 64  # characters of a number
_DECIMAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", re.ASCII)
_BOX = re.compile(r"((?:\d{1,6}[ ,]+){5}\d{1,6}|(?:\d{1,6}[ ,]+){3}\d{1,6})(?:[ ,]+(.+))?")


def masks_of(folder: Path, row: Mapping[str, str], number: int) -> list[Path]:
    """Files that the column `mask` names, whether or not anything is learnt of them: they are no images."""
    return [inside(folder, part.strip(), number) for part in row.get("mask", "").split(";") if part.strip()]


def drawn_in_row(folder: Path, row: Mapping[str, str], number: int, config: DataConfig) -> Drawn | None:
    """By `data.voxels`; None where it asks for nothing, or nothing is drawn over this image.

    `mask`: a file, or several with `;` between. `boxes`: x0 y0 x1 y1 in pixels, half open, or x0 y0 z0 x1 y1 z1, and
    then a class or nothing, with `;` between.
    Raises DataError: see `paths.inside`; other words in `boxes`. The cell is not quoted.
    """
    cell = row.get({"masks": "mask", "boxes": "boxes"}.get(config.voxels, ""), "")
    parts = [part.strip() for part in cell.split(";") if part.strip()]
    if not parts:
        return None
    if config.voxels == "masks":
        return Drawn(masks=tuple(inside(folder, part, number) for part in parts), classes=len(config.classes))
    boxes, kinds = zip(*(_box(part, number, config.classes) for part in parts), strict=True)
    return Drawn(boxes=boxes, classes=len(config.classes), kinds=kinds if any(kinds) else ())


@dataclass(frozen=True, slots=True)
class Said:
    """Of one row: see `SourceItem`."""

    label: int | None
    drawn: Drawn | None = None
    value: float | None = None
    features: tuple[tuple[str, float], ...] = ()
    modality: str = ""


def columns(config: DataConfig) -> tuple[str, ...]:
    """What may stand in a table about what is to be learnt, beside it, and about the patient's groups."""
    own = (*((config.value,) if config.value else ()), *_beside(config), *config.subgroups.values())
    return tuple(dict.fromkeys(("label", "mask", "boxes", *own)))


def groups_of(row: Mapping[str, str], config: DataConfig) -> Codes:
    """By `data.subgroups`; a cell that is none of the closed lists' words is unknown, and goes no further."""
    sex, age, maker = (row.get(config.subgroups.get(name, ""), "") for name in ATTRIBUTES)
    return sex_code(sex), age_code(age), maker_code(maker)


def needed(config: DataConfig) -> tuple[str, ...]:
    """Of those what must: a label, unless something else says what an image shows; together all that is asked for."""
    beside = (*_beside(config), *config.subgroups.values())
    if config.together:
        drawn = {"masks": ("mask",), "boxes": ("boxes",)}.get(config.voxels, ())
        return ("label", *drawn, *((config.value,) if config.value else ()), *beside)
    if config.value is not None:
        return (config.value, *beside)
    return beside if config.voxels != "none" else ("label", *beside)


def _beside(config: DataConfig) -> tuple[str, ...]:
    """Columns that stand beside an image whatever is learnt of it."""
    return (*config.features, *((config.modality,) if config.modality else ()))


def said_of(folder: Path, row: Mapping[str, str], number: int, config: DataConfig) -> Said:
    """Without a column of labels an image's class is whether anything is drawn over it. Beside a number it is 0, and
    a column of labels is not read, but for `data.together`.

    Raises DataError, which gives the row, and no cell of it.
    """
    learnt = _learnt(folder, row, number, config)
    called = row.get(config.modality or "", "").upper()
    return replace(
        learnt,
        features=features_of(row, config.features),
        modality=called if MODALITY.fullmatch(called) else "",
    )


def features_of(
    row: Mapping[str, str], bounds: Mapping[str, tuple[float, float]]
) -> tuple[tuple[str, float], ...]:
    """Each feature that its cell has, by name, within its public bounds; a cell with anything else is a missing one."""
    found = []
    for name, (low, high) in sorted(bounds.items()):
        cell = row.get(name, "")
        value = float(cell) if len(cell) <= _LONGEST and _DECIMAL.fullmatch(cell) else math.nan
        if math.isfinite(value):
            found.append((name, min(max(value, low), high)))
    return tuple(found)


def _learnt(folder: Path, row: Mapping[str, str], number: int, config: DataConfig) -> Said:
    drawn = drawn_in_row(folder, row, number, config)
    if config.together:
        return _together(row, number, config, drawn)
    if config.value is not None:
        return Said(0, drawn, number_of(row[config.value], number))
    if "label" not in row:
        return Said(int(drawn is not None), drawn)
    if config.several:
        return Said(_several(row["label"], config.classes, number), drawn)
    label = class_index(row["label"], config.classes, number)
    return Said(label, drawn if drawn is None else replace(drawn, label=label))


def or_no_class(said: Said) -> Said:
    """What is said of an image whose class is not: without anything else it is unknown, and the intake holds it back."""
    if said.label is not None or (said.drawn is None and said.value is None):
        return said
    return replace(said, label=NO_CLASS)


def _together(row: Mapping[str, str], number: int, config: DataConfig, drawn: Drawn | None) -> Said:
    """Each cell by itself. An empty one of findings says that there are none."""
    value = number_of(row.get(config.value, ""), number) if config.value is not None else None
    cell = row.get("label", "")
    if config.several:
        return Said(_several(cell, config.classes, number), drawn, value)
    label = class_index(cell, config.classes, number)
    outlined = drawn if drawn is None else replace(drawn, label=label)
    return or_no_class(Said(label, outlined, value))


def class_index(cell: str, classes: Sequence[str], row: int) -> int | None:
    """A class by name or by index; None for an empty cell (the intake quarantines the study).

    Raises DataError for anything else, giving the row and the classes, not the cell.
    """
    if not cell:
        return None
    if cell in classes:
        return list(classes).index(cell)
    if re.fullmatch(r"[0-9]{1,4}", cell) and int(cell) < len(classes):
        return int(cell)
    expected = f"one of the classes {', '.join(classes)}, or its index"
    raise DataError(
        f"a label that is {expected}", f"another one in row {row}", "correct it, or set data.classes"
    )


def _several(cell: str, classes: Sequence[str], row: int) -> int:
    """Σ 2^k over the findings named; an empty cell says that there are none."""
    named = {class_index(part.strip(), classes, row) for part in cell.split(";") if part.strip()}
    return sum(1 << k for k in named if k is not None)


def number_of(cell: str, row: int) -> float | None:
    """None for an empty cell. Raises DataError for what is no number."""
    if not cell:
        return None
    try:
        found = float(cell)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise DataError(
            "a number in each cell of data.value and data.columns",
            f"other text in row {row}",
            "correct the table",
        )
    return found


def _box(text: str, number: int, classes: Sequence[str]) -> tuple[Box, int]:
    """A box and its class, 0 where it says none."""
    match = _BOX.fullmatch(" ".join(text.split()))
    if match is None:
        found = f"other text in row {number}"
        expected = "boxes as x0 y0 x1 y1 or x0 y0 z0 x1 y1 z1 in whole pixels, then a class, with ; between"
        raise DataError(expected, found, "correct the table")
    kind = class_index(match[2], classes, number) if match[2] else None
    if kind == 0:
        expected = f"a box's class among {', '.join(classes[1:])}"
        raise DataError(expected, f"the first class, which has no box, in row {number}", "correct the table")
    return tuple(int(part) for part in match[1].replace(",", " ").split()), kind or 0
