"""Convolution and max pooling that stay fast when every client has its own weights.

`vmap` over a convolution with per-client weights is a grouped convolution. PyTorch's own rule
builds it channels-first, where the CPU kernels are several times slower than channels-last; and
its max pooling, clients moved in front of the batch, copies every activation. Here the clients
live beside the channels, in channels-last memory, from one layer to the next: the element-wise
operators between them keep the layout, so nothing is copied. Values agree to rounding.

`fused_operators` swaps the two operators in for the code that runs inside it; networks need not
know. Outside, and on accelerators, PyTorch's own rules stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_Dims = tuple[int | None, ...]
_Pair = tuple[int, int]
_convolution_backward = torch.ops.aten.convolution_backward.default
_pool = torch.ops.aten.max_pool2d_with_indices.default
_pool_backward = torch.ops.aten.max_pool2d_with_indices_backward.default


def fused_operators(device: torch.device) -> AbstractContextManager[object]:
    """Within: `conv2d` and `max_pool2d` take the client-fusing rules, on a CPU."""
    return _Swap() if device.type == "cpu" else nullcontext()


class _Swap(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _REPLACEMENTS:
            return _REPLACEMENTS[func](*args, **kwargs)
        if func in _NEED_PLAIN_ROWS:
            return func(args[0].contiguous(), *args[1:], **kwargs)
        return func(*args, **kwargs)


def _beside_channels(tensor: torch.Tensor, dim: int | None, clients: int) -> torch.Tensor:
    """(…, B, C, H, W) with the clients at `dim` → (B, clients·C, H, W) in channels-last memory.

    A view where the memory has that order already, else one copy.
    """
    if dim is None:
        tensor, dim = tensor.expand(clients, *tensor.shape), 0
    rows = tensor.movedim(dim, 1).permute(0, 3, 4, 1, 2)
    return rows.reshape(*rows.shape[:3], clients * rows.shape[4]).permute(0, 3, 1, 2)


def _apply(operator: type[torch.autograd.Function], *args: Any) -> Any:
    return operator.apply(*args)


def _apart(tensor: torch.Tensor, clients: int) -> torch.Tensor:
    """Inverse view: (B, clients·C, H, W) → (B, clients, C, H, W), clients at dimension 1."""
    return tensor.view(tensor.shape[0], clients, tensor.shape[1] // clients, *tensor.shape[2:])


def _stacked(weight: torch.Tensor, dim: int | None, clients: int) -> torch.Tensor:
    """Per-client weights (O, …) with the clients at `dim` → (clients·O, …)."""
    moved = weight.expand(clients, *weight.shape) if dim is None else weight.movedim(dim, 0)
    return moved.reshape(clients * moved.shape[1], *moved.shape[2:])


@dataclass(frozen=True, slots=True)
class _Geometry:
    stride: _Pair
    padding: _Pair
    dilation: _Pair
    groups: int


@dataclass(frozen=True)
class _Opaque:
    value: Any


class _ConvolutionGradients(torch.autograd.Function):
    """The three gradients of a convolution; `wanted` says which are computed at all."""

    @staticmethod
    def forward(
        gradient: torch.Tensor,
        images: torch.Tensor,
        weight: torch.Tensor,
        geometry: _Geometry,
        wanted: _Opaque,
    ) -> tuple[torch.Tensor | None, ...]:
        gradients: tuple[torch.Tensor | None, ...] = _convolution_backward(
            gradient,
            images,
            weight,
            [weight.shape[0]],
            geometry.stride,
            geometry.padding,
            geometry.dilation,
            False,
            (0, 0),
            geometry.groups,
            wanted.value,
        )
        return tuple(gradients)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept: local training takes first derivatives only."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: _Dims,
        gradient: torch.Tensor,
        images: torch.Tensor,
        weight: torch.Tensor,
        geometry: _Geometry,
        wanted: _Opaque,
    ) -> tuple[tuple[torch.Tensor | None, ...], _Dims]:
        clients = info.batch_size
        for_images, for_weight, for_bias = _apply(
            _ConvolutionGradients,
            _beside_channels(gradient, in_dims[0], clients),
            _beside_channels(images, in_dims[1], clients),
            _stacked(weight, in_dims[2], clients),
            replace(geometry, groups=geometry.groups * clients),
            wanted,
        )
        return (
            None if for_images is None else _apart(for_images, clients),
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
            *_apply(_ConvolutionGradients, gradients[0], images, weight, ctx.geometry, _Opaque(wanted)),
            None,
        )

    @staticmethod
    def vmap(
        info: Any,
        in_dims: _Dims,
        images: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        geometry: _Geometry,
    ) -> tuple[torch.Tensor, int]:
        clients = info.batch_size
        output = _apply(
            _Convolution,
            _beside_channels(images, in_dims[0], clients),
            _stacked(weight, in_dims[1], clients),
            None if bias is None else _stacked(bias, in_dims[2], clients),
            replace(geometry, groups=geometry.groups * clients),
        )
        return _apart(output, clients), 1


class _PoolingGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        gradient: torch.Tensor, images: torch.Tensor, indices: torch.Tensor, geometry: _Opaque
    ) -> torch.Tensor:
        gradients: torch.Tensor = _pool_backward(gradient, images, *geometry.value, False, indices)
        return gradients

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept: local training takes first derivatives only."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: _Dims,
        gradient: torch.Tensor,
        images: torch.Tensor,
        indices: torch.Tensor,
        geometry: _Opaque,
    ) -> tuple[torch.Tensor, int]:
        merged = (
            _beside_channels(t, d, info.batch_size)
            for t, d in zip((gradient, images, indices), in_dims[:3], strict=True)
        )
        return _apart(_apply(_PoolingGradient, *merged, geometry), info.batch_size), 1


class _Pooling(torch.autograd.Function):
    @staticmethod
    def forward(images: torch.Tensor, geometry: _Opaque) -> tuple[torch.Tensor, torch.Tensor]:
        pooled, indices = _pool(images, *geometry.value)
        return pooled, indices

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
        images, ctx.geometry = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(images, output[1])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _apply(_PoolingGradient, gradients[0], *ctx.saved_tensors, ctx.geometry), None

    @staticmethod
    def vmap(
        info: Any, in_dims: _Dims, images: torch.Tensor, geometry: _Opaque
    ) -> tuple[tuple[torch.Tensor, ...], tuple[int, int]]:
        pooled = _apply(_Pooling, _beside_channels(images, in_dims[0], info.batch_size), geometry)
        return tuple(_apart(t, info.batch_size) for t in pooled), (1, 1)


def _pair(value: int | tuple[int, ...]) -> _Pair:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    return (pair[0], pair[-1])


def _conv2d(
    input: torch.Tensor,  # noqa: A002 - torch's own name, by which it may be passed
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> torch.Tensor:
    if isinstance(padding, str) or input.dim() != 4:
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    geometry = _Geometry(_pair(stride), _pair(padding), _pair(dilation), groups)
    output: torch.Tensor = _apply(_Convolution, input, weight, bias, geometry)
    return output


def _max_pool2d(
    input: torch.Tensor,  # noqa: A002 - the same
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    if ceil_mode or return_indices or input.dim() != 4:
        plain: Any = F.max_pool2d
        return plain(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    kernel = _pair(kernel_size)
    geometry = _Opaque((kernel, _pair(stride) if stride else kernel, _pair(padding), _pair(dilation)))
    return _apply(_Pooling, input, geometry)[0]


# Under vmap these call `contiguous` with the memory format that their input suggests, which
# PyTorch's rules refuse for channels-last (seen with 2.13).
_NEED_PLAIN_ROWS = {
    F.group_norm,
    torch.group_norm,
    F.instance_norm,
    torch.instance_norm,
    F.interpolate,
    F.avg_pool2d,
    F.adaptive_avg_pool2d,
    F.adaptive_max_pool2d,
    F.pixel_shuffle,
}
_REPLACEMENTS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    torch.conv2d: _conv2d,
    torch.max_pool2d: _max_pool2d,
    F.max_pool2d: _max_pool2d,
}
