"""What a receipt may say about a de-identification: counts and paths of tags, never values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedimg.dicom.notes import WalkRecord
from fedimg.values import Area


@dataclass(frozen=True, slots=True)
class HeadEvidence:
    """Attributes: signs: by which it was taken for a head. policy: what the site had chosen for heads."""

    signs: tuple[str, ...] = ()
    policy: str = "allow-local"


@dataclass(frozen=True, slots=True)
class PixelEvidence:
    """What was done to pixels.

    Attributes:
        layers: that ran. route: of L1. burned_in: what the input's header said.
        kept_regions: of ultrasound, (x0, y0, x1, y1), corners included.
        masked: every area that was filled; `blanking.mask_of` makes the mask of it.
        share: of the pixels, regions known beforehand aside, that were masked.
        detector: version of the text detector; empty where it did not run. boxes: digest of the
            table of device boxes.
    """

    layers: tuple[str, ...]
    route: str
    burned_in: str
    kept_regions: tuple[tuple[int, int, int, int], ...] = ()
    masked: tuple[Area, ...] = ()
    share: float = 0.0
    detector: str = ""
    boxes: str = ""
    head: HeadEvidence = HeadEvidence()


@dataclass(frozen=True, slots=True)
class Evidence:
    """Counts and paths of tags, never values: what a receipt may hold."""

    actions: Mapping[str, int]
    paths: Mapping[str, tuple[str, ...]]
    private: int
    unknown: int
    unparsed: int
    pixels: PixelEvidence

    def to_mapping(self) -> dict[str, Any]:
        """As a receipt holds it; not copied."""
        pixels = _fields(self.pixels) | {"head": _fields(self.pixels.head)}
        return _fields(self) | {"pixels": pixels}


def _fields(of: Evidence | PixelEvidence | HeadEvidence) -> dict[str, Any]:
    return {name: getattr(of, name) for name in of.__dataclass_fields__}


def evidence_of(record: WalkRecord, pixels: PixelEvidence) -> Evidence:
    actions: dict[str, int] = {}
    paths: dict[str, list[str]] = {}
    for (action, path), count in sorted(record.actions.items()):
        actions[action] = actions.get(action, 0) + count
        if action != "K":  # what stays unchanged is in the profile
            paths.setdefault(action, []).append(path)
    named = {action: tuple(found) for action, found in paths.items()}
    return Evidence(actions, named, record.private, record.unknown, record.unparsed, pixels)
