"""Geometry: orientation, millimetres and size.

Orientation is a matter of flips and transposes, done on the array itself, exactly. Interpolation
is MONAI's; a transform that would change nothing is not called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from monai.networks.layers.convutils import gaussian_1d
from monai.networks.layers.simplelayers import separable_filtering
from monai.transforms.croppad.array import ResizeWithPadOrCrop
from monai.transforms.spatial.array import Resize, Spacing

from fedimg.imaging.cleaning import Rejected
from fedimg.imaging.config import ImagingConfig
from fedimg.values import FloatArray, Quarantine

Axis = tuple[int, int]
"""(patient axis 0 = left, 1 = posterior, 2 = superior; direction +1 or −1)."""

_DISPLAY: dict[int, int] = {0: 1, 1: 1, 2: -1}
"""The direction in which pictures are shown: rightwards or downwards is left, posterior, inferior."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Values on a regular grid: values_DHW float32 with spacing_mm (D, H, W), all > 0."""

    values_DHW: FloatArray
    spacing_mm: tuple[float, float, float]


def closest_axes(affine_lps_mm: npt.NDArray[np.float64]) -> tuple[Axis, Axis, Axis]:
    """The patient axis nearest to each of the array's axes (d, h, w); a signed permutation.

    The direction cosines are first made orthonormal (polar decomposition), then the permutation of
    largest total agreement is taken: oblique and sheared grids get one answer, always the same.
    """
    columns = np.asarray(affine_lps_mm, dtype=np.float64)[:3, [2, 1, 0]]
    left, _, right = np.linalg.svd(columns / np.linalg.norm(columns, axis=0))
    cosines = left @ right
    best = max(permutations(range(3)), key=lambda axes: sum(abs(cosines[a, i]) for i, a in enumerate(axes)))
    d, h, w = ((axis, 1 if cosines[axis, i] >= 0 else -1) for i, axis in enumerate(best))
    return d, h, w


def orient(grid: Grid, affine_lps_mm: npt.NDArray[np.float64], dimensions: int) -> Grid:
    """Turn the array the way all sites show it; voxels keep their values.

    3 dimensions: depth runs to superior, height to posterior, width to left, so (D, H, W) of an axial
    stack stays as it is. 2 dimensions: each frame keeps its plane, and is turned as radiologists
    see it (left, posterior and inferior are rightwards or downwards). Files without an orientation
    have an affine along the axes and are left alone.
    """
    order, flips = turned(affine_lps_mm, dimensions)
    values = np.flip(np.transpose(grid.values_DHW, order), flips)
    d, h, w = (grid.spacing_mm[source] for source in order)
    return Grid(np.ascontiguousarray(values), (d, h, w))


def turned(
    affine_lps_mm: npt.NDArray[np.float64], dimensions: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How `orient` turns such a grid: which of its axes becomes each axis, and which of those then run backwards."""
    axes = closest_axes(affine_lps_mm)
    if dimensions == 3:
        order = tuple(next(i for i, (axis, _) in enumerate(axes) if axis == target) for target in (2, 1, 0))
        flips = [place for place, source in enumerate(order) if axes[source][1] < 0]
    else:
        # Of the two in-plane axes, left–right goes across if it is one of them, else front–back.
        order = (0, 2, 1) if axes[1][0] < axes[2][0] else (0, 1, 2)
        flips = [place for place in (1, 2) if axes[order[place]][1] != _DISPLAY[axes[order[place]][0]]]
    return order, tuple(flips)


def resample(grid: Grid, config: ImagingConfig) -> Grid:
    """To the millimetres, or into the size, that the configuration names; not yet padded.

    Guarantee: extent in millimetres is kept (to one output voxel); values stay within the input's range.
    Raises Rejected where the result would pass `cleaning.largest_voxels`.
    """
    if config.spacing_mm is not None:
        return _to_spacing(grid, config.spacing_mm, config)
    return _to_size(grid, fitted_size(grid, config))


def resample_labels(grid: Grid, config: ImagingConfig) -> Grid:
    """The same for classes: every voxel takes that of the nearest one, and none is made up between two.

    Guarantee: the result lies over `resample`'s of an image on the same grid, voxel by voxel.
    """
    target = config.spacing_mm
    if target is None:
        size = fitted_size(grid, config)
    else:
        here = grid.spacing_mm[-len(target) :]
        if all(abs(new / old - 1) < 1e-3 for new, old in zip(target, here, strict=True)):
            return grid
        return _nearest_at_spacing(grid, target, here)
    if grid.values_DHW.shape[-len(size) :] == size:
        return grid
    channels_first = _channels_first(grid, len(size))
    values = _plain(Resize(size, mode="nearest-exact")(channels_first)).reshape(-1, *size[-2:])
    return Grid(values, grid.spacing_mm)


def _nearest_at_spacing(grid: Grid, target_mm: tuple[float, ...], here_mm: tuple[float, ...]) -> Grid:
    channels_first = _channels_first(grid, len(target_mm))
    affine = torch.diag(torch.tensor([*here_mm, *[1.0] * (4 - len(here_mm))], dtype=torch.float64))
    spaced = Spacing(target_mm, mode="nearest", padding_mode="border")(
        MetaTensor(channels_first, affine=affine)
    )
    values = _plain(spaced)
    return Grid(values.reshape(-1, *values.shape[-2:]), grid.spacing_mm)


def crop_or_pad(grid: Grid, size: Sequence[int]) -> Grid:
    """Centre crop or zero padding to `size`, (H, W) or (D, H, W)."""
    here = grid.values_DHW.shape[-len(size) :]
    if here == tuple(size):
        return grid
    channels_first = _channels_first(grid, len(size))
    fitted = ResizeWithPadOrCrop(tuple(size), mode="constant")(channels_first)
    return Grid(_plain(fitted).reshape(-1, *size[-2:]), grid.spacing_mm)


def fitted_size(grid: Grid, config: ImagingConfig) -> tuple[int, ...]:
    """Into which size `image_size` takes the image whole: with "letterbox", in-plane proportions are kept."""
    target = tuple(config.image_size)
    if config.fit == "stretch":
        return target
    extents = [n * mm for n, mm in zip(grid.values_DHW.shape[1:], grid.spacing_mm[1:], strict=True)]
    pixel_mm = max(extent / n for extent, n in zip(extents, target[-2:], strict=True))
    plane = tuple(
        min(n, max(1, round(extent / pixel_mm))) for extent, n in zip(extents, target[-2:], strict=True)
    )
    return (*target[:-2], *plane)


def _to_size(grid: Grid, size: tuple[int, ...]) -> Grid:
    """Area averaging where an axis shrinks (no aliasing), linear where all grow."""
    here = grid.values_DHW.shape[-len(size) :]
    if here == size:
        return grid
    shrinks = any(new < old for new, old in zip(size, here, strict=True))
    mode = "area" if shrinks else ("bilinear" if len(size) == 2 else "trilinear")
    channels_first = _channels_first(grid, len(size))
    values = _plain(Resize(size, mode=mode)(channels_first)).reshape(-1, *size[-2:])
    scale = [old / new for old, new in zip(here, size, strict=True)]
    d, h, w = (mm * s for mm, s in zip(grid.spacing_mm, [1.0] * (3 - len(scale)) + scale, strict=True))
    return Grid(values, (d, h, w))


def _to_spacing(grid: Grid, target_mm: tuple[float, ...], config: ImagingConfig) -> Grid:
    """MONAI `Spacing`, linear; before shrinking, smoothed by half the new voxel so that nothing aliases."""
    here = grid.spacing_mm[-len(target_mm) :]
    factors = [new / old for new, old in zip(target_mm, here, strict=True)]
    if all(abs(f - 1) < 1e-3 for f in factors):
        return grid
    spatial = grid.values_DHW.shape[-len(target_mm) :]
    if any(n > 1 and f > n for n, f in zip(spatial, factors, strict=True)):
        raise Rejected(Quarantine.WRONG_SHAPE, "an image smaller than one voxel of imaging.spacing_mm")
    voxels = np.prod([n / f + 1 for n, f in zip(spatial, factors, strict=True)])
    if voxels * (grid.values_DHW.size / np.prod(spatial)) > config.cleaning.largest_voxels:
        raise Rejected(Quarantine.WRONG_SHAPE, "a spacing that makes the resampled image too large")
    channels_first = _channels_first(grid, len(target_mm))
    blur = [max(0.0, (f - 1) / 2) for f in factors]
    if any(blur):
        channels_first = smoothed(channels_first, blur)
    affine = torch.diag(torch.tensor([*here, *[1.0] * (4 - len(here))], dtype=torch.float64))
    spaced = Spacing(target_mm, mode="bilinear", padding_mode="border")(
        MetaTensor(channels_first, affine=affine)
    )
    values = _plain(spaced)
    d, h, w = (*grid.spacing_mm[: 3 - len(target_mm)], *target_mm)
    return Grid(values.reshape(-1, *values.shape[-2:]), (d, h, w))


def _channels_first(grid: Grid, axes: int) -> torch.Tensor:
    """As MONAI takes it: of two axes each frame is a channel, of three there is one."""
    return torch.from_numpy(grid.values_DHW if axes == 2 else grid.values_DHW[None])


def smoothed(values: torch.Tensor, sigmas: Sequence[float]) -> torch.Tensor:
    """(C, *spatial) smoothed by Gaussians of these many voxels an axis, edges repeated.

    MONAI's own transform pads with zeros, which darkens borders and, worst, a stack of few slices.
    """
    kernels = [gaussian_1d(torch.tensor(sigma), truncated=4.0) for sigma in sigmas]
    kernels = [kernel / kernel.sum() for kernel in kernels]  # cut off at 4σ, they miss a little of 1
    return separable_filtering(values[None], kernels, mode="replicate")[0]


def _plain(image: torch.Tensor) -> FloatArray:
    """MONAI's result as an array of its own."""
    tensor = image.as_tensor() if isinstance(image, MetaTensor) else image
    array: FloatArray = np.ascontiguousarray(tensor.numpy(), dtype=np.float32)
    return array
