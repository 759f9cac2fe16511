"""2-D max pooling whose `vmap` rule leaves the clients beside the channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from fedimg.training.fused_layout import Dims, Pair, apart, apply_operator, beside_channels, pair

_pool = torch.ops.aten.max_pool2d_with_indices.default
_pool_backward = torch.ops.aten.max_pool2d_with_indices_backward.default


@dataclass(frozen=True, slots=True)
class _Geometry:
    window: tuple[Pair, Pair, Pair, Pair]  # kernel, stride, padding, dilation
    rectify: bool


class _PoolingGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        gradient: torch.Tensor,
        images: torch.Tensor,
        pooled: torch.Tensor,
        indices: torch.Tensor,
        geometry: _Geometry,
    ) -> torch.Tensor:
        if geometry.rectify:
            gradient = torch.ops.aten.threshold_backward.default(gradient, pooled, 0)
        passed: torch.Tensor = _pool_backward(gradient, images, *geometry.window, False, indices)
        return passed

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept: local training takes first derivatives only."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Dims,
        gradient: torch.Tensor,
        images: torch.Tensor,
        pooled: torch.Tensor,
        indices: torch.Tensor,
        geometry: _Geometry,
    ) -> tuple[torch.Tensor, int]:
        tensors = zip((gradient, images, pooled, indices), in_dims[:4], strict=True)
        merged = (beside_channels(tensor, dim, info.batch_size) for tensor, dim in tensors)
        return apart(apply_operator(_PoolingGradient, *merged, geometry), info.batch_size), 1


class _Pooling(torch.autograd.Function):
    @staticmethod
    def forward(images: torch.Tensor, geometry: _Geometry) -> tuple[torch.Tensor, torch.Tensor]:
        pooled, indices = _pool(images, *geometry.window)
        return torch.relu(pooled) if geometry.rectify else pooled, indices

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
        images, ctx.geometry = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(images, *output)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return apply_operator(_PoolingGradient, gradients[0], *ctx.saved_tensors, ctx.geometry), None

    @staticmethod
    def vmap(
        info: Any, in_dims: Dims, images: torch.Tensor, geometry: _Geometry
    ) -> tuple[tuple[torch.Tensor, ...], tuple[int, int]]:
        pooled = apply_operator(_Pooling, beside_channels(images, in_dims[0], info.batch_size), geometry)
        return tuple(apart(t, info.batch_size) for t in pooled), (1, 1)


def max_pool2d(
    input: torch.Tensor,  # noqa: A002 - torch's own name, by which it may be passed
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    rectify: bool = False,
) -> Any:
    """`F.max_pool2d`, with `rectify` followed by relu; what the rule does not cover goes there."""
    if ceil_mode or return_indices or input.dim() != 4:
        plain: Any = F.max_pool2d
        given = torch.relu(input) if rectify else input
        return plain(given, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    kernel = pair(kernel_size)
    window = (kernel, pair(stride) if stride else kernel, pair(padding), pair(dilation))
    return apply_operator(_Pooling, input, _Geometry(window, rectify))[0]
