"""What is drawn over an image → the centre and size of every finding, as a heat map that can be learnt.

Of masks a finding is a connected part of one class; boxes come numbered, from `FIRST_NUMBER` on, and each is one. A
Gaussian stands around every centre, as wide as a sixth of the finding (Zhou et al. 2019, arXiv 1904.07850, section 3,
where its width follows from an overlap instead); where two meet, the higher one counts.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

FIRST_NUMBER = 128
"""As in `dicom.voxel_labels`: smaller values are classes."""
MOST = 128
"""Findings of one image; a mask of more parts is noise, and would take hours."""
LEAST_SIGMA = 0.8
_REACH = 5.0  # standard deviations; beyond, a Gaussian is below 4·10⁻⁶
_Box = tuple[slice, ...]


def findings_of(labels: npt.NDArray[Any]) -> list[_Box] | None:
    """Where each finding lies; None for more than `MOST`."""
    found: list[_Box] = []
    for value in np.unique(labels[labels > 0]):
        inside = labels == value
        if value >= FIRST_NUMBER:
            found += ndimage.find_objects(inside.astype(np.int8))
        else:
            parts, count = ndimage.label(inside, structure=np.ones((3,) * labels.ndim))
            if len(found) + count > MOST:
                return None
            found += ndimage.find_objects(parts)
    return found if len(found) <= MOST else None


def heat_map(labels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(*spatial) → (1 + axes, *spatial): 1 at each centre and less around it; at each centre the finding's size.

    Two findings about one centre stand in neighbouring voxels. All NaN for more than `MOST`.
    """
    target = np.zeros((1 + labels.ndim, *labels.shape), np.float32)
    found = findings_of(labels)
    if found is None:
        return np.full_like(target, np.nan)
    for box in found:
        size = [side.stop - side.start for side in box]
        centre = _free(target[0], tuple((side.start + side.stop - 1) // 2 for side in box))
        sigmas = [max(length / 6, LEAST_SIGMA) for length in size]
        near = tuple(
            slice(max(0, math.floor(at - _REACH * sigma)), math.ceil(at + _REACH * sigma) + 1)
            for at, sigma in zip(centre, sigmas, strict=True)
        )
        axes = np.ogrid[
            tuple(slice(s.start, min(s.stop, n)) for s, n in zip(near, labels.shape, strict=True))
        ]
        distance = sum(
            ((axis - at) / sigma) ** 2 for axis, at, sigma in zip(axes, centre, sigmas, strict=True)
        )
        np.maximum(target[0][near], np.exp(-distance / 2), out=target[0][near])
        target[0][centre] = 1.0
        for axis, length in enumerate(size, start=1):
            target[axis][centre] = length
    return target


def _free(heat: npt.NDArray[Any], centre: tuple[int, ...]) -> tuple[int, ...]:
    """The centre, or the next voxel along the last axis at which no finding has its own."""
    before, at, side = centre[:-1], centre[-1], heat.shape[-1]
    along = ((*before, (at + step) % side) for step in range(side))
    return next((place for place in along if heat[place] != 1), centre)
