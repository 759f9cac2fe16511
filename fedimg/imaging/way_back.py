"""From a prepared image back to the grid that it was made of: what a network says of voxels, where they lie.

`preprocessing.placed` turns axes, resamples and crops or pads, each axis by itself; so the way back is three numbers an
axis. A prepared voxel p shows the place a·p + b of its (turned) source, both counted in voxels between centres:

- scaled into a size of m voxels out of n: a = n/m, b = (a − 1)/2, since both cover the same extent;
- resampled to a spacing: a = new/old, b = 0, since the first voxels' centres coincide;
- cropped or padded by s voxels in front: p + s in place of p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fedimg.imaging.config import ImagingConfig
from fedimg.imaging.resampling import Grid, fitted_size, turned

_SAME = 1e-3  # relative: as in `resampling.resample`, which leaves such a spacing alone


@dataclass(frozen=True, slots=True)
class Way:
    """Of one image that was prepared.

    Attributes:
        order, flips: how its axes were turned, as in `resampling.turned`.
        turned_shape: (D, H, W) behind that. scale, start: a and b + a·s of each of those axes.
    """

    order: tuple[int, ...]
    flips: tuple[int, ...]
    turned_shape: tuple[int, ...]
    scale: tuple[float, ...]
    start: tuple[float, ...]


def way_of(
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    affine_lps_mm: npt.NDArray[np.float64],
    config: ImagingConfig,
) -> Way:
    """Of an image of this shape (D, H, W) and geometry; in 2 dimensions of any of its frames."""
    order, flips = turned(affine_lps_mm, config.dimensions)
    size = [shape[axis] for axis in order]
    spacing = [spacing_mm[axis] for axis in order]
    axes, scale, shift = config.dimensions, [1.0] * 3, [0.0] * 3
    length = list(size)
    if config.spacing_mm is None:
        grid = Grid(
            np.broadcast_to(np.zeros((), np.float32), tuple(size)), (spacing[0], spacing[1], spacing[2])
        )
        for axis, new in zip(range(3 - axes, 3), fitted_size(grid, config), strict=True):
            scale[axis] = size[axis] / new
            shift[axis] = (scale[axis] - 1) / 2
            length[axis] = new
    else:
        factors = [new / old for new, old in zip(config.spacing_mm, spacing[-axes:], strict=True)]
        if any(abs(factor - 1) >= _SAME for factor in factors):
            for axis, factor in zip(range(3 - axes, 3), factors, strict=True):
                scale[axis] = factor
                length[axis] = _resampled(size[axis], factor)
    for axis, wanted in zip(range(3 - axes, 3), config.image_size, strict=True):
        # MONAI pads evenly, the odd voxel behind, and crops about the voxel in the middle
        skipped = (
            length[axis] // 2 - wanted // 2 if length[axis] > wanted else -((wanted - length[axis]) // 2)
        )
        shift[axis] += scale[axis] * skipped
    return Way(order, flips, tuple(size), tuple(scale), tuple(shift))


def _resampled(size: int, factor: float) -> int:
    """Voxels of MONAI's `Spacing`: those whose centres lie between the first and the last one's, and one more if needed."""
    return int(np.round((size - 1) / factor + 1))


def source_voxels(way: Way, axis: int, prepared: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Places along one prepared axis → places along the turned source's same axis, in voxels between centres."""
    found: npt.NDArray[np.float64] = np.asarray(prepared, np.float64) * way.scale[axis] + way.start[axis]
    return found


def taken_back(values: npt.NDArray[Any], way: Way, *, smooth: bool = False) -> npt.NDArray[Any]:
    """(D, H, W) of a prepared image → (D, H, W) on its source's own grid, 0 where the prepared image shows nothing of it.

    The nearest voxel's value, or with `smooth` a linear mean of neighbours, float32.
    """
    at = [(np.arange(n) - way.start[axis]) / way.scale[axis] for axis, n in enumerate(way.turned_shape)]
    inside = [(p >= -0.5) & (p <= n - 0.5) for p, n in zip(at, values.shape, strict=True)]
    if smooth:
        found = values.astype(np.float32)
        for axis, places in enumerate(at):
            found = _along(found, axis, np.clip(places, 0, values.shape[axis] - 1))
    else:
        index = [
            np.clip(np.round(p).astype(np.int64), 0, n - 1) for p, n in zip(at, values.shape, strict=True)
        ]
        found = values[np.ix_(*index)]
    d, h, w = inside
    found = np.where(d[:, None, None] & h[None, :, None] & w, found, np.zeros((), found.dtype))
    back = np.flip(found, way.flips)
    return np.ascontiguousarray(np.transpose(back, np.argsort(way.order)))


def _along(values: npt.NDArray[Any], axis: int, places: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Linear interpolation at places of one axis."""
    low = np.floor(places).astype(np.int64)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    share = (places - low).reshape([-1 if k == axis else 1 for k in range(values.ndim)]).astype(np.float32)
    found: npt.NDArray[Any] = np.take(values, low, axis) * (1 - share) + np.take(values, high, axis) * share
    return found


def largest_part(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The connected part of most voxels, diagonals included; of equals the first. All False stays so."""
    parts, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    if count < 2:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    found: npt.NDArray[np.bool_] = parts == int(sizes.argmax())
    return found
