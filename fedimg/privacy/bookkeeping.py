"""Clipped sums with one forward and one backward pass over many patients at once.

The pass computes no parameter's gradient. It keeps, for each layer, what went in and what came back, from which
every patient's own norm follows, and then the sum of all patients' clipped gradients (book-keeping: Bu et
al. 2023, arXiv 2210.00038). No hooks are set on modules: operators are watched where they meet the parameter
vector, so any network that is a function of it can be taken. An operator without a rule raises
`NoRuleError`, before anything about a patient is known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from fedimg.privacy.layer_gradients import Geometry, LayerGradient, of_weight
from fedimg.privacy.tape import NoRuleError, Rule, Rules, Tape

__all__ = ["NoRuleError", "record", "rows", "squared_norms"]


def record(
    flat: torch.Tensor,
    images: torch.Tensor,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> list[LayerGradient]:
    """Per-patient gradients of `loss`, kept layer by layer.

    Args:
        flat: (P,) parameters. images: (B, M, C, *spatial).
        loss: (P,) and (B·M, C, *spatial) → (), a sum over patients in which no image meets another.

    Raises:
        NoRuleError: decided by the network's code alone.
    """
    parameters, flattened = flat.detach(), images.flatten(0, 1)
    tape = Tape(parameters, len(flattened), images.shape[1], _RULES)
    with torch.enable_grad():
        with tape:
            total = loss(parameters, flattened)
        if total.requires_grad:
            total.backward()
    return tape.layers


def squared_norms(layers: list[LayerGradient], images: torch.Tensor) -> torch.Tensor:
    """(B,) float64 squared norms of the whole gradients of `images` (B, M, C, *spatial)."""
    if not layers:
        return torch.zeros(len(images), dtype=torch.float64, device=images.device)
    return torch.stack([layer.squared_norms() for layer in layers]).sum(dim=0)


def rows(layers: list[LayerGradient], patients: int, flat: torch.Tensor) -> torch.Tensor:
    """(B, P): every patient's whole gradient, written out."""
    result = flat.new_zeros((patients, flat.numel()))
    for layer in layers:
        part = layer.rows()
        result[:, layer.offset : layer.offset + part.shape[1]] = part
    return result


def _sizes(value: Any, axes: int) -> tuple[int, ...]:
    if isinstance(value, str):
        raise NoRuleError("padding by name")
    return tuple(value) if isinstance(value, (tuple, list)) else (int(value),) * axes


def _linear(
    tape: Tape,
    input: torch.Tensor,  # noqa: A002 - torch's own names, by which they may be passed
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    start, note_bias = tape.offset(weight), tape.bias(bias)
    geometry = Geometry(tuple(weight.shape), tape.images)
    kept = input.detach()

    def note(gradient: torch.Tensor) -> list[LayerGradient]:
        met, back = kept, gradient
        if kept.dim() > 2:
            met, back = (t.flatten(1, -2).mT for t in (kept, gradient))
        return [of_weight(start, geometry, met, back), *note_bias(back)]

    return tape.watch(input, F.linear(input, weight, bias), note)


def _of_filter(
    tape: Tape,
    inputs: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    geometry: Geometry,
) -> Callable[[torch.Tensor], list[LayerGradient]]:
    """Of (N, O, *spatial) gradients, the entries of a filter's weight and bias."""
    start, note_bias, kept = tape.offset(weight), tape.bias(bias), inputs.detach()

    def note(gradient: torch.Tensor) -> list[LayerGradient]:
        return [of_weight(start, geometry, kept, gradient), *note_bias(gradient)]

    return note


def _convolution(plain: Callable[..., torch.Tensor]) -> Rule:
    def rule(
        tape: Tape,
        input: torch.Tensor,  # noqa: A002 - torch's own names, by which they may be passed
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> torch.Tensor:
        axes = weight.dim() - 2
        strides, margins, gaps = (_sizes(value, axes) for value in (stride, padding, dilation))
        geometry = Geometry(tuple(weight.shape), tape.images, strides, margins, gaps, groups)
        note = _of_filter(tape, input, weight, bias, geometry)
        return tape.watch(input, plain(input, weight, bias, stride, padding, dilation, groups), note)

    return rule


def _transposed(plain: Callable[..., torch.Tensor]) -> Rule:
    def rule(
        tape: Tape,
        input: torch.Tensor,  # noqa: A002
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> torch.Tensor:
        axes = weight.dim() - 2
        strides, margins, gaps = (_sizes(value, axes) for value in (stride, padding, dilation))
        geometry = Geometry(
            tuple(weight.shape),
            tape.images,
            strides,
            margins,
            gaps,
            groups,
            transposed=True,
            output_padding=_sizes(output_padding, axes),
        )
        note = _of_filter(tape, input, weight, bias, geometry)
        output = plain(input, weight, bias, stride, padding, output_padding, groups, dilation)
        return tape.watch(input, output, note)

    return rule


def _group_norm(
    tape: Tape,
    input: torch.Tensor,  # noqa: A002
    num_groups: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    if weight is None or bias is None:
        raise NoRuleError("group normalisation with half of its parameters")
    number, channels = input.shape[:2]
    tape.check(input)
    # All images as one with their channels beside each other, and a copy of the parameters for each: what comes back
    # to the copies is every image's own share, which the operator's backward has added up on its way anyway.
    own_weight, own_bias = tape.copies(weight), tape.copies(bias)
    whole = input.contiguous()
    output, _mean, _rstd = torch.native_group_norm(
        whole.view(1, number * channels, -1),
        own_weight,
        own_bias,
        1,
        number * channels,
        whole[0, 0].numel(),
        number * num_groups,
        eps,
    )
    return output.view_as(whole)


def _prelu(tape: Tape, input: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:  # noqa: A002
    start, kept = tape.offset(weight), input.detach()

    def note(gradient: torch.Tensor) -> list[LayerGradient]:
        per_channel = (gradient * kept.clamp(max=0)).flatten(2).sum(dim=2)
        return [tape.written(start, per_channel if weight.numel() > 1 else per_channel.sum(1, keepdim=True))]

    return tape.watch(input, F.prelu(input, weight), note)


_RULES: Rules = {
    F.linear: _linear,
    F.conv1d: _convolution(F.conv1d),
    F.conv2d: _convolution(F.conv2d),
    F.conv3d: _convolution(F.conv3d),
    F.conv_transpose2d: _transposed(F.conv_transpose2d),
    F.conv_transpose3d: _transposed(F.conv_transpose3d),
    F.group_norm: _group_norm,
    F.prelu: _prelu,
}
