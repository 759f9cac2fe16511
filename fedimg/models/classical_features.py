"""Features that are computed once, ahead of classical learning: fixed, public, of one image alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from fedimg.errors import ConfigError
from fedimg.models.config import ModelConfig
from fedimg.models.late_fusion import joined
from fedimg.models.radiomic_features import RadiomicFeatures
from fedimg.models.scattering_classifier import normalised

Features = Callable[[torch.Tensor], torch.Tensor]
_OF_TABLE = 2.0  # numbers of a table lie in ±2: as wide as an image's own, and within what trees' bins span


def frozen_features(config: ModelConfig) -> tuple[Features, int]:
    """(B, C, *spatial) → (B, d), and d. Draws from torch's generator, which `build` has seeded.

    Raises ConfigError for a projection to more numbers than there are.
    """
    base, size = _base(config)
    wanted = config.classical.projected
    if wanted > size:
        raise ConfigError(
            f"model.classical.projected up to the {size} numbers that an image has",
            str(wanted),
            "lower it, or set 0",
        )
    steps: list[Features] = [base]
    if wanted:
        # orthonormal columns: lengths are never stretched, and on average scaled by √(d/F), coordinates not at all
        rotation = torch.linalg.qr(torch.randn(size, wanted, dtype=torch.float64))[0].float()
        steps.append(lambda x: x @ rotation)
        size = wanted
    before, size = joined(_in_turn(tuple(steps)), size, config, _OF_TABLE)
    steps = [before]
    if config.classical.kernel == "rbf":
        steps.append(_fourier(size, config.classical.kernel_features, config.classical.gamma))
        size = config.classical.kernel_features
    return _in_turn(tuple(steps)), size


def _in_turn(steps: Sequence[Features]) -> Features:
    def features(images: torch.Tensor) -> torch.Tensor:
        for step in steps:
            images = step(images)
        return images

    return features


def _base(config: ModelConfig) -> tuple[Features, int]:
    if config.classical.features == "pixels":
        return lambda images: images.flatten(1), config.channels * math.prod(config.image_size)
    if config.classical.features == "radiomics":
        measured = RadiomicFeatures(config)
        return measured, measured.size
    frozen = normalised(config)
    return frozen, frozen.size


def _fourier(size: int, count: int, gamma: float) -> Features:
    """√2·cos(xW + b): inner products over `count` are close to exp(−γ‖x − y‖²).

    A. Rahimi and B. Recht, "Random Features for Large-Scale Kernel Machines", NeurIPS 2007, algorithm 1.
    """
    weight = torch.randn(size, count, dtype=torch.float64).float() * math.sqrt(2 * gamma)
    shift = torch.rand(count, dtype=torch.float64).float() * 2 * math.pi
    return lambda x: math.sqrt(2) * torch.cos(x @ weight + shift)
