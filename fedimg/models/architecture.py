"""What a network factory returns: the part that is trained, and the part that is fixed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from fedimg.models.config import ModelConfig


@dataclass(frozen=True, slots=True)
class Architecture:
    """A trainable module, and a fixed public map in front of it.

    Attributes:
        module: (B, *feature_shape) → logits (B, classes), for segmentation (B, classes, *spatial).
        frozen: (B, C, *spatial) → (B, *feature_shape), deterministic, one example at a time, learnt
            from no patient; None where the module takes images.
        feature_shape: of one example behind `frozen`.
        linear: the module is one `nn.Linear` on flattened features, or a `CentredLinear` where
            `model.centring_rounds` asks for one.
        by_statistics: its parameters follow from sums of statistics (`fedimg.classical`), and have no gradients.
    """

    module: nn.Module
    frozen: Callable[[torch.Tensor], torch.Tensor] | None = None
    feature_shape: tuple[int, ...] | None = None
    linear: bool = False
    by_statistics: bool = False


Factory = Callable[[ModelConfig], nn.Module | Architecture]
