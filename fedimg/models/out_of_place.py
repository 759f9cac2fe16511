"""In-place operators turned into ones that make a new tensor.

An in-place residual (`out += shortcut`) overwrites what another gradient may still need, and under
`vmap` fails where the left side is not batched. Networks of other libraries are full of them; this
changes the operator, not their code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class OutOfPlace(TorchFunctionMode):
    """Within: `x += y`, `x.relu_()` and `inplace=True` make new tensors.

    Right wherever the code uses what the operator returns, as `x += y` always does (it binds `x`
    anew). A call whose result is dropped would be lost; `dp_ready.check` compares the outputs of
    both ways and refuses a network where they differ.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        keywords = dict(kwargs or {})
        if "inplace" in keywords:
            keywords["inplace"] = False
        return _twin(func)(*args, **keywords)


@cache
def _twin(func: Callable[..., Any]) -> Callable[..., Any]:
    """`Tensor.add_` → `Tensor.add`; any other function is returned as it is."""
    name = getattr(func, "__name__", "")
    if not name.endswith("_") or name.endswith("__") or getattr(torch.Tensor, name, None) is not func:
        return func
    twin: Callable[..., Any] = getattr(torch.Tensor, name[:-1], func)
    return twin


class InPlaceRecorder(TorchDispatchMode):
    """Within: `found` collects the names of operators that write into a tensor they were given."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: set[str] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func._schema.is_mutable:  # noqa: SLF001 - the operator's own declaration; there is no public way
            self.found.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def in_place_operators(function: Callable[[torch.Tensor], object], images: torch.Tensor) -> set[str]:
    """Names of the in-place operators that `function` runs on `images`."""
    recorder = InPlaceRecorder()
    with torch.no_grad(), recorder:
        function(images)
    return recorder.found
