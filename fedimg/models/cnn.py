"""A small convolutional network for patient-level privacy, in two or three dimensions.

Noise grows with the number of parameters and clipping with the depth, so few of both: group
normalisation instead of batch normalisation, filters standardised on request (Qiao et al. 2019,
arXiv 1903.10520), strided stages, and a head that starts at zero so that the first clipped gradients
agree between sites (what works under DP-SGD: De et al. 2022, arXiv 2204.13650; Klause et al. 2022,
arXiv 2203.00324).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from fedimg.models.architecture import Architecture
from fedimg.models.config import ModelConfig
from fedimg.models.dp_ready import group_count

_STAGES = ((1, 2), (2, 2), (4, 2), (4, 1))  # (channels ÷ width, stride)


class StandardisedConvolution(nn.Module):
    """A 3×3(×3) convolution without bias whose filters have mean 0 and variance 1/fan-in, times a gain."""

    def __init__(self, dimensions: int, inputs: int, outputs: int, stride: int, *, standardise: bool) -> None:
        super().__init__()
        self.stride, self.standardise, self.dimensions = stride, standardise, dimensions
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *(3,) * dimensions))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        weight: torch.Tensor = self.weight
        if self.standardise:
            axes = tuple(range(1, weight.dim()))
            centred = weight - weight.mean(dim=axes, keepdim=True)
            # A gain of √2 keeps the variance through the following ReLU.
            weight = centred * (2.0 / (centred.square().sum(dim=axes, keepdim=True) + 1e-6)).sqrt()
        convolve = F.conv2d if self.dimensions == 2 else F.conv3d
        return convolve(images, weight, stride=self.stride, padding=1)


class GroupNormCnn(nn.Module):
    """Four stages of convolution, group normalisation and ReLU; mean and maximum over space; a linear head.

    (B, C, *spatial) → (B, classes). The maximum sees a small lesion that the mean would dilute.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        inputs = config.channels
        for factor, stride in _STAGES:
            outputs = factor * config.width
            stages += [
                StandardisedConvolution(
                    config.dimensions, inputs, outputs, stride, standardise=config.weight_standardisation
                ),
                nn.GroupNorm(group_count(outputs), outputs),
                nn.ReLU(),
            ]
            inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(2 * inputs, config.classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.stages(images).flatten(2)
        pooled = torch.cat([features.mean(dim=2), features.amax(dim=2)], dim=1)
        return torch.as_tensor(self.head(pooled))


def cnn(config: ModelConfig) -> Architecture:
    return Architecture(GroupNormCnn(config))
