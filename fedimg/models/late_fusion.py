"""An image's features and numbers from a table, joined in front of the last layer.

Late fusion: the image goes its own way until it is a vector, the table's few numbers theirs, and one linear layer sees
both (A. Holste et al., "End-to-End Learning of Fused Image and Non-Image Features for Improved Breast Cancer
Classification from MRI", ICCVW 2021, doi 10.1109/ICCVW54120.2021.00368: feature fusion). A number comes in two
constant planes behind the image's channels, value v in [0, 1] and presence p, and is read as p·(2v − 1) and p: one
that is missing is 0 and moves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from fedimg.errors import ConfigError, ModelError
from fedimg.models.architecture import Architecture
from fedimg.models.config import ModelConfig

_HIDDEN = 16  # of the table's own small layer: an age may count most in the middle

Features = Callable[[torch.Tensor], torch.Tensor]


def split(images: torch.Tensor, features: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, C + 2k, *spatial) → the image (B, C, *spatial) and the numbers (B, 2k), each read of one voxel."""
    if not features:
        return images, images.new_zeros((len(images), 0))
    first = images[:, -2 * features :].flatten(2)[:, :, 0]
    values, presence = first[:, 0::2], first[:, 1::2]
    return images[:, : -2 * features], torch.cat([presence * (2 * values - 1), presence], dim=1)


class LateFusion(nn.Module):
    """(B, C + 2k, *spatial) → (B, outputs): a network without its last layer, the table's numbers, and a new last layer.

    Where the old last layer started at zero, so does the new one.
    """

    def __init__(self, image: nn.Module, replaced: str, last: nn.Linear, features: int) -> None:
        super().__init__()
        self.image, self.replaced = image, replaced
        self.table = nn.Linear(2 * features, _HIDDEN)
        own = 2 * features + _HIDDEN
        self.head = nn.Linear(last.in_features + own, last.out_features)
        self._features = features
        with torch.no_grad():
            nn.init.zeros_(self.head.weight)
            self.head.weight[:, :-own].copy_(last.weight)
            nn.init.zeros_(self.head.bias)
            if last.bias is not None:
                self.head.bias.copy_(last.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        image, numbers = split(images, self._features)
        joined = [self.image(image).flatten(1), numbers, torch.relu(self.table(numbers))]
        return torch.as_tensor(self.head(torch.cat(joined, dim=1)))


def fused(architecture: Architecture, config: ModelConfig) -> Architecture:
    """A network of images that learns from the table's numbers too; as it is without `model.features`.

    One whose features are frozen has to have joined them itself (`joined`).
    Raises ModelError: a network that does not end with a linear layer to its outputs.
    """
    if not config.features or architecture.frozen is not None:
        return architecture
    module = architecture.module
    found = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Linear) and n]
    name, last = found[-1] if found else ("", None)
    if last is None or last.out_features != config.classes:
        raise _no_head(config)
    shape = (2, config.channels, *config.image_size)
    probes = torch.sin(torch.arange(math.prod(shape), dtype=torch.float32)).reshape(shape)
    try:
        with torch.no_grad():
            before = module.eval()(probes)
            module.set_submodule(name, nn.Identity())
            after = last(module(probes))
    except (RuntimeError, ValueError) as failure:
        raise _no_head(config) from failure
    if after.shape != before.shape or not torch.allclose(before, after, rtol=1e-4, atol=1e-5):
        raise _no_head(config)  # something follows the layer, or it is used twice
    return replace(architecture, module=LateFusion(module, name, last, config.features), linear=False)


def joined(
    frozen: Features, size: int, config: ModelConfig, scale: float | None = None
) -> tuple[Features, int]:
    """Frozen features of the image, with the table's numbers behind them: (B, size + 2k), and its size.

    `scale`: what the numbers are multiplied with. By default they are together up to as long as the image's, of which a
    coordinate is about 1: else a step along the gradient would hardly see them.
    """
    if not config.features:
        return frozen, size
    by = math.sqrt(size / (2 * config.features)) if scale is None else scale

    def both(images: torch.Tensor) -> torch.Tensor:
        image, numbers = split(images, config.features)
        return torch.cat([frozen(image), by * numbers], dim=1)

    return both, size + 2 * config.features


def check_frozen(config: ModelConfig, *, built_in: bool) -> None:
    """Raises ConfigError for an extension whose features are frozen: it knows of no table."""
    if config.features and not built_in:
        raise ConfigError(
            "data.features with a network that is trained whole, or a built-in one",
            f"model={config.name}, an extension whose features are frozen",
            "leave data.features empty, or choose another model",
        )


def _no_head(config: ModelConfig) -> ModelError:
    return ModelError(
        "a network that ends with a linear layer, to join data.features in front of it",
        f"model={config.name}",
        "leave data.features empty, or choose another model",
    )
