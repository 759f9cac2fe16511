"""Labels of voxels and findings, moved with their image by the same draws.

A class goes to the voxel that takes its place (nearest neighbour: there is nothing between two classes). A heat map of
findings (`findings.heat_map`) is made anew of the moved findings: a blurred centre would be none. A turned finding is
taken for an ellipse that fills its box, since a box of turned corners is too large for anything round (Kalra et al.
2021, "Towards Rotation Invariance in Object Detection", arXiv 2109.13488). What is brightness touches no label.
"""

from __future__ import annotations

import math
from functools import reduce

import torch

from fedimg.imaging.augmentation import move
from fedimg.imaging.config import AugmentationConfig
from fedimg.imaging.findings import LEAST_SIGMA, MOST

_VOXELS_AT_ONCE = 1 << 16  # which stay in a processor's cache
_ROUNDING = 1e-3  # voxels: a centre that float32 puts a hair before its voxel is in it


def copies(
    labels: torch.Tensor, axes: int, config: AugmentationConfig, uniform: torch.Tensor
) -> torch.Tensor:
    """(N·K, …) labels of K copies of each image, as `augmentation.augment_copies` makes them of the same draws.

    Args:
        labels: (N,) or (N, findings) of images, which stay; (N, *spatial) classes; (N, heat + axes, *spatial).
        axes: of an image. uniform: (N·K, 6).
    """
    labels = labels.repeat_interleave(config.copies, dim=0)
    if not config.moves or labels.dim() <= axes:
        return labels
    if labels.dim() == axes + 1:
        moved = move(labels[:, None].to(uniform.dtype), config, uniform, "nearest")
        return moved[:, 0].to(labels.dtype)
    return move_findings(labels, config, uniform)


def move_findings(target: torch.Tensor, config: AugmentationConfig, uniform: torch.Tensor) -> torch.Tensor:
    """Heat maps with sizes, (N, heat + axes, *spatial), of the moved findings.

    A finding less than half of which is left, so that its centre is outside of the image, is gone; of others the box is
    cut at the edge, as a mask would be. Of two that would share a centre one is left. Nothing here depends on how
    many findings there are: shapes and time are those of `MOST`. NaN, which holds a patient back, stays.
    """
    together = max(1, _VOXELS_AT_ONCE // math.prod(target.shape[2:]))
    parts = zip(target.split(together), uniform.split(together), strict=True)
    return torch.cat([_findings_of(some, config, draws) for some, draws in parts])


def _findings_of(target: torch.Tensor, config: AugmentationConfig, uniform: torch.Tensor) -> torch.Tensor:
    spatial, known = target.shape[2:], target.nan_to_num(0.0, 0.0, 0.0)
    heats, sizes = known[:, : -len(spatial)], known[:, -len(spatial) :]
    drawn = [_drawn(heat, *_boxes(heat, sizes, config, uniform), spatial) for heat in heats.split(1, dim=1)]
    maps = torch.cat([heat for heat, _ in drawn], dim=1)
    moved = torch.cat([maps, torch.stack([size for _, size in drawn]).amax(dim=0)], dim=1)
    finite = torch.isfinite(target.flatten(1)).all(dim=1).reshape(-1, *(1,) * (target.dim() - 1))
    return torch.where(finite, moved, torch.nan).to(target.dtype)


def _boxes(
    heat: torch.Tensor, sizes: torch.Tensor, config: AugmentationConfig, uniform: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Which of (N, K) findings are there, and their moved boxes' first and last edge, (N, K, axes) each, in voxels."""
    spatial, axes = heat.shape[2:], sizes.shape[1]
    score, place = heat.flatten(1).topk(min(MOST, math.prod(spatial)), dim=1)
    centre = torch.stack(torch.unravel_index(place, spatial), dim=2).to(uniform.dtype)
    size = torch.gather(sizes.flatten(2), 2, place[:, None].expand(-1, axes, -1)).transpose(1, 2)
    size = size.to(uniform.dtype)
    # `heat_map` puts a box's centre into voxel (start + stop − 1) // 2
    middle = centre - torch.floor((size - 1) / 2) + size / 2
    moved, extent = _moved(middle, size, spatial, config, uniform)
    limits = torch.tensor(spatial, dtype=uniform.dtype, device=uniform.device)
    inside = ((moved >= 0) & (moved <= limits)).all(dim=2)
    low, high = (moved - extent / 2).clamp(min=0), torch.minimum(moved + extent / 2, limits)
    return (score == 1) & inside, low, high


def _moved(
    middle: torch.Tensor,
    size: torch.Tensor,
    spatial: torch.Size,
    config: AugmentationConfig,
    uniform: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where `augmentation.move` takes points (N, K, axes), and the sides of ellipses turned with them."""
    height, width = spatial[-2:]
    signed = 2 * uniform - 1
    angle = signed[:, :1] * math.radians(config.rotation_degrees)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    mirror = torch.where(uniform[:, 3:4] < 0.5, -1.0, 1.0).to(middle) if config.flip else 1.0
    x, y = mirror * (middle[..., -1] - width / 2), middle[..., -2] - height / 2
    across = cosine * x - sine * y + width / 2 + width * config.shift_fraction * signed[:, 1:2]
    down = sine * x + cosine * y + height / 2 + height * config.shift_fraction * signed[:, 2:3]
    tall, wide = size[..., -2], size[..., -1]
    sides = [
        ((sine * wide) ** 2 + (cosine * tall) ** 2).sqrt(),
        ((cosine * wide) ** 2 + (sine * tall) ** 2).sqrt(),
    ]
    before = [middle[..., :-2], size[..., :-2]]  # slices of a volume move alike, within themselves
    return (
        torch.cat([before[0], torch.stack([down, across], dim=2)], dim=2),
        torch.cat([before[1], torch.stack(sides, dim=2)], dim=2),
    )


def _drawn(
    heat: torch.Tensor, there: torch.Tensor, low: torch.Tensor, high: torch.Tensor, spatial: torch.Size
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 1, *spatial) heat and (N, axes, *spatial) sizes of boxes (N, K, axes): what `findings.heat_map` draws."""
    size, limits = (high - low).clamp(min=1), torch.tensor(spatial, device=low.device)
    centre = torch.floor((low + high) / 2 - 0.5 + _ROUNDING).clamp(min=0)
    centre = torch.minimum(centre.long(), limits - 1)
    sigma = (size / 6).clamp(min=LEAST_SIGMA)
    nearest, lines = heat.new_full((len(heat), *spatial), torch.inf), list[torch.Tensor]()
    for axis, length in enumerate(spatial):
        line = torch.arange(length, device=low.device, dtype=low.dtype)
        apart = ((line - centre[..., axis, None]) / sigma[..., axis, None]).square()
        lines.append(apart.unflatten(2, [length if other == axis else 1 for other in range(len(spatial))]))
    lines[0] = lines[0] + torch.where(there, 0.0, torch.inf).reshape(*there.shape, *(1,) * len(spatial))
    for k in range(there.shape[1]):  # one after the other: all at once would be as many maps
        nearest = torch.minimum(nearest, reduce(torch.add, [line[:, k] for line in lines]))
    flat = centre[..., 0]
    for axis, length in enumerate(spatial[1:], start=1):
        flat = flat * length + centre[..., axis]
    return torch.exp(-nearest / 2)[:, None], _at_centres(flat, there, size, spatial)


def _at_centres(
    place: torch.Tensor, there: torch.Tensor, size: torch.Tensor, spatial: torch.Size
) -> torch.Tensor:
    """(N, axes, *spatial): each finding's size at its centre, and 0 elsewhere; of two at one place the last in order."""
    count = place.shape[1]
    order = torch.where(there, torch.arange(1, count + 1, device=place.device), 0)
    none = place.new_zeros((len(place), math.prod(spatial)))
    last = none.scatter_reduce(1, place, order, "amax")
    padded = torch.cat([torch.zeros_like(size[:, :1]), size], dim=1).transpose(1, 2)
    sizes = torch.gather(padded, 2, last[:, None].expand(-1, size.shape[2], -1))
    return sizes.reshape(*sizes.shape[:2], *spatial)
