"""Logistic regression on normalised scattering features: the strongest small model under privacy.

F. Tramèr and D. Boneh, "Differentially Private Learning Needs Better Features (or Much More
Data)", ICLR 2021, arXiv 2011.11660: wavelet features, group normalisation without parameters, one
linear layer. What is trained is convex, so all sites pull one way and noise averages out. Of volumes
the features are solid harmonic ones, which are few.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F

from fedimg.models.architecture import Architecture
from fedimg.models.centring import CentredLinear
from fedimg.models.config import ModelConfig
from fedimg.models.late_fusion import joined
from fedimg.models.scattering import Scattering
from fedimg.models.solid_harmonics import SolidHarmonics

_CHANNELS_IN_GROUP = 3  # 81 channels at J = 2, L = 8 make 27 groups
# Public weights that give a shape's few numbers and the many of its place about one length.
_OF_SHAPE, _OF_PLACE = 8.0, 0.5
_LEAST = 1e-4  # beside which a coefficient is none: of a flat image all are
_WHITE = 4.0  # less black, as imaging scales intensities


class Features(Protocol):
    """(B, C, *spatial) → (B, size) float32: fixed, public, of each image alone."""

    size: int

    def __call__(self, images: torch.Tensor) -> torch.Tensor: ...


class NormalisedScattering:
    """(B, C, H, W) → (B, F) float32: scattering features, normalised within each example, flattened."""

    def __init__(self, config: ModelConfig) -> None:
        height, width = config.image_size
        self._scattering = Scattering((height, width), config.scales, config.orientations)
        channels = self._scattering.channels * config.channels
        self._groups = channels // _CHANNELS_IN_GROUP if channels % _CHANNELS_IN_GROUP == 0 else channels
        rows, columns = self._scattering.feature_size
        self.size = channels * rows * columns

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return F.group_norm(self._scattering(images), self._groups).flatten(1)


class NormalisedSolidHarmonics:
    """(B, C, D, H, W) → (B, F) float32: where a volume is bright, and what shape that has, by channel.

    Where: x ⋆ φ less the volume's mean. What shape: logarithms of its coefficients, each relative to the one that it goes
    on from, as J. Andén and S. Mallat normalise ("Deep Scattering Spectrum", 2014, section IV): a second order to its
    first, a degree to degree 1, a scale to the finer one. So they say little twice, and only S_01 moves with contrast.
    All are told less those of a ball a quarter of the volume wide: numbers about zero need no centre from patients.
    """

    def __init__(self, config: ModelConfig) -> None:
        depth, height, width = config.image_size
        self._scattering = SolidHarmonics((depth, height, width), config.scales)
        paths = self._scattering.paths
        self._bases = [paths.index(_base(path)) if path != (0, 1) else -1 for path in paths]
        self._ball = torch.zeros(1, len(paths))
        self._ball = self._shapes(self._scattering(_ball((depth, height, width))[None])[1])
        self.size = (self._scattering.cells + len(paths)) * config.channels

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        volumes = images.flatten(0, 1)
        low, coefficients = self._scattering(volumes)
        place = low - volumes.mean(dim=(1, 2, 3))[:, None]
        features = torch.cat([_OF_PLACE * place, _OF_SHAPE * self._shapes(coefficients)], dim=1)
        return features.reshape(-1, self.size)

    def _shapes(self, coefficients: torch.Tensor) -> torch.Tensor:
        logarithms = (coefficients + _LEAST).log()
        bases = torch.stack(
            [logarithms[:, at] if at >= 0 else torch.zeros_like(logarithms[:, 0]) for at in self._bases],
            dim=1,
        )
        return logarithms - bases - self._ball.to(logarithms)


def _base(path: tuple[int, ...]) -> tuple[int, ...]:
    """The coefficient that another is told relative to."""
    if len(path) == 3:
        return path[:2]
    scale, degree = path
    return (scale, 1) if degree > 1 else (scale - 1, 1)


def _ball(shape: tuple[int, int, int]) -> torch.Tensor:
    """White on black, a quarter as wide as the shortest side."""
    squares = [(torch.arange(size) - (size - 1) / 2).square() for size in shape]
    distance = (squares[0][:, None, None] + squares[1][:, None] + squares[2]).sqrt()
    return (distance < min(shape) / 8).float() * _WHITE


def normalised(config: ModelConfig) -> Features:
    """Of images or of volumes. Raises ConfigError for those that are too small for `scales`."""
    return (NormalisedScattering if config.dimensions == 2 else NormalisedSolidHarmonics)(config)


def scattering(config: ModelConfig) -> Architecture:
    """Raises ConfigError for an image too small for `scales`."""
    image = normalised(config)
    frozen, size = joined(image, image.size, config)
    head = (CentredLinear if config.centring_rounds else nn.Linear)(size, config.classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return Architecture(head, frozen, (size,), linear=True)
