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
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fedimg.training.fused_convolution import conv2d
from fedimg.training.fused_pooling import max_pool2d


def fused_operators(device: torch.device) -> AbstractContextManager[object]:
    """Within: `conv2d` and `max_pool2d` take the client-fusing rules, on a CPU."""
    return _Swap() if device.type == "cpu" else nullcontext()


class _Swap(TorchFunctionMode):
    """Calls the replacement of an operator, or gives it plain rows where it wants them."""

    def __init__(self) -> None:
        super().__init__()
        self._rectified: tuple[torch.Tensor, torch.Tensor] | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _RELU and len(args) == 1 and not kwargs.get("inplace"):
            self._rectified = (args[0], torch.relu(args[0]))
            return self._rectified[1]
        if func in _POOLING and self._rectified is not None and args and args[0] is self._rectified[1]:
            # max(relu(x)) = relu(max(x)), gradients included, on a quarter of the values. The relu
            # above stays for whoever else uses it; in a traced step, unused, it is dropped.
            return max_pool2d(self._rectified[0], *args[1:], rectify=True, **kwargs)
        if func in _REPLACEMENTS:
            return _REPLACEMENTS[func](*args, **kwargs)
        if func in _NEED_PLAIN_ROWS:
            return func(args[0].contiguous(), *args[1:], **kwargs)
        return func(*args, **kwargs)


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
_RELU: set[Callable[..., Any]] = {F.relu, torch.relu}
_POOLING: set[Callable[..., Any]] = {F.max_pool2d, torch.max_pool2d}
_REPLACEMENTS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    torch.conv2d: conv2d,
    **dict.fromkeys(_POOLING, max_pool2d),
}
