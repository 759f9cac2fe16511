"""Random changes of training images, as pure functions of given random numbers.

No generator is touched here: the caller draws (`draw`), so a run can say where every random number
came from, and the same draws give the same images on every engine. All operations are plain tensor
arithmetic without in-place writes; they run batched, under `torch.func.vmap`, and on any device.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.nn.functional import grid_sample

from fedimg.imaging.config import AugmentationConfig, PlacedAugmentation


class AugmentationDraws(NamedTuple):
    """Random numbers for a batch: uniform (B, 6 + modalities) in [0, 1), normal (B, C, *spatial) ~ N(0, 1).

    Columns of `uniform`: angle, shift along W, shift along H, flip, gain, bias; with `modality_dropout` one each.
    """

    uniform: torch.Tensor
    normal: torch.Tensor


def draw(images: torch.Tensor, config: AugmentationConfig, generator: torch.Generator) -> AugmentationDraws:
    """Numbers for `config.copies` copies of each of `images` (B, C, *spatial), from the given generator."""
    count = len(images) * config.copies
    uniform = torch.rand((count, 6 + _dropped(config)), generator=generator, device=generator.device)
    shape = (count, *images.shape[1:]) if config.noise_std else (count, *[1] * (images.ndim - 1))
    normal = torch.randn(shape, generator=generator, device=generator.device)
    return AugmentationDraws(uniform.to(images), normal.to(images))


def augment_copies(
    images: torch.Tensor, config: AugmentationConfig, draws: AugmentationDraws
) -> torch.Tensor:
    """(B·K, C, *spatial): K augmented copies of each image, side by side, so a patient's stay together.

    Labels go along by `labels_in_place.copies`.
    """
    return augment(images.repeat_interleave(config.copies, dim=0), config, draws)


def augment(images: torch.Tensor, config: AugmentationConfig, draws: AugmentationDraws) -> torch.Tensor:
    """Rotated, shifted, flipped, brightened and noised images.

    Args:
        images: (B, C, H, W) or (B, C, D, H, W) floating point; with D, each slice moves alike.
        draws: for this B; `normal` is read only if `noise_std` > 0.
    Returns a new tensor of the same shape. Each result depends on its own image and its own draws
    alone, which is what lets augmentation stay inside one patient's unit. With all amplitudes 0 the
    images come back as they are. With a `PlacedAugmentation` only pixels change, by modality; planes of
    presence and features do not, but for a modality that is dropped.
    """
    if isinstance(config, PlacedAugmentation):
        pixels, rest = images[:, : config.planes.pixels], images[:, config.planes.pixels :]
        draws = draws._replace(normal=draws.normal[:, : config.planes.pixels])
        return torch.cat(_present(_varied(pixels, config, draws), rest, config, draws.uniform), dim=1)
    return _varied(images, config, draws)


def _dropped(config: AugmentationConfig) -> int:
    return (
        config.planes.modalities if isinstance(config, PlacedAugmentation) and config.modality_dropout else 0
    )


def _present(
    pixels: torch.Tensor, rest: torch.Tensor, config: PlacedAugmentation, uniform: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blocks that are missing, or dropped, as zeros, and presence and features behind them."""
    several = config.planes.modalities
    if not several:
        return pixels, rest
    presence = rest[:, :several]
    if config.modality_dropout:
        there = presence.flatten(2)[:, :, 0] > 0
        kept = there & (uniform[:, 6 : 6 + several] >= config.modality_dropout)
        kept = torch.where(kept.any(dim=1, keepdim=True), kept, there)  # one always stays
        presence = presence * kept.to(presence).reshape(*kept.shape, *[1] * (presence.ndim - 2))
    blocks = presence.repeat_interleave(config.planes.block, dim=1)
    return torch.where(blocks > 0, pixels, torch.zeros_like(pixels)), torch.cat(
        [presence, rest[:, several:]], dim=1
    )


def _varied(images: torch.Tensor, config: AugmentationConfig, draws: AugmentationDraws) -> torch.Tensor:
    uniform = draws.uniform
    if config.moves:
        images = move(images, config, uniform)
    column = (-1, *[1] * (images.ndim - 1))
    signed = 2 * uniform - 1
    if config.gain:
        images = images * (1 + config.gain * signed[:, 4]).reshape(column)
    if config.bias:
        images = images + config.bias * signed[:, 5].reshape(column)
    if config.noise_std:
        images = images + config.noise_std * draws.normal
    return images


def move(
    images: torch.Tensor, config: AugmentationConfig, uniform: torch.Tensor, mode: str = "bilinear"
) -> torch.Tensor:
    """One interpolation for flip, rotation about the centre, and shift; edges are repeated.

    `mode` is "bilinear", or "nearest" for what has no values in between. The grid is built by hand:
    `affine_grid` has no rule for vmap on all supported versions.
    """
    height, width = images.shape[-2:]
    signed = 2 * uniform - 1
    angle = signed[:, 0] * math.radians(config.rotation_degrees)
    cosine, sine = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    mirror = torch.where(uniform[:, 3] < 0.5, -1.0, 1.0)[:, None, None].to(images) if config.flip else 1.0
    shift_w, shift_h = (2 * config.shift_fraction * signed[:, k, None, None] for k in (1, 2))
    # Pixel centres in [−1, 1] (align_corners=False); rotation acts in pixels, so sides need not be equal.
    y = _centres(height, images)[None, :, None] - shift_h
    x = _centres(width, images)[None, None, :] - shift_w
    source_x = mirror * (cosine * x + sine * y * (height / width))
    source_y = cosine * y - sine * x * (width / height)
    shape = torch.broadcast_shapes(source_x.shape, source_y.shape)
    grid = torch.stack([source_x.expand(shape), source_y.expand(shape)], dim=-1)
    # Slices of a volume ride along as channels: they all move alike.
    flat = images.reshape(images.shape[0], -1, height, width)
    moved = grid_sample(flat, grid, mode=mode, padding_mode="border", align_corners=False)
    return moved.reshape(images.shape)


def _centres(size: int, like: torch.Tensor) -> torch.Tensor:
    return (2 * torch.arange(size, device=like.device).to(like) + 1) / size - 1
