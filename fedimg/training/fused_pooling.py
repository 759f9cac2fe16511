"""2-D max pooling whose `vmap` rule leaves the clients beside the channels."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from fedimg.training.fused_layout import Dims, Opaque, apart, apply_operator, beside_channels, pair

_pool = torch.ops.aten.max_pool2d_with_indices.default
_pool_backward = torch.ops.aten.max_pool2d_with_indices_backward.default


class _PoolingGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        gradient: torch.Tensor, images: torch.Tensor, indices: torch.Tensor, geometry: Opaque
    ) -> torch.Tensor:
        gradients: torch.Tensor = _pool_backward(gradient, images, *geometry.value, False, indices)
        return gradients

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept: local training takes first derivatives only."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Dims,
        gradient: torch.Tensor,
        images: torch.Tensor,
        indices: torch.Tensor,
        geometry: Opaque,
    ) -> tuple[torch.Tensor, int]:
        merged = (
            beside_channels(t, d, info.batch_size)
            for t, d in zip((gradient, images, indices), in_dims[:3], strict=True)
        )
        return apart(apply_operator(_PoolingGradient, *merged, geometry), info.batch_size), 1


class _Pooling(torch.autograd.Function):
    @staticmethod
    def forward(images: torch.Tensor, geometry: Opaque) -> tuple[torch.Tensor, torch.Tensor]:
        pooled, indices = _pool(images, *geometry.value)
        return pooled, indices

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
        images, ctx.geometry = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(images, output[1])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return apply_operator(_PoolingGradient, gradients[0], *ctx.saved_tensors, ctx.geometry), None

    @staticmethod
    def vmap(
        info: Any, in_dims: Dims, images: torch.Tensor, geometry: Opaque
    ) -> tuple[tuple[torch.Tensor, ...], tuple[int, int]]:
        pooled = apply_operator(_Pooling, beside_channels(images, in_dims[0], info.batch_size), geometry)
        return tuple(apart(t, info.batch_size) for t in pooled), (1, 1)


def max_pool2d(
    input: torch.Tensor,  # noqa: A002 - the same
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """`F.max_pool2d`; what the rule does not cover goes there."""
    if ceil_mode or return_indices or input.dim() != 4:
        plain: Any = F.max_pool2d
        return plain(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    kernel = pair(kernel_size)
    geometry = Opaque((kernel, pair(stride) if stride else kernel, pair(padding), pair(dilation)))
    return apply_operator(_Pooling, input, geometry)[0]
