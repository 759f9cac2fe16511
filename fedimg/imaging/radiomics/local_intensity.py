"""Where intensities lie: IBSI reference manual, sections 3.2 (9ST6) and 3.1.25 to 3.1.26, arXiv 1612.07003."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.distance import cdist

from fedimg.errors import DataError
from fedimg.values import Vector

Mask = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]

CODES: Mapping[str, str] = MappingProxyType(
    {
        "local_intensity_peak": "VJGA",
        "global_intensity_peak": "0F91",
        "morans_i": "N365",
        "gearys_c": "NPT7",
    }
)
"""IBSI's permanent identifiers, by the name here."""

PEAK_RADIUS_MM = float(10 * (3 / (4 * np.pi)) ** (1 / 3))  # of a ball of 1 ml
_PAIRS_AT_ONCE = 1 << 22


def intensity_peaks(
    image_DHW: npt.NDArray[np.floating], mask_DHW: Mask, spacing_mm: Spacing
) -> dict[str, float]:
    """Mean in a ball of 1 ml around the brightest voxel of the region, and the highest such mean in it.

    The ball may reach out of the region, but not out of the image; of several brightest voxels the highest mean
    counts. Raises DataError for an empty mask.
    """
    if not mask_DHW.any():
        raise DataError("a region of at least one voxel", "an empty mask", "choose another region")
    reach = [int(PEAK_RADIUS_MM // step) for step in spacing_mm]
    offsets = np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij")
    apart = np.stack(offsets, axis=-1) * np.asarray(spacing_mm)
    ball = (np.sum(apart**2, axis=-1) <= PEAK_RADIUS_MM**2).astype(np.float64)
    image = np.asarray(image_DHW, dtype=np.float64)
    total = ndimage.correlate(image, ball, mode="constant")
    means = (total / ndimage.correlate(np.ones_like(image), ball, mode="constant"))[mask_DHW]
    brightest = image[mask_DHW] == image[mask_DHW].max()
    return {
        "local_intensity_peak": float(means[brightest].max()),
        "global_intensity_peak": float(means.max()),
    }


def spatial_autocorrelation(
    image_DHW: npt.NDArray[np.floating], mask_DHW: Mask, spacing_mm: Spacing
) -> dict[str, float]:
    """Moran's I and Geary's C with inverse distances as weights; nothing of a constant region or a single voxel.

    Time grows with the square of the number of voxels.
    """
    points, values = np.argwhere(mask_DHW) * np.asarray(spacing_mm), image_DHW[mask_DHW].astype(np.float64)
    count = len(values)
    centred = values - values.mean() if count else values
    square = float(np.sum(centred**2))
    if count < 2 or values.min() == values.max():
        return {}
    weights = products = differences = 0.0
    each = max(1, _PAIRS_AT_ONCE // count)
    for start in range(0, count, each):
        part = slice(start, start + each)
        weight = _inverse(cdist(points[part], points))
        weights += float(weight.sum())
        products += float(np.sum(weight * centred[part, None] * centred[None, :]))
        differences += float(np.sum(weight * (values[part, None] - values[None, :]) ** 2))
    return {
        "morans_i": count / weights * products / square,
        "gearys_c": (count - 1) / (2 * weights) * differences / square,
    }


def _inverse(distance: Vector) -> Vector:
    """A voxel has no weight with itself."""
    return np.divide(1.0, distance, where=distance > 0, out=np.zeros(distance.shape))
