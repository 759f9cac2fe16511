"""The mask that travels along: areas in a receipt's evidence → True where pixels were filled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedimg.values import Area

Mask = npt.NDArray[np.bool_]


def mask(areas: Iterable[Area], shape: tuple[int, int, int]) -> Mask:
    """True where `areas` cover an image of (frames, rows, columns); what lies beyond it covers nothing."""
    covered = np.zeros(shape, np.bool_)
    for frame, x0, y0, x1, y1 in areas:
        frames = slice(None) if frame is None else slice(frame, frame + 1)
        covered[frames, y0 : y1 + 1, x0 : x1 + 1] = True
    return covered


class Cover:
    """What areas cover, frame by frame: a cine's whole mask need not fit into memory.

    Args:
        shape: (frames, rows, columns).

    Attributes:
        common: (rows, columns) covered on every frame. single: what is covered on one frame only, by frame.
    """

    def __init__(self, areas: Iterable[Area], shape: tuple[int, int, int]) -> None:
        everywhere: list[Area] = []
        self.single: dict[int, list[Area]] = {}
        for area in areas:
            if area[0] is None:
                everywhere.append(area)
            else:
                self.single.setdefault(area[0], []).append((None, *area[1:]))
        self._shape = shape
        self.common: Mask = mask(everywhere, (1, *shape[1:]))[0]

    def frame(self, index: int) -> Mask:
        """(rows, columns) of one frame; not to be written to."""
        single = self.single.get(index)
        if single is None:
            return self.common
        own: Mask = mask(single, (1, *self._shape[1:]))[0]
        return np.logical_or(self.common, own)

    def holds(self, area: Area) -> bool:
        """Whether every pixel of an area is covered."""
        frame, x0, y0, x1, y1 = area
        part = (slice(y0, y1 + 1), slice(x0, x1 + 1))
        if self.common[part].all():
            return True
        frames = range(self._shape[0]) if frame is None else (frame,)
        return all(bool(self.frame(index)[part].all()) for index in frames)

    def pixels(self, without: Cover | None = None) -> int:
        """How many pixels of all frames are covered, those that `without` covers left out."""
        apart = set(self.single) | (set(without.single) if without is not None else set())
        kept = self.common if without is None else self.common & ~without.common
        total = int(kept.sum()) * (self._shape[0] - len(apart))
        for index in apart:
            covered = self.frame(index)
            total += int((covered if without is None else covered & ~without.frame(index)).sum())
        return total


def areas_of(evidence: Mapping[str, Any]) -> tuple[Area, ...]:
    """The masked areas that a receipt's evidence (or its "pixels") tells of."""
    pixels = evidence.get("pixels", evidence)
    return tuple((frame, x0, y0, x1, y1) for frame, x0, y0, x1, y1 in pixels.get("masked", ()))


def mask_of(evidence: Mapping[str, Any], shape: tuple[int, int, int]) -> Mask | None:
    """The mask of a released file, frames in stored order; None where nothing was masked.

    Args:
        evidence: `Receipt.evidence`, or its "pixels". shape: (frames, rows, columns) of the image.
    """
    areas = areas_of(evidence)
    return mask(areas, shape) if areas else None
