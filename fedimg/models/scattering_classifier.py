"""Logistic regression on normalised scattering features: the strongest small model under privacy.

F. Tramèr and D. Boneh, "Differentially Private Learning Needs Better Features (or Much More
Data)", ICLR 2021, arXiv 2011.11660: wavelet features, group normalisation without parameters, one
linear layer. What is trained is convex, so all sites pull one way and noise averages out.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from fedimg.errors import ConfigError
from fedimg.models.architecture import Architecture
from fedimg.models.centring import CentredLinear
from fedimg.models.config import ModelConfig
from fedimg.models.scattering import Scattering

_CHANNELS_IN_GROUP = 3  # 81 channels at J = 2, L = 8 make 27 groups


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


def scattering(config: ModelConfig) -> Architecture:
    """Raises ConfigError for three dimensions, or an image too small for `scales`."""
    if config.dimensions != 2:
        raise ConfigError(
            "model.dimensions=2 for scattering", str(config.dimensions), "use model=cnn for volumes"
        )
    frozen = NormalisedScattering(config)
    head = (CentredLinear if config.centring_rounds else nn.Linear)(frozen.size, config.classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return Architecture(head, frozen, (frozen.size,), linear=True)
