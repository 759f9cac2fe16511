"""Where the pixels lie in the patient: PS3.3 C.7.6.2 (plane), C.7.6.16.2 (functional groups), C.8.5.5 (ultrasound)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

Vector = npt.NDArray[np.float64]

# The distance between centres on the detector or film, where none in the patient is known.
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


@dataclass(frozen=True, slots=True)
class Geometry:
    """Affine (w, h, d) → patient millimetres (LPS), spacing (D, H, W) in mm, and the frames' spatial order.

    placed: whether the file says where that is; else the origin is 0.
    measured: whether it says how far pixels are apart; else they count as 1 mm.
    """

    affine_lps_mm: Vector
    spacing_mm: tuple[float, float, float]
    order: npt.NDArray[np.int64]
    placed: bool = False
    measured: bool = False


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """An attribute as exactly `count` finite floats, else None: bad geometry must not stop an image."""
    try:
        value = dataset.get(keyword)
        items = list(value) if isinstance(value, list) or hasattr(value, "__iter__") else [value]
        found = tuple(float(item) for item in items)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if len(found) == count and all(math.isfinite(v) for v in found) else None


def group(dataset: Dataset, macro: str, frame: int) -> Dataset | None:
    """A functional group macro of a frame: its own, else the shared one, else None."""
    for keyword, index in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        items = dataset.get(keyword) or []
        if index < len(items) and items[index].get(macro):
            found: Dataset = items[index].get(macro)[0]
            return found
    return None


def geometry(dataset: Dataset, frames: int) -> Geometry:
    """Geometry with fallbacks: unknown spacing is 1 mm, unknown orientation the axial plane, origin 0.

    Frames with distinct positions along the normal are put into spatial order; others keep theirs.
    """
    plane = group(dataset, "PlaneOrientationSequence", 0) or dataset
    row, column = _orientation(plane)
    normal = np.cross(row, column)
    (height, width), measured = _pixel_spacing(dataset)
    origins = _origins(dataset, frames)
    depth = _slice_spacing(dataset)
    order = np.arange(frames)
    if origins is not None and frames > 1:
        along = origins @ normal
        ranked = np.argsort(along, kind="stable")
        steps = np.diff(along[ranked])
        if (steps > 1e-3).all():
            order, depth = ranked.astype(np.int64), float(np.median(steps))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = row * width, column * height, normal * depth
    if origins is not None:
        affine[:3, 3] = origins[order[0]]
    return Geometry(affine, (depth, height, width), order, origins is not None, measured)


def _orientation(plane: Dataset) -> tuple[Vector, Vector]:
    values = numbers(plane, "ImageOrientationPatient", 6)
    if values is not None:
        row, column = np.array(values[:3]), np.array(values[3:])
        lengths = np.linalg.norm(row), np.linalg.norm(column)
        if abs(lengths[0] - 1) < 0.05 and abs(lengths[1] - 1) < 0.05 and abs(row @ column) < 0.05:
            return row / lengths[0], column / lengths[1]
    return np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])


def _positive(values: tuple[float, ...] | None) -> tuple[float, float] | None:
    """Spacings between a micrometre and a metre; others are typing errors."""
    if values is None or not all(1e-3 <= v <= 1e3 for v in values):
        return None
    return values[0], values[1]


def _pixel_spacing(dataset: Dataset) -> tuple[tuple[float, float], bool]:
    """(between rows, between columns) in mm, and whether the file says it."""
    measures = group(dataset, "PixelMeasuresSequence", 0)
    candidates = [numbers(measures, "PixelSpacing", 2)] if measures is not None else []
    candidates += [numbers(dataset, keyword, 2) for keyword in _SPACINGS]
    for candidate in candidates:
        if (spacing := _positive(candidate)) is not None:
            return spacing, True
    regions = dataset.get("SequenceOfUltrasoundRegions") or []
    if regions and regions[0].get("PhysicalUnitsXDirection") == 3 == regions[0].get(
        "PhysicalUnitsYDirection"
    ):
        deltas = numbers(regions[0], "PhysicalDeltaY", 1), numbers(regions[0], "PhysicalDeltaX", 1)
        if deltas[0] is not None and deltas[1] is not None:  # centimetres
            spacing = _positive((abs(deltas[0][0]) * 10, abs(deltas[1][0]) * 10))
            if spacing is not None:
                return spacing, True
    aspect = _positive(numbers(dataset, "PixelAspectRatio", 2))
    return ((aspect[0] / aspect[1], 1.0) if aspect is not None else (1.0, 1.0)), False


def _slice_spacing(dataset: Dataset) -> float:
    measures = group(dataset, "PixelMeasuresSequence", 0)
    for source in (measures, dataset):
        for keyword in ("SpacingBetweenSlices", "SliceThickness"):
            value = numbers(source, keyword, 1) if source is not None else None
            if value is not None and 1e-3 <= abs(value[0]) <= 1e3:
                return abs(value[0])
    return 1.0


def _origins(dataset: Dataset, frames: int) -> Vector | None:
    """ImagePositionPatient of every frame, (frames, 3); one for all where only the image has it."""
    found = []
    for frame in range(frames):
        place = group(dataset, "PlanePositionSequence", frame)
        position = numbers(place if place is not None else dataset, "ImagePositionPatient", 3)
        if position is None:
            return None
        found.append(position)
    return np.array(found)
