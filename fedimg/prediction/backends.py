"""How the graph is run here: as it is, or with its images' channels last, whichever this processor is faster with.

Chosen by measurement where it is loaded, and only among those that give the released logits of the probe. Nothing is
compiled: a compiler on a hospital's machine would have to be there, and its result would be one more thing to check.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import fx, nn

from fedimg.bundle.running import CLOSE, Released, difference

_TURNS = 5
_FASTER = 0.9
"""Another way is taken where it needs less than this share of the graph's own time: less is noise."""
_LINEAR = torch.ops.aten.linear.default
Call = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]


@dataclass(frozen=True)
class Backend:
    """Attributes: name: for people. call: (B, C, *spatial) → logits, and features (B, F) or None; seconds: of the probe."""

    name: str
    call: Call
    seconds: float


def chosen(released: Released) -> Backend:
    """The fastest that gives the released logits; the graph as it is, which was checked, is always one of them."""
    dimensions = released.images.dim() - 2
    layout = torch.channels_last if dimensions == 2 else torch.channels_last_3d
    found = []
    for name, ordered in (("graph", None), ("graph, channels last", layout)):
        backend = _measured(name, _with_features(released.module, ordered), released)
        if backend is not None:
            found.append(backend)
    plain = found[0] if found and found[0].name == "graph" else _plain(released)
    best = min(found, key=lambda one: one.seconds, default=plain)
    return best if best.seconds < _FASTER * plain.seconds else plain


def _plain(released: Released) -> Backend:
    """Without features: for a graph that cannot be copied."""

    def call(images: torch.Tensor) -> tuple[torch.Tensor, None]:
        with torch.no_grad():
            return released.module(images), None

    return Backend("graph", call, float("inf"))


def _measured(name: str, call: Call, released: Released) -> Backend | None:
    """None for one that cannot run here, or gives other logits of the probe."""
    try:
        logits, _ = call(released.images)
        if not difference(logits, released.wanted) <= CLOSE:
            return None
        seconds = []
        for _ in range(_TURNS):
            started = time.perf_counter()
            call(released.images)
            seconds.append(time.perf_counter() - started)
    except RuntimeError:  # an operator without this layout: the other way is left
        return None
    return Backend(name, call, statistics.median(seconds))


def _with_features(module: nn.Module, layout: torch.memory_format | None) -> Call:
    """A copy of the graph that gives beside its logits what its last linear layer reads, if that is one row an image."""
    private, twofold = _copied(module)
    if layout is not None:
        _reorder(private, layout)

    def call(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        with torch.no_grad():
            given = images if layout is None else images.contiguous(memory_format=layout)
            found = private(given)
        return (found[0], found[1]) if twofold else (found, None)

    return call


def _copied(module: nn.Module) -> tuple[nn.Module, bool]:
    """The same operators and parameters in a module of its own, and whether it gives features too."""
    if not isinstance(module, fx.GraphModule):
        return module, False
    rows = [
        node
        for node in module.graph.nodes
        if node.op == "call_function" and node.target is _LINEAR and _is_row(node.args[0])
    ]
    graph, copied = fx.Graph(), dict[fx.Node, fx.Node]()
    outputs = graph.graph_copy(module.graph, copied)
    logits = outputs[0] if isinstance(outputs, tuple | list) else outputs
    graph.output((logits, copied[rows[-1].args[0]]) if rows else logits)
    return fx.GraphModule(module, graph), bool(rows)


def _reorder(module: nn.Module, layout: torch.memory_format) -> None:
    """Filters in the order of the images; the original's are left as they are."""
    axes = 4 if layout is torch.channels_last else 5
    for name, parameter in list(module.named_parameters()):
        if parameter.dim() == axes:
            owner = module.get_submodule(name.rpartition(".")[0])
            ordered = parameter.detach().contiguous(memory_format=layout)
            setattr(owner, name.rpartition(".")[2], nn.Parameter(ordered, requires_grad=False))


def _is_row(argument: object) -> bool:
    value = argument.meta.get("val") if isinstance(argument, fx.Node) else None
    return isinstance(value, torch.Tensor) and value.dim() == 2
