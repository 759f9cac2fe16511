"""A fused step as the plain sequence of its tensor operators.

`make_fx` runs a step once and writes down every operator that `vmap` and `grad` called, with the
same values in the same order; what is left to do in Python is to call them. Two rewritings follow
that leave every value as it is: what nobody reads is dropped, and the new parameters are written
piece by piece instead of first gathering the gradient's pieces in one vector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.fx import Graph, Node
from torch.fx.experimental.proxy_tensor import make_fx

Step = TypeVar("Step", bound=Callable[..., Any])
_aten = torch.ops.aten


def traced(step: Step, *example: Any) -> Step:
    """`step` for arguments of the shapes, strides and device of `example`, without its bookkeeping.

    Only for a step without data-dependent control flow, which `vmap` demands anyway.
    """
    module = make_fx(step)(*example)
    module.graph.eliminate_dead_code()
    for node in list(module.graph.nodes):
        if node.target == _aten.addcmul.default and _is_gathered(node.args[1]):
            _write_in_pieces(module.graph, node)
    module.graph.eliminate_dead_code()
    module.recompile()
    forward: Step = module.forward
    return forward


def _shape(node: Node) -> torch.Size:
    return torch.Size(node.meta["tensor_meta"].shape)


def _is_gathered(node: Any) -> bool:
    """Whether a node puts pieces (K, p) side by side into (K, P), for one reader."""
    if not isinstance(node, Node) or node.target != _aten.cat.default or len(node.users) != 1:
        return False
    return len(_shape(node)) == 2 and node.args[1:] in ((1,), (-1,))


def _write_in_pieces(graph: Graph, node: Node) -> None:
    """params + scale · cat(pieces) → the same sums, each piece written to its place."""
    params, gathered, scale = node.args
    shape = _shape(gathered)
    with graph.inserting_before(node):
        result = graph.call_function(_aten.new_empty.default, (params, list(shape)), {"pin_memory": False})
        start = 0
        for piece in gathered.args[0]:
            end = start + _shape(piece)[1]
            target = graph.call_function(_aten.slice.Tensor, (result, 1, start, end))
            before = graph.call_function(_aten.slice.Tensor, (params, -1, start, end))
            graph.call_function(_aten.addcmul.out, (before, piece, scale), {"out": target})
            start = end
    node.replace_all_uses_with(result)
