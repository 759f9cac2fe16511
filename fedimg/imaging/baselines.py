"""Traditional baselines on images as networks are given them: what each says of a batch, in the form of their outputs.

Each takes one image at a time, and public constants that follow from its size alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fedimg.errors import ConfigError
from fedimg.imaging.traditional import BlobConfig, SegmentationConfig, detect_blobs, segment, threshold
from fedimg.values import Vector

TRADITIONAL = ("otsu", "morphology", "blobs")
MOST_FOUND = 16
"""Findings of one image, as of a network."""
Images = npt.NDArray[np.floating]
_Mask = npt.NDArray[np.bool_]


def voxels(name: str, images: Images) -> npt.NDArray[np.int16]:
    """(N, C, *spatial) → (N, *spatial): 1 where the lesion is, as `models.outputs.activated` gives classes."""
    found = np.zeros((len(images), *images.shape[2:]), np.int16)
    for place, image in enumerate(images):
        found[place] = _mask(name, _grey(image), 1)
    return found


def places(name: str, images: Images) -> Vector:
    """(N, C, *spatial) → (N, most, 2 + 2·axes): score, centre, size in pixels and class 1, best first; scores in [0, 1).

    A score is a blob's response, or how far a piece stands out on average, x ÷ (1 + x). What is left of `most` has
    score 0, and size 0.
    """
    axes = images.ndim - 2
    found = np.zeros((len(images), MOST_FOUND, 2 + 2 * axes))
    found[:, :, -1] = 1
    for place, image in enumerate(images):
        grey = _grey(image)
        rows = _blobs(grey) if name == "blobs" else _pieces(_mask(name, grey, MOST_FOUND), grey)
        rows = sorted(rows, reverse=True)[:MOST_FOUND]
        found[place, len(rows) :, 1 : 1 + axes] = -1e6  # outside of everything
        for k, row in enumerate(rows):
            found[place, k, :-1] = row
    return found


def _grey(image: Images) -> Vector:
    return np.asarray(image.mean(axis=0), np.float64)


def _mask(name: str, image: Vector, components: int) -> _Mask:
    config = SegmentationConfig.of_side(min(image.shape[-2:]), components)
    if name == "otsu":
        return threshold(image, config)
    if name == "morphology":
        return segment(image, config)
    if name == "blobs":
        found = np.zeros(image.shape, np.bool_)
        axes = np.ogrid[tuple(slice(0, side) for side in image.shape)]
        for blob in detect_blobs(image, _blob_config(image))[:components]:
            apart = sum((axis - at) ** 2 for axis, at in zip(axes, blob.centre, strict=True))
            found |= np.asarray(apart <= blob.radius_px**2)
        return found
    raise ConfigError(f"a traditional baseline: {', '.join(TRADITIONAL)}", name, "choose one of these")


def _blob_config(image: Vector) -> BlobConfig:
    scale = min(image.shape[-2:]) / 64
    return BlobConfig(least_radius_px=3 * scale, greatest_radius_px=10 * scale)


def _blobs(image: Vector) -> list[tuple[float, ...]]:
    return [
        (_share(blob.score), *blob.centre, *(2 * blob.radius_px,) * image.ndim)
        for blob in detect_blobs(image, _blob_config(image))
    ]


def _pieces(mask: _Mask, image: Vector) -> list[tuple[float, ...]]:
    """Score, centre and size of each connected piece."""
    labels, _ = ndimage.label(mask)
    ground = float(image[~mask].mean()) if not mask.all() else 0.0
    rows = []
    for number, where in enumerate(ndimage.find_objects(labels), start=1):
        above = float(image[where][labels[where] == number].mean()) - ground
        centre = ((side.start + side.stop - 1) / 2 for side in where)
        rows.append((_share(above), *centre, *(float(side.stop - side.start) for side in where)))
    return rows


def _share(value: float) -> float:
    return max(value, 0.0) / (1 + max(value, 0.0))
