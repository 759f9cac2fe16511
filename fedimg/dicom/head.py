"""Heads: CT, MR and PET whose voxels show a face, and what a site decides about them (PS3.15 E.3.2).

The rule, fail-closed (`tables/head.json`): flagged where body part, anatomic region or any
description speaks of head, neck or whole body. Not flagged where the body part or region names
another place. Where neither is said: flagged if the field of view is that of a head (140–330 mm
both ways), if the object is 700 mm long or more, if it is PET, or if its size is unknown.

Nothing here removes a face: a face spans the slices of a series, and files are released one by
one. So 113102 (Clean Recognizable Visual Features) is never claimed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from pydicom.dataset import Dataset

from fedimg.dicom import routing
from fedimg.dicom.encoder import Element, text_of
from fedimg.dicom.geometry import group, numbers
from fedimg.errors import ConfigError

Policy = Literal["quarantine", "deface", "allow-local"]
Sign = Literal["anatomy", "description", "geometry"]

_MODALITY, _BODY_PART = 0x00080060, 0x00180015
_REGIONS = (0x00082218, 0x00082228)
_CODE_MEANING = 0x00080104
# StudyDescription, SeriesDescription, PerformedProcedureStepDescription, ProtocolName, RequestedProcedureDescription
_DESCRIPTIONS = (0x00081030, 0x0008103E, 0x00400254, 0x00181030, 0x00321060)
_SPACING, _THICKNESS, _ROWS, _COLUMNS, _FRAMES = 0x00280030, 0x00180050, 0x00280010, 0x00280011, 0x00280008


@dataclass(frozen=True, slots=True)
class _Rule:
    modalities: frozenset[str]
    head: re.Pattern[str]
    elsewhere: re.Pattern[str]
    field_mm: tuple[float, float]
    extent_mm: float


def policy_of(profile: str, chosen: Policy | None) -> Policy:
    """What a site does with heads: its choice, else the profile's own.

    Raises ConfigError for `deface`, which this software does not do.
    """
    if chosen == "deface":
        raise ConfigError(
            "a head policy that a file-by-file release can keep",
            "deface: a face spans a whole series, and voxels of single files cannot be cleaned of it safely",
            "choose quarantine, or allow-local where voxels stay at the site; deface series beforehand",
        )
    return chosen or ("allow-local" if profile == "train" else "quarantine")


def signs(dataset: Dataset, kept: Mapping[int, Element]) -> tuple[Sign, ...]:
    """Why an object is taken for a head; empty where it is not. Reads what was removed as well as what is kept."""
    rule = _rule()
    modality = text_of(kept, _MODALITY)
    if modality not in rule.modalities:
        return ()
    anatomy = " ".join((routing.first_text(dataset, _BODY_PART), text_of(kept, _BODY_PART), *_meanings(kept)))
    described = " ".join(routing.first_text(dataset, tag) for tag in _DESCRIPTIONS)
    found: list[Sign] = []
    if _says(rule.head, anatomy):
        found.append("anatomy")
    if _says(rule.head, described):
        found.append("description")
    if not found and not _says(rule.elsewhere, anatomy) and (modality == "PT" or _head_sized(dataset, kept)):
        found.append("geometry")
    return tuple(found)


def _says(pattern: re.Pattern[str], words: str) -> bool:
    return pattern.search(words.upper().replace("_", " ")) is not None


@cache
def _rule() -> _Rule:
    text = resources.files("fedimg.dicom").joinpath("tables", "head.json").read_text(encoding="utf-8")
    data = json.loads(text)
    head, elsewhere = (
        re.compile(rf"(?<![^\W\d_])(?:{'|'.join(data[name])})(?![^\W\d_])") for name in ("head", "elsewhere")
    )
    low, high = data["field_of_view_mm"]
    return _Rule(frozenset(data["modalities"]), head, elsewhere, (low, high), data["extent_mm"])


def _meanings(kept: Mapping[int, Element]) -> Iterator[str]:
    for tag in _REGIONS:
        items = kept[tag].value if tag in kept else ()
        for item in items if isinstance(items, list) else ():
            for child in item:
                if child.tag == _CODE_MEANING and isinstance(child.value, bytes):
                    yield child.value.decode("ascii", "replace")


def _head_sized(dataset: Dataset, kept: Mapping[int, Element]) -> bool:
    rule = _rule()
    frames = text_of(kept, _FRAMES)
    count = int(frames) if frames.isdigit() else 1
    spacing, step = _numbers(kept, _SPACING), _numbers(kept, _THICKNESS)
    if count > 1 and len(spacing) < 2:
        measures = group(dataset, "PixelMeasuresSequence", 0)
        if measures is not None:
            spacing = list(numbers(measures, "PixelSpacing", 2) or ())
            step = list(numbers(measures, "SliceThickness", 1) or ())
    size = [int.from_bytes(_raw(kept, tag), "little") for tag in (_ROWS, _COLUMNS)]
    if len(spacing) < 2 or min(spacing) <= 0:
        return True
    if step and count * step[0] >= rule.extent_mm:
        return True
    low, high = rule.field_mm
    return all(low <= pixels * mm <= high for pixels, mm in zip(size, spacing, strict=False))


def _numbers(kept: Mapping[int, Element], tag: int) -> list[float]:
    try:
        return [float(part) for part in text_of(kept, tag).split("\\") if part]
    except ValueError:
        return []


def _raw(kept: Mapping[int, Element], tag: int) -> bytes:
    value = kept[tag].value if tag in kept else b""
    return value if isinstance(value, bytes) else b""
