"""Small grey pictures of images, to tell what they show and which of them are alike.

Each follows from one image alone. They are for the site's own eyes: a thumbnail of a patient is patient data.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fedimg.values import DecodedImage, FloatArray

_PERCENTILES = (0.5, 99.5)
_ROUNDING = 1e-5
_LEFTWARDS, _BACKWARDS, _UPWARDS = range(3)  # axes of LPS


def central_frame(image: DecodedImage) -> FloatArray:
    """(H, W): the middle frame of a stack or cine, in file order."""
    frame: FloatArray = image.pixels_DHW[len(image.pixels_DHW) // 2]
    return frame


def axial_frame(image: DecodedImage) -> FloatArray:
    """(H, W): the middle slice across the body, turned as it is shown: down is back, right is the patient's left."""
    cosines = np.asarray(image.affine_lps_mm)[:3, [2, 1, 0]]  # of the array's axes d, h, w
    axes = np.abs(cosines / np.linalg.norm(cosines, axis=0)).argmax(axis=0).tolist()
    if sorted(axes) != [_LEFTWARDS, _BACKWARDS, _UPWARDS]:
        return central_frame(image)
    order = [axes.index(axis) for axis in (_UPWARDS, _BACKWARDS, _LEFTWARDS)]
    volume = image.pixels_DHW.transpose(order)
    frame = volume[len(volume) // 2]
    flips = [cosines[axis, order[place]] < 0 for place, axis in ((1, _BACKWARDS), (2, _LEFTWARDS))]
    return np.ascontiguousarray(frame[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1])


def area_mean(frame: FloatArray, side: int) -> FloatArray:
    """(H, W) → (side, side): the mean over each cell of a grid, partly covered pixels by their share."""
    rows, columns = (_shares(size, side) for size in frame.shape)
    small: FloatArray = np.asarray(rows @ frame @ columns.T, np.float32)
    return small


def windowed(frame: FloatArray) -> FloatArray:
    """The frame between two of its own percentiles as [0, 1]; zero where it has one value."""
    low, high = (float(value) for value in np.percentile(frame, _PERCENTILES))
    least, most = float(frame.min()), float(frame.max())
    if not high - low > _ROUNDING * (most - least):
        low, high = least, most
    if not high - low > _ROUNDING * max(abs(least), abs(most)):  # what rounding left is no contrast
        return np.zeros(frame.shape, np.float32)
    scaled: FloatArray = np.clip((frame - low) / (high - low), 0, 1).astype(np.float32)
    return scaled


@lru_cache(maxsize=64)
def _shares(size: int, side: int) -> npt.NDArray[np.float32]:
    """(side, size): row k holds how much of each pixel cell k covers, its sum 1."""
    edges = np.arange(side + 1) * (size / side)
    pixels = np.arange(size)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares = np.clip(covered, 0, None)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32)
