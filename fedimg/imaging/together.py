"""Several modalities of one body → blocks of one example, voxel over voxel.

By headers alone: the first modality that is there is the grid, and every other one is resampled to it in patient
millimetres (DICOM PS3.3 C.7.6.2.1.1) where both name the same frame of reference (C.7.4.1); else its centre comes to
lie on the grid's centre, by its own spacing and directions. Nobody registers anything: what moved between two
acquisitions stays moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from fedimg.imaging import cleaning, intensity, resampling
from fedimg.imaging.cleaning import Rejected
from fedimg.imaging.config import ImagingConfig
from fedimg.imaging.findings import FIRST_NUMBER
from fedimg.imaging.preprocessing import Prepared, placed, placed_labels
from fedimg.imaging.resampling import Grid
from fedimg.imaging.series import stack_series
from fedimg.values import DecodedImage, FloatArray, Quarantine

Affine = npt.NDArray[np.float64]
_ROUNDING = 1e-6  # of a voxel: what lies on the rim lies inside


@dataclass(frozen=True, slots=True)
class Windowed:
    """One modality, stacked and windowed. values_DHW in [0, 1]; `image` has its geometry and labels."""

    values_DHW: FloatArray
    image: DecodedImage


def windowed(files: Sequence[DecodedImage], config: ImagingConfig) -> Windowed:
    """One volume of a series' files (or of one file that holds it). Raises Rejected."""
    for image in files:
        cleaning.check_shape(image, config.cleaning)
    stack = stack_series(files)
    cleaning.check_shape(stack, config.cleaning)
    reason = cleaning.check_frame(stack.pixels_DHW, stack.mask_DHW, config.cleaning)
    if reason is not None:
        raise Rejected(reason)
    return Windowed(intensity.to_unit_range(stack, config.intensity), stack)


def prepare_together(found: Sequence[Windowed | None], config: ImagingConfig) -> Prepared:
    """One example of what was found of each of `config.together`, in that order; None: missing.

    Channels: for each modality `config.channels` of its image, or of zeros, and behind them for each a plane of
    ones, or zeros. A modality of which nothing lies within the grid is missing too.

    Raises Rejected where none is there, or the grid cannot be used.
    """
    there = [one for one in found if one is not None]
    if not there:
        raise Rejected(Quarantine.NOT_AN_IMAGE, "none of imaging.together")
    ground = there[0] if config.dimensions == 3 else _middle(there[0])
    size = (1, *config.image_size) if config.dimensions == 2 else tuple(config.image_size)
    blocks, presence, spacing, drawn = [], [], ground.image.spacing_mm, list[npt.NDArray[np.uint8]]()
    for one in found:
        block = np.zeros(size, np.float32)
        laid = None if one is None else ground if one is there[0] else _onto(one, ground)
        if laid is not None:
            grid = placed(Grid(laid.values_DHW, ground.image.spacing_mm), ground.image.affine_lps_mm, config)
            block, spacing = grid.values_DHW, grid.spacing_mm
            if laid.image.labels_DHW is not None:
                drawn.append(placed_labels(laid.image.labels_DHW, ground.image, config))
        blocks.append(np.repeat(block[None], config.channels, axis=0))
        presence.append(np.full((1, *size), laid is not None, np.float32))
    if sum(bool((one >= FIRST_NUMBER).any()) for one in drawn) > 1:
        raise Rejected(Quarantine.WRONG_SHAPE, "boxes on two modalities, of which nobody says which are one")
    labels = np.maximum.reduce(drawn) if drawn else None
    return Prepared(np.concatenate([*blocks, *presence]), spacing, labels)


def _middle(one: Windowed) -> Windowed:
    """Its middle slice alone, where it lies."""
    at, affine = len(one.values_DHW) // 2, one.image.affine_lps_mm.copy()
    affine[:3, 3] += at * affine[:3, 2]
    labels = one.image.labels_DHW
    image = replace(
        one.image,
        pixels_DHW=one.image.pixels_DHW[at : at + 1],
        affine_lps_mm=affine,
        mask_DHW=None,
        labels_DHW=None if labels is None else labels[at : at + 1],
    )
    return Windowed(one.values_DHW[at : at + 1], image)


def _onto(one: Windowed, ground: Windowed) -> Windowed | None:
    """The same on the grid of `ground`, 0 beyond its edges; None where nothing of it lies there."""
    step = voxel_map(one.image, ground.image)
    shape = ground.values_DHW.shape
    smooth = _smoothed(one.values_DHW, step)
    values, anywhere = np.zeros(shape, np.float32), False
    drawn = one.image.labels_DHW
    labels = None if drawn is None else np.zeros(shape, drawn.dtype)
    for d in range(shape[0]):  # slice by slice: coordinates of a whole volume would be six times its size
        at, inside = _coordinates(step, d, shape[1:], one.values_DHW.shape)
        anywhere |= bool(inside.any())
        values[d] = np.where(inside, ndimage.map_coordinates(smooth, at, order=1, mode="nearest"), 0)
        if drawn is not None and labels is not None:
            labels[d] = np.where(inside, ndimage.map_coordinates(drawn, at, order=0, mode="nearest"), 0)
    return Windowed(values, replace(one.image, labels_DHW=labels)) if anywhere else None


def voxel_map(source: DecodedImage, ground: DecodedImage) -> Affine:
    """4 × 4: a voxel (w, h, d) of `ground` → the place in `source`, in its voxels, that shows the same."""
    affine: Affine = np.array(source.affine_lps_mm, dtype=np.float64)
    if not (source.frame and source.frame == ground.frame):
        affine[:3, 3] += _centre(ground) - _centre(source)
    found: Affine = np.asarray(np.linalg.solve(affine, ground.affine_lps_mm), dtype=np.float64)
    return found


def _centre(image: DecodedImage) -> Affine:
    middle = [(n - 1) / 2 for n in reversed(image.pixels_DHW.shape)]
    found: Affine = (np.asarray(image.affine_lps_mm) @ np.array([*middle, 1.0]))[:3]
    return found


def _coordinates(
    step: Affine, d: int, plane: tuple[int, ...], source: tuple[int, ...]
) -> tuple[Affine, npt.NDArray[np.bool_]]:
    """Of one slice of the grid: places (3, H, W) in the source's voxels (d, h, w), and whether a voxel is there."""
    h, w = np.meshgrid(np.arange(plane[0]), np.arange(plane[1]), indexing="ij")
    x, y, z = (row[0] * w + row[1] * h + row[2] * d + row[3] for row in step[:3])
    at = np.stack([z, y, x])
    inside = [
        (axis >= -0.5 - _ROUNDING) & (axis <= n - 0.5 + _ROUNDING) for axis, n in zip(at, source, strict=True)
    ]
    return at, np.logical_and.reduce(inside)


def _smoothed(values: FloatArray, step: Affine) -> FloatArray:
    """Blurred along an axis that the grid samples more coarsely, so that nothing aliases."""
    factors = np.abs(step[:3, :3]).max(axis=1)[::-1]
    sigmas = [
        max(0.0, (float(f) - 1) / 2) if n > 1 else 0.0 for f, n in zip(factors, values.shape, strict=True)
    ]
    # the whole of a source is one voxel of such a grid; wider kernels cost without end and say no more
    sigmas = [min(sigma, float(n)) for sigma, n in zip(sigmas, values.shape, strict=True)]
    if not any(sigmas):
        return values
    blurred = resampling.smoothed(torch.from_numpy(np.ascontiguousarray(values))[None], sigmas)
    return np.asarray(blurred[0].numpy(), np.float32)
