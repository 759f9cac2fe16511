"""Clipped sums with one forward and one backward pass over many patients at once.

The pass computes no parameter's gradient. It keeps, for each layer, what went in and what came back, from which
every patient's own norm follows, and then the sum of all patients' clipped gradients (book-keeping: Bu et
al. 2023, arXiv 2210.00038). No hooks are set on modules: operators are watched where they meet the parameter
vector, so any network that is a function of it can be taken. An operator without a rule raises
`NoRuleError`, before anything about a patient is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from fedimg.privacy.layer_gradients import Geometry, LayerGradient, Written, of_weight


class NoRuleError(RuntimeError):
    """The network uses its parameters in a way for which book-keeping has no rule."""


Rule = Callable[..., torch.Tensor]


class Tape(TorchFunctionMode):
    """Within: notes each operator that meets a view of `flat`, for `number` images, `images` a patient.

    After a backward pass `layers` has one entry for each parameter that the output depends on.
    """

    def __init__(self, flat: torch.Tensor, number: int, images: int) -> None:
        super().__init__()
        self.layers: list[LayerGradient] = []
        self.number, self.images = number, images
        self._storage, self._start = flat.untyped_storage().data_ptr(), flat.storage_offset()
        self._seen: set[int] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        keywords = dict(kwargs or {})
        if keywords.get("inplace"):
            keywords["inplace"] = False
        if func is F.relu_:
            func = F.relu
        if not any(self._meets(value) for value in (*args, *keywords.values())):
            return func(*args, **keywords)
        rule = _RULES.get(func)
        if rule is not None:
            return rule(self, *args, **keywords)
        result = func(*args, **keywords)
        if any(isinstance(leaf, torch.Tensor) and not self._meets(leaf) for leaf in tree_leaves(result)):
            raise NoRuleError(f"{getattr(func, '__name__', 'an operator')} on a parameter")
        return result

    def _meets(self, value: Any) -> bool:
        if isinstance(value, torch.Tensor):
            return value.untyped_storage().data_ptr() == self._storage
        return isinstance(value, (tuple, list)) and any(self._meets(part) for part in value)

    def offset(self, parameter: torch.Tensor) -> int:
        """Where a parameter starts in the flat vector; it must be used once, and whole."""
        start = int(parameter.storage_offset() - self._start)
        if not self._meets(parameter) or not parameter.is_contiguous() or start in self._seen:
            raise NoRuleError("a parameter that is used twice, or not as it lies")
        self._seen.add(start)
        return start

    def watch(
        self,
        inputs: torch.Tensor,
        output: torch.Tensor,
        note: Callable[[torch.Tensor], Iterable[LayerGradient]],
    ) -> torch.Tensor:
        """Have `note` called with the gradient of `output`; `inputs` must be as they were then."""
        if inputs.shape[0] != self.number or output.shape[0] != self.number:
            raise NoRuleError("a layer whose first axis is not that of the images")
        version = inputs._version  # noqa: SLF001 - autograd's own guard against in-place changes

        def came_back(gradient: torch.Tensor) -> None:
            if inputs._version != version:  # noqa: SLF001
                raise NoRuleError("a layer's input that was changed in place")
            with torch.no_grad():
                self.layers.extend(note(gradient))

        if not output.requires_grad:
            output.requires_grad_()
        output.register_hook(came_back)
        return output

    def bias(self, bias: torch.Tensor | None) -> Callable[[torch.Tensor], list[LayerGradient]]:
        """Of (N, O, *spatial) gradients, the bias's rows."""
        if bias is None:
            return lambda _gradient: []
        start = self.offset(bias)

        def note(gradient: torch.Tensor) -> list[LayerGradient]:
            total = gradient.flatten(2).sum(dim=2) if gradient.dim() > 2 else gradient
            return [self.written(start, total)]

        return note

    def written(self, start: int, per_image: torch.Tensor) -> Written:
        """Rows (N, size) of images, added up to rows of patients."""
        if self.images > 1:
            per_image = per_image.view(-1, self.images, per_image.shape[1]).sum(dim=1)
        return Written(start, per_image)


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
    tape = Tape(parameters, len(flattened), images.shape[1])
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
    start, note_bias = tape.offset(weight), tape.bias(bias)
    number, channels = input.shape[:2]
    whole = input.contiguous()
    output, mean, rstd = torch.native_group_norm(
        whole, weight, bias, number, channels, whole[0, 0].numel(), num_groups, eps
    )

    kept, mean, rstd = whole.detach(), mean.detach(), rstd.detach()

    def note(gradient: torch.Tensor) -> list[LayerGradient]:
        along = (gradient * kept).flatten(2).sum(dim=2).view(number, num_groups, -1)
        total = gradient.flatten(2).sum(dim=2)
        scale = (along - total.view_as(along) * mean.unsqueeze(2)) * rstd.unsqueeze(2)
        return [tape.written(start, scale.flatten(1)), *note_bias(total)]

    return tape.watch(input, output, note)


def _prelu(tape: Tape, input: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:  # noqa: A002
    start, kept = tape.offset(weight), input.detach()

    def note(gradient: torch.Tensor) -> list[LayerGradient]:
        per_channel = (gradient * kept.clamp(max=0)).flatten(2).sum(dim=2)
        return [tape.written(start, per_channel if weight.numel() > 1 else per_channel.sum(1, keepdim=True))]

    return tape.watch(input, F.prelu(input, weight), note)


_RULES: dict[Callable[..., Any], Rule] = {
    F.linear: _linear,
    F.conv1d: _convolution(F.conv1d),
    F.conv2d: _convolution(F.conv2d),
    F.conv3d: _convolution(F.conv3d),
    F.conv_transpose2d: _transposed(F.conv_transpose2d),
    F.conv_transpose3d: _transposed(F.conv_transpose3d),
    F.group_norm: _group_norm,
    F.prelu: _prelu,
}
