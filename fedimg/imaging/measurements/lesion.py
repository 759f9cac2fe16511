"""Lesion size in physical units, from a mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist, squareform

from fedimg.values import Vector

Mask = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]


def volume_ml(mask_DHW: Mask, spacing_mm: Spacing) -> float:
    """Voxels in the mask times the volume of one."""
    return float(np.count_nonzero(mask_DHW) * np.prod(spacing_mm) / 1000)


def longest_diameters_mm(mask_DHW: Mask, spacing_mm: Spacing) -> tuple[float, float]:
    """The longest in-plane diameter, and how far the same lesion reaches across it, in mm; zeros of no lesion.

    As in RECIST 1.1 (E. Eisenhauer et al., Eur J Cancer 45, 2009, doi 10.1016/j.ejca.2008.10.026): in the axial plane,
    of one lesion; pieces that do not touch in three dimensions are lesions of their own, and the longest counts. Taken
    on the outline half way between pixels inside and outside, so that a pixel is one pixel wide. The second is the
    extent at a right angle in that slice, as callipers would read it.
    """
    longest, across = 0.0, 0.0
    labels, _ = ndimage.label(mask_DHW, np.ones((3, 3, 3)))
    for where, number in zip(ndimage.find_objects(labels), range(1, labels.max() + 1), strict=True):
        for plane in labels[where] == number:
            length, width = _diameters(plane, spacing_mm[1:])
            if length > longest:
                longest, across = length, width
    return longest, across


def _diameters(plane_HW: Mask, spacing_mm: tuple[float, float]) -> tuple[float, float]:
    from skimage.measure import find_contours

    if not plane_HW.any():
        return 0.0, 0.0
    outlines = find_contours(np.pad(plane_HW, 1).astype(np.float64), 0.5)
    points = _corners(np.concatenate(outlines) * np.asarray(spacing_mm))
    apart = squareform(pdist(points))
    first, second = np.unravel_index(apart.argmax(), apart.shape)
    along = (points[second] - points[first]) / apart[first, second]
    return float(apart.max()), float(np.ptp(points @ np.array([-along[1], along[0]])))


def _corners(points: Vector) -> Vector:
    try:
        return np.asarray(points[ConvexHull(points).vertices])
    except QhullError:  # pragma: no cover - the outline of a pixel has an area
        return points
