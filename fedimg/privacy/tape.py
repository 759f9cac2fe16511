"""Which operators met a parameter vector, and what came back to each: the record that book-keeping works from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from fedimg.privacy.layer_gradients import LayerGradient, Written


class NoRuleError(RuntimeError):
    """The network uses its parameters in a way for which book-keeping has no rule."""


# Called as the operator is, with the tape in front; gives what the operator gives.
Rule = Callable[..., torch.Tensor]
Rules = Mapping[Callable[..., Any], Rule]


class Tape(TorchFunctionMode):
    """Within: notes each operator that meets a view of `flat`, for `number` images, `images` a patient.

    After a backward pass `layers` has one entry for each parameter that the output depends on.
    """

    def __init__(self, flat: torch.Tensor, number: int, images: int, rules: Rules) -> None:
        super().__init__()
        self._rules = rules
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
        rule = self._rules.get(func)
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
        self.check(inputs, output)
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

    def check(self, *values: torch.Tensor) -> None:
        if any(value.shape[0] != self.number for value in values):
            raise NoRuleError("a layer whose first axis is not that of the images")

    def copies(self, parameter: torch.Tensor) -> torch.Tensor:
        """(size,) → (N·size,): one for each image, whose gradient is noted as that image's."""
        start, own = self.offset(parameter), parameter.detach().repeat(self.number).requires_grad_()

        def came_back(gradient: torch.Tensor) -> None:
            self.layers.append(self.written(start, gradient.view(self.number, -1)))

        own.register_hook(came_back)
        return own

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
