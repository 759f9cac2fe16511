"""2-D convolution whose `vmap` rule is one grouped convolution in channels-last memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from fedimg.training.fused_layout import (
    Dims,
    Opaque,
    Pair,
    apart,
    apply_operator,
    beside_channels,
    pair,
    stacked,
)

_convolution_backward = torch.ops.aten.convolution_backward.default


@dataclass(frozen=True, slots=True)
class _Geometry:
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int


class _ConvolutionGradients(torch.autograd.Function):
    """The three gradients of a convolution; `wanted` says which are computed at all."""

    @staticmethod
    def forward(
        gradient: torch.Tensor,
        images: torch.Tensor,
        weight: torch.Tensor,
        geometry: _Geometry,
        wanted: Opaque,
    ) -> tuple[torch.Tensor | None, ...]:
        gradients: list[torch.Tensor] = _convolution_backward(
            gradient,
            images,
            weight,
            None,
            geometry.stride,
            geometry.padding,
            geometry.dilation,
            False,
            (0, 0),
            geometry.groups,
            (*wanted.value[:2], False),
        )
        # The bias by itself: inside the joint call it costs a CPU as much as the weights.
        return (
            gradients[0] if wanted.value[0] else None,
            gradients[1] if wanted.value[1] else None,
            gradient.sum((0, 2, 3)) if wanted.value[2] else None,
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept: local training takes first derivatives only."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Dims,
        gradient: torch.Tensor,
        images: torch.Tensor,
        weight: torch.Tensor,
        geometry: _Geometry,
        wanted: Opaque,
    ) -> tuple[tuple[torch.Tensor | None, ...], Dims]:
        clients = info.batch_size
        for_images, for_weight, for_bias = apply_operator(
            _ConvolutionGradients,
            beside_channels(gradient, in_dims[0], clients),
            beside_channels(images, in_dims[1], clients),
            stacked(weight, in_dims[2], clients),
            replace(geometry, groups=geometry.groups * clients),
            wanted,
        )
        return (
            None if for_images is None else apart(for_images, clients),
            None if for_weight is None else for_weight.view(clients, -1, *for_weight.shape[1:]),
            None if for_bias is None else for_bias.view(clients, -1),
        ), (
            None if for_images is None else 1,
            None if for_weight is None else 0,
            None if for_bias is None else 0,
        )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, geometry: _Geometry
    ) -> torch.Tensor:
        return torch.conv2d(
            images, weight, bias, geometry.stride, geometry.padding, geometry.dilation, geometry.groups
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Any) -> None:
        images, weight, bias, ctx.geometry = inputs
        ctx.has_bias = bias is not None
        ctx.save_for_backward(images, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.has_bias and ctx.needs_input_grad[2])
        return (
            *apply_operator(
                _ConvolutionGradients, gradients[0], images, weight, ctx.geometry, Opaque(wanted)
            ),
            None,
        )

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Dims,
        images: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        geometry: _Geometry,
    ) -> tuple[torch.Tensor, int]:
        clients = info.batch_size
        output = apply_operator(
            _Convolution,
            beside_channels(images, in_dims[0], clients),
            stacked(weight, in_dims[1], clients),
            None if bias is None else stacked(bias, in_dims[2], clients),
            replace(geometry, groups=geometry.groups * clients),
        )
        return apart(output, clients), 1


def conv2d(
    input: torch.Tensor,  # noqa: A002 - torch's own name, by which it may be passed
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> torch.Tensor:
    """`torch.conv2d`; what the rule does not cover goes there."""
    if isinstance(padding, str) or input.dim() != 4:
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    geometry = _Geometry(pair(stride), pair(padding), pair(dilation), groups)
    output: torch.Tensor = apply_operator(_Convolution, input, weight, bias, geometry)
    return output
