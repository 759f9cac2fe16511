"""The shape of what is bright in an image: what Otsu's threshold leaves in front, in units of the image itself.

N. Otsu, "A Threshold Selection Method from Gray-Level Histograms", IEEE SMC 9(1), 1979.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fedimg.values import Integers, Vector

_BINS = 64
Mask = npt.NDArray[np.bool_]


def shape_of_foreground(share: Vector) -> dict[str, Vector]:
    """(n, *spatial) in [0, 1], an image's own least to greatest → numbers of each, (n,).

    foreground: its share of the image. separability: of the variance what lies between in front and behind (Otsu's η).
    centre, spread by axis: mean place from the image's middle, and deviation, in parts of the side. elongation,
    flatness: square roots of its covariance's eigenvalues, by the greatest. compactness: faces of a cube as large, by
    its own. pieces; largest_piece: its share of the foreground. thickness: mean distance to the background, and the
    greatest, in parts of the mean side. An image of one value has nothing in front.
    """
    cells = np.minimum(np.floor(_BINS * share), _BINS - 1).astype(np.int64).reshape(len(share), -1)
    threshold, separability = _otsu(cells)
    front = (cells > threshold[:, None]).reshape(share.shape)
    return {"foreground": front.reshape(len(front), -1).mean(axis=1), "separability": separability} | (
        _moments(front) | _surface(front) | _pieces(front)
    )


def _otsu(cells: Integers) -> tuple[Integers, Vector]:
    """(n, k) → the last bin behind, and between-class variance ÷ variance; 1 where there is one bin."""
    apart = cells + _BINS * np.arange(len(cells))[:, None]
    counts = np.bincount(apart.ravel(), minlength=_BINS * len(cells)).reshape(len(cells), _BINS)
    share = counts / cells.shape[1]
    level = np.arange(_BINS)
    below, moment = share.cumsum(axis=1)[:, :-1], (share * level).cumsum(axis=1)[:, :-1]
    mean = share @ level
    variance = share @ level**2 - mean**2
    split = (below > 0) & (below < 1 - 1e-12)
    between = np.where(split, (mean[:, None] * below - moment) ** 2, 0.0)
    between /= np.where(split, below * (1 - below), 1.0)
    one = variance <= 1e-12
    threshold = np.where(one, _BINS, between.argmax(axis=1))
    return threshold, np.where(one, 1.0, between.max(axis=1) / np.where(one, 1.0, variance))


def _moments(front: Mask) -> dict[str, Vector]:
    sides = front.shape[1:]
    axes = [(np.arange(side) + 0.5) / side - 0.5 for side in sides]
    place = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(sides))
    flat = front.reshape(len(front), -1).astype(np.float64)
    weight = flat / np.maximum(flat.sum(axis=1, keepdims=True), 1)
    centre = weight @ place
    second = (weight @ (place[:, :, None] * place[:, None, :]).reshape(len(place), -1)).reshape(
        len(front), len(sides), len(sides)
    )
    covariance = second - centre[:, :, None] * centre[:, None, :]
    lengths = np.sqrt(np.maximum(np.linalg.eigvalsh(covariance), 0.0))
    longest = np.where(lengths[:, -1] > 1e-6, lengths[:, -1], 1.0)
    round_ = lengths[:, -1] <= 1e-6  # nothing, or a point, is as long as it is wide
    names = "dhw"[-len(sides) :]
    found = {f"centre_{axis}": centre[:, k] for k, axis in enumerate(names)}
    found |= {f"spread_{axis}": np.sqrt(np.maximum(covariance[:, k, k], 0.0)) for k, axis in enumerate(names)}
    found["elongation"] = np.where(round_, 1.0, lengths[:, -2] / longest)
    found["flatness"] = np.where(round_, 1.0, lengths[:, 0] / longest)
    return found


def _surface(front: Mask) -> dict[str, Vector]:
    """By faces between a pixel in front and one behind or outside of the image."""
    spatial = front.ndim - 1
    size = front.reshape(len(front), -1).sum(axis=1)
    faces = np.zeros(len(front))
    for axis in range(1, spatial + 1):
        steps = np.diff(front.astype(np.int8), axis=axis, prepend=0, append=0)
        faces += np.abs(steps).reshape(len(front), -1).sum(axis=1)
    cube = 2 * spatial * size ** ((spatial - 1) / spatial)
    return {"compactness": np.where(size > 0, cube / np.maximum(faces, 1), 1.0)}


def _pieces(front: Mask) -> dict[str, Vector]:
    side = float(np.mean(front.shape[1:]))
    rows = np.array([_of_pieces(mask) for mask in front]).reshape(-1, 4)
    return {
        "pieces": rows[:, 0],
        "largest_piece": rows[:, 1],
        "thickness": rows[:, 2] / side,
        "greatest_thickness": rows[:, 3] / side,
    }


def _of_pieces(mask: Mask) -> tuple[float, float, float, float]:
    labels, count = ndimage.label(mask)
    if not count:
        return 0.0, 1.0, 0.0, 0.0
    inside = ndimage.distance_transform_edt(mask)[mask]
    largest = np.bincount(labels.ravel())[1:].max() / len(inside)
    return float(count), float(largest), float(inside.mean()), float(inside.max())
