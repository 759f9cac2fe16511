"""Where clients lie in memory while they share a kernel: beside the channels, channels-last.

A tensor (K, B, C, H, W) of K clients is kept as (B, K·C, H, W) in channels-last memory, the order in
which a grouped convolution with K groups is fast on a CPU. Between that and `vmap`'s view of one
client lie only views.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

Dims = tuple[int | None, ...]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Opaque:
    """A value that `vmap` hands through instead of looking for tensors inside it."""

    value: Any


def beside_channels(tensor: torch.Tensor, dim: int | None, clients: int) -> torch.Tensor:
    """(…, B, C, H, W) with the clients at `dim` → (B, clients·C, H, W) in channels-last memory.

    A view where the memory has that order already, else one copy.
    """
    if dim is None:
        tensor, dim = tensor.expand(clients, *tensor.shape), 0
    rows = tensor.movedim(dim, 1).permute(0, 3, 4, 1, 2)
    return rows.reshape(*rows.shape[:3], clients * rows.shape[4]).contiguous().permute(0, 3, 1, 2)


def apply_operator(operator: type[torch.autograd.Function], *args: Any) -> Any:
    """`operator.apply`, whose arguments and results torch leaves untyped."""
    return operator.apply(*args)


def rows_beside_channels(images: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows of `images` (N, C, H, W) by `index` (K, B) → (K, B, C, H, W), lying as `beside_channels` wants them.

    Images of other dimensions come as they are.
    """
    clients, size = index.shape
    if images.dim() != 4:
        return images.index_select(0, index.flatten()).view(clients, size, *images.shape[1:])
    rows = images.index_select(0, index.t().flatten()).view(size, clients, *images.shape[1:])
    return rows.permute(0, 3, 4, 1, 2).contiguous().permute(3, 0, 4, 1, 2)


def apart(tensor: torch.Tensor, clients: int) -> torch.Tensor:
    """Inverse view: (B, clients·C, H, W) → (B, clients, C, H, W), clients at dimension 1."""
    return tensor.view(tensor.shape[0], clients, tensor.shape[1] // clients, *tensor.shape[2:])


def stacked(weight: torch.Tensor, dim: int | None, clients: int) -> torch.Tensor:
    """Per-client weights (O, …) with the clients at `dim` → (clients·O, …)."""
    moved = weight.expand(clients, *weight.shape) if dim is None else weight.movedim(dim, 0)
    return moved.reshape(clients * moved.shape[1], *moved.shape[2:])


def pair(value: int | tuple[int, ...]) -> Pair:
    """A kernel size, stride or padding as torch takes it, for both dimensions."""
    pair = (value, value) if isinstance(value, int) else tuple(value)
    return (pair[0], pair[-1])
