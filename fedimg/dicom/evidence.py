"""What a receipt may say about a de-identification: counts and paths of tags, never values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fedimg.dicom.walk import WalkRecord

DETECTOR = "classical first pass over machine-written lines; no trained detector in this version"


@dataclass(frozen=True, slots=True)
class PixelEvidence:
    """What was done to pixels. Rectangles are (x0, y0, x1, y1) with both corners, kept regions.

    `blanked` counts pixels per frame that were filled. `burned_in` is what the input's header said.
    """

    layers: tuple[str, ...]
    route: str
    burned_in: str
    kept_regions: tuple[tuple[int, int, int, int], ...] = ()
    blanked: int = 0
    detector: str = DETECTOR


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
        """As a receipt holds it."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return fields | {"pixels": asdict(self.pixels)}


def evidence_of(record: WalkRecord, pixels: PixelEvidence) -> Evidence:
    actions: dict[str, int] = {}
    paths: dict[str, list[str]] = {}
    for (action, path), count in sorted(record.actions.items()):
        actions[action] = actions.get(action, 0) + count
        if action != "K":  # what stays unchanged is in the profile
            paths.setdefault(action, []).append(path)
    named = {action: tuple(found) for action, found in paths.items()}
    return Evidence(actions, named, record.private, record.unknown, record.unparsed, pixels)
