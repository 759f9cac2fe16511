"""Images taken a few at a time, which stay in the processor's cache; a graph that is exported takes all of its batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def portions(images: torch.Tensor, count: int) -> Sequence[torch.Tensor]:
    """`images` (B, …) in parts of `count`; whole while a graph is traced, whose batch has no size yet."""
    return [images] if torch.compiler.is_exporting() else images.split(count)
