"""Pixel layer L2: places known beforehand. Ultrasound keeps its regions; devices that draw text say where.

Ultrasound: outside the regions of (0018,6011) an image is filled (PS3.3 C.8.5.5). Devices: a table
of rectangles by manufacturer, model and size, shipped as data, which a site extends by its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from fedimg.dicom.encoder import Element
from fedimg.dicom.graphics import Rectangle
from fedimg.errors import ConfigError

_REGIONS = 0x00186011
_LOCATION = (0x00186018, 0x0018601A, 0x0018601C, 0x0018601E)
_FIELDS = {"modality", "manufacturer", "model", "rows", "columns", "mask", "source"}


@dataclass(frozen=True, slots=True)
class DeviceBoxes:
    """What one kind of device draws, on images of one size.

    Attributes:
        manufacturer, model: compared without case and surrounding space; None matches any model.
        mask: rectangles to fill, corners included. source: where this is known from.
    """

    modality: str
    manufacturer: str
    model: str | None
    rows: int
    columns: int
    mask: tuple[Rectangle, ...]
    source: str


@dataclass(frozen=True, slots=True)
class BoxTable:
    """Attributes: edition, digest: for the receipt. boxes: of all files together."""

    edition: str
    digest: str
    boxes: tuple[DeviceBoxes, ...]

    def matching(
        self, modality: str, manufacturer: str, model: str, rows: int, columns: int
    ) -> list[Rectangle]:
        """The rectangles to fill in an image of this origin and size."""
        origin = (modality.strip().upper(), manufacturer.strip().upper(), rows, columns)
        found: list[Rectangle] = []
        for boxes in self.boxes:
            same = (boxes.modality.upper(), boxes.manufacturer.upper(), boxes.rows, boxes.columns) == origin
            if same and (boxes.model is None or boxes.model.upper() == model.strip().upper()):
                found += boxes.mask
        return found


@lru_cache(maxsize=8)
def load_boxes(site_file: Path | None = None) -> BoxTable:
    """The shipped table, and a site's own beside it. Raises ConfigError for one that is malformed."""
    shipped = resources.files("fedimg.dicom").joinpath("tables", "vendor_boxes.json").read_bytes()
    texts = [shipped]
    if site_file is not None:
        try:
            texts.append(site_file.read_bytes())
        except OSError as error:
            raise ConfigError(
                "a table of device boxes", f"a file that does not open ({error.strerror})", "see its path"
            ) from None
    editions, boxes = [], []
    for text in texts:
        edition, found = _table(text)
        editions.append(edition)
        boxes += found
    return BoxTable(" + ".join(editions), hashlib.sha256(b"\0".join(texts)).hexdigest(), tuple(boxes))


def _table(text: bytes) -> tuple[str, list[DeviceBoxes]]:
    try:
        data = json.loads(text)
        return str(data["edition"]), [_row(row) for row in data["boxes"]]
    except (ValueError, KeyError, TypeError) as error:
        found = f"one that is not ({type(error).__name__})"
        remedy = 'write {"edition": …, "boxes": [{"modality", "manufacturer", "model", "rows", "columns", "mask", "source"}]}'
        raise ConfigError("a table of device boxes in JSON", found, remedy) from None


def _row(row: Mapping[str, Any]) -> DeviceBoxes:
    if set(row) != _FIELDS:
        raise ValueError("other fields")
    rows, columns = int(row["rows"]), int(row["columns"])
    mask = tuple((int(x0), int(y0), int(x1), int(y1)) for x0, y0, x1, y1 in row["mask"])
    if not all(0 <= x0 <= x1 < columns and 0 <= y0 <= y1 < rows for x0, y0, x1, y1 in mask):
        raise ValueError("a rectangle beyond the image")
    model = None if row["model"] is None else str(row["model"])
    return DeviceBoxes(
        str(row["modality"]), str(row["manufacturer"]), model, rows, columns, mask, str(row["source"])
    )


def ultrasound(kept: Mapping[int, Element], rows: int, columns: int) -> list[Rectangle]:
    """The ultrasound regions as (x0, y0, x1, y1), corners included, cut to the image; empty ones are left out."""
    element = kept.get(_REGIONS)
    found: list[Rectangle] = []
    for item in element.value if element is not None and isinstance(element.value, list) else ():
        corners = list(_corners(item))
        if len(corners) != len(_LOCATION):
            continue
        x0, y0, x1, y1 = corners
        x1, y1 = min(x1, columns - 1), min(y1, rows - 1)
        if x0 < x1 and y0 < y1:
            found.append((x0, y0, x1, y1))
    return found


def _corners(item: Iterable[Element]) -> Iterable[int]:
    numbers = {child.tag: child.value for child in item}
    for tag in _LOCATION:
        value = numbers.get(tag)
        if isinstance(value, bytes) and len(value) == 4:
            yield int.from_bytes(value, "little")
