"""Where something lies, in millimetres and in words, from the geometry of the images alone: no atlas, no model.

Sides and thirds are those of what the images show, not of an organ: "upper third" is the upper third of the stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedimg.dicom.original import Original
from fedimg.imaging.measurements.lesion import longest_diameters_mm
from fedimg.imaging.resampling import closest_axes
from fedimg.imaging.way_back import largest_part
from fedimg.prediction.examples import Stack

Direction = tuple[int, int]
"""(patient axis 0 = left, 1 = posterior, 2 = superior; +1 or −1), as `resampling.Axis`."""
_LETTERS: dict[str, Direction] = {
    "L": (0, 1),
    "R": (0, -1),
    "P": (1, 1),
    "A": (1, -1),
    "H": (2, 1),
    "F": (2, -1),
}
_THIRDS = {
    1: ("front third", "middle third", "back third"),
    2: ("lower third", "middle third", "upper third"),
}
_OF_PICTURE = {
    1: ("top third of the picture", "middle of the picture", "bottom third of the picture"),
    2: ("left third of the picture", "centre", "right third of the picture"),
}
_MIDLINE = 0.05
"""To either side of the middle, as a share of the width: nearer to it no side is said."""
_LEAST_VOXELS = 3  # along an axis, for thirds of it


@dataclass(frozen=True, slots=True)
class Place:
    """Attributes: at: (d, h, w) on the grid, not whole. slice: the one that shows it best. size_mm, centre_mm: if known."""

    at: tuple[float, float, float]
    slice: int
    size_mm: float | None
    centre_mm: tuple[float, float, float] | None


def of_mask(mask_DHW: npt.NDArray[np.bool_], stack: Stack, originals: Sequence[Original]) -> Place:
    """Of the largest part of a mask that is not empty."""
    part = largest_part(mask_DHW)
    shown = int(part.sum(axis=(1, 2)).argmax())
    d, h, w = (float(axis.mean()) for axis in np.nonzero(part))
    size = longest_diameters_mm(part, stack.image.spacing_mm)[0] if _measured(stack, originals) else None
    return Place((d, h, w), shown, size, centre_mm((d, h, w), stack, originals))


def of_point(
    at: tuple[float, float, float], stack: Stack, originals: Sequence[Original], size_px: float | None = None
) -> Place:
    """Of a point on the grid; `size_px`: of something around it, in pixels of the grid's rows."""
    size = None
    if size_px is not None and _measured(stack, originals):
        size = size_px * stack.image.spacing_mm[1]
    shown = min(max(round(at[0]), 0), len(stack.planes) - 1)
    return Place(at, shown, size, centre_mm(at, stack, originals))


def centre_mm(
    at: tuple[float, float, float], stack: Stack, originals: Sequence[Original]
) -> tuple[float, float, float] | None:
    """Patient coordinates; None where the files name no frame of reference, and so no place that others could find."""
    if not stack.image.frame or not originals[stack.planes[0][0]].placed:
        return None
    d, h, w = at
    x, y, z, _ = (float(value) for value in stack.image.affine_lps_mm @ np.array([w, h, d, 1.0]))
    return x, y, z


def _measured(stack: Stack, originals: Sequence[Original]) -> bool:
    return all(originals[number].measured for number, _ in stack.planes)


def words(place: Place, stack: Stack, originals: Sequence[Original]) -> str:
    """Side, thirds and slice: "right side, upper third, back third, slice 12 of 30"."""
    shape = stack.image.pixels_DHW.shape
    known = _directions(stack, originals)
    said = dict[int, str]()
    for axis, (at, length) in enumerate(zip(place.at, shape, strict=True)):
        share = (at + 0.5) / length
        direction = known[axis]
        if direction is None:
            if axis in _OF_PICTURE and None in known[1:]:
                said[3 + axis] = _third(share, _OF_PICTURE[axis])
            continue
        patient, sign = direction
        along = share if sign > 0 else 1 - share
        if patient == 0:
            said[0] = (
                "midline" if abs(along - 0.5) < _MIDLINE else "left side" if along > 0.5 else "right side"
            )
        elif length >= _LEAST_VOXELS:
            said[3 - patient] = _third(along, _THIRDS[patient])
    parts = [said[key] for key in sorted(said)]
    parts += [said for said in (slice_words(place.slice, stack, originals),) if said]
    return ", ".join(parts)


def slice_words(at: int, stack: Stack, originals: Sequence[Original]) -> str:
    """As `words`: "slice 12 of 30"; "" of a single image."""
    count = len(stack.planes)
    return f"slice {_number(at, stack, originals)} of {count}" if count > 1 else ""


def _third(share: float, names: tuple[str, str, str]) -> str:
    return names[min(2, max(0, int(share * 3)))]


def _directions(stack: Stack, originals: Sequence[Original]) -> tuple[Direction | None, ...]:
    """Of the grid's axes (d, h, w); of pictures without a place what their header says of rows and columns."""
    first = originals[stack.planes[0][0]]
    if first.placed:
        return closest_axes(stack.image.affine_lps_mm)
    rows, columns = first.directions
    return None, _LETTERS.get(columns), _LETTERS.get(rows)


def _number(at: int, stack: Stack, originals: Sequence[Original]) -> int:
    """As a viewer counts: InstanceNumber where the files have 1 to n, else the place in the stack."""
    numbers = [originals[number].number for number, _ in stack.planes]
    if sorted(n or 0 for n in numbers) == list(range(1, len(numbers) + 1)):
        return numbers[at] or 0
    return at + 1
