"""Single slices → one volume, sorted by where they are, not by what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fedimg.imaging.cleaning import Rejected
from fedimg.imaging.findings import linked
from fedimg.values import DecodedImage, Quarantine

_SAME_DIRECTION = 1e-3
"""Largest difference of direction cosines, and of relative spacing, within one stack."""

_LARGEST_GAP_RATIO = 1.5
"""A gap this many times the usual one means that a slice is missing."""


def stack_series(images: Sequence[DecodedImage]) -> DecodedImage:
    """One volume from single-frame images of a series, ascending along their common normal.

    Position is the projection of each slice's corner on the normal of the first slice (row direction ×
    column direction, as DICOM PS3.3 C.7.6.2.1.1 defines the plane); order and name of the files do
    not matter. Slice distance is the median gap. Identical slices at one position count once.
    Raises Rejected: slices of different size, direction or spacing, a missing slice, two
    different slices at one position.
    """
    order = stack_order(images)
    if len(order) == 1:
        return images[order[0]]
    stack = [images[k] for k in order]
    first, normal = _reference(images)
    usual = float(np.median(np.diff([_along(normal, image) for image in stack])))
    affine = stack[0].affine_lps_mm.copy()
    affine[:3, 2] = normal * usual
    masks = [np.zeros(i.pixels_DHW.shape, bool) if i.mask_DHW is None else i.mask_DHW for i in stack]
    drawn = [i.labels_DHW for i in stack if i.labels_DHW is not None]
    labels = None
    if len(drawn) == len(stack) and (labels := linked(np.concatenate(drawn))) is None:
        raise Rejected(Quarantine.WRONG_SHAPE, "more findings in a series than have a number")
    return replace(
        first,
        pixels_DHW=np.concatenate([i.pixels_DHW for i in stack]),
        affine_lps_mm=affine,
        spacing_mm=(usual, *first.spacing_mm[1:]),
        window=stack[len(stack) // 2].window,
        mask_DHW=np.concatenate(masks) if any(i.mask_DHW is not None for i in stack) else None,
        labels_DHW=labels,
    )


def stack_order(images: Sequence[DecodedImage]) -> list[int]:
    """Which of the images stands where in `stack_series`, ascending; repeated slices are left out. Raises as that does."""
    if len(images) == 1:
        return [0]
    first, normal = _reference(images)
    for image in images:
        _same_plane(first, image)
    placed = sorted(((_along(normal, image), k) for k, image in enumerate(images)), key=lambda pair: pair[0])
    ordered = _one_per_position(placed, images)
    gaps = np.diff([position for position, _ in ordered])
    if len(gaps) and gaps.max() > _LARGEST_GAP_RATIO * float(np.median(gaps)):
        raise Rejected(Quarantine.WRONG_SHAPE, "a stack with a slice missing")
    return [k for _, k in ordered]


def _reference(images: Sequence[DecodedImage]) -> tuple[DecodedImage, npt.NDArray[np.float64]]:
    """A slice, and the direction in which slices follow each other."""
    # Any slice would do as the reference; a fixed one keeps the last bits free of the files' order.
    first = min(images, key=lambda image: tuple(image.affine_lps_mm[:3, 3]))
    rows, columns = (first.affine_lps_mm[:3, k] for k in (0, 1))
    normal = np.cross(rows, columns)
    return first, normal / np.linalg.norm(normal)


def _along(normal: npt.NDArray[np.float64], image: DecodedImage) -> float:
    return float(image.affine_lps_mm[:3, 3] @ normal)


def _same_plane(first: DecodedImage, other: DecodedImage) -> None:
    if other.pixels_DHW.shape[0] != 1 or other.pixels_DHW.shape != first.pixels_DHW.shape:
        raise Rejected(
            Quarantine.WRONG_SHAPE, "slices of different sizes in one series, or a multi-frame file"
        )
    here, there = (i.affine_lps_mm[:3, :2] for i in (first, other))
    if np.abs(here - there).max() > _SAME_DIRECTION * np.abs(here).max():
        raise Rejected(Quarantine.WRONG_SHAPE, "slices of different direction or spacing in one series")
    if (first.units, first.modality) != (other.units, other.modality):
        raise Rejected(Quarantine.WRONG_SHAPE, "slices of different modality or units in one series")


def _one_per_position(
    placed: list[tuple[float, int]], images: Sequence[DecodedImage]
) -> list[tuple[float, int]]:
    """Drop repeated slices. Raises Rejected where two different ones share a position."""
    kept = [placed[0]]
    for position, k in placed[1:]:
        if position - kept[-1][0] > 1e-3:
            kept.append((position, k))
        elif not np.array_equal(images[k].pixels_DHW, images[kept[-1][1]].pixels_DHW):
            raise Rejected(Quarantine.DUPLICATE, "different slices at the same position in one series")
    return kept
