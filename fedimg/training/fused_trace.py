"""A fused step as the plain sequence of its tensor operators.

`make_fx` runs a step once and writes down every operator that `vmap` and `grad` called, so that what
is left to do in Python is to call them again. Three rewritings follow, none of which changes a
value: what nobody reads is dropped; a chain of views becomes one view; and new parameters are
written piece by piece, where the gradient's pieces were first copied into one vector.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch.fx import Graph, GraphModule, Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves

Step = TypeVar("Step", bound=Callable[..., Any])
Layout = tuple[tuple[int, ...], tuple[int, ...], int]
_aten = torch.ops.aten


def signature(*arguments: Any) -> tuple[object, ...]:
    """What a trace depends on: shape, strides, offset, type and device of every tensor."""
    return tuple((*_layout(tensor), tensor.dtype, tensor.device) for tensor in tree_leaves(arguments))


def traced(step: Step, *example: Any) -> Step:
    """`step` for arguments with the signature of `example`, without its bookkeeping.

    Only for a step without data-dependent control flow, which `vmap` demands anyway.
    """
    module = make_fx(step)(*example)
    module.graph.eliminate_dead_code()
    _write_in_pieces(module.graph)
    _join_views(module, tree_leaves(example))
    module.recompile()
    forward: Any = module.forward
    return cast("Step", forward)


def _layout(tensor: torch.Tensor) -> Layout:
    return tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset())


def _is_view(node: Node) -> bool:
    """Whether a node only looks at its first argument's memory in another way."""
    if node.target is operator.getitem:
        return _is_view(node.all_input_nodes[0])
    if node.target == _aten._unsafe_view.default:  # noqa: SLF001 - the operator's public name
        return True
    schema = getattr(node.target, "_schema", None)
    alias = schema.returns[0].alias_info if schema is not None and schema.returns else None
    return alias is not None and not alias.is_write


class _Layouts(Interpreter):
    """Runs a graph once and notes how every view lies in the memory of the tensor behind it."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self.owner: dict[Node, Node] = {}
        self.layout: dict[Node, Layout] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_function" and _is_view(n):
            behind = n.all_input_nodes[0]
            self.owner[n] = self.owner.get(behind, behind)
        if isinstance(result, torch.Tensor):
            self.layout[n] = _layout(result)
        return result


def _join_views(module: GraphModule, example: list[torch.Tensor]) -> None:
    """Each view becomes one `as_strided` of the tensor that owns the memory, or that tensor itself."""
    found = _Layouts(module)
    with torch.no_grad():
        found.run(*example)
    made: dict[tuple[Node, Layout], Node] = {}
    for node in list(found.owner):
        owner, layout = found.owner[node], found.layout.get(node)
        if layout is None or owner not in found.layout:
            continue  # a list of views; its items are looked at by themselves
        if layout == found.layout[owner]:
            node.replace_all_uses_with(owner)
            continue
        if (owner, layout) not in made:
            with module.graph.inserting_before(node):
                made[owner, layout] = module.graph.call_function(_aten.as_strided.default, (owner, *layout))
        node.replace_all_uses_with(made[owner, layout])
    module.graph.eliminate_dead_code()


def _shape(node: Node) -> torch.Size:
    return torch.Size(node.meta["tensor_meta"].shape)


def _by_columns(node: Node) -> bool:
    """Whether columns of params + scale · cat(pieces) come from the same columns of one piece."""
    params, gathered, scale = node.all_input_nodes if len(node.all_input_nodes) == 3 else (node,) * 3
    if gathered.target != _aten.cat.default or len(_shape(gathered)) != 2 or node.kwargs:
        return False
    along = gathered.args[1] if len(gathered.args) > 1 else gathered.kwargs.get("dim", 0)
    columns = _shape(gathered)[1]
    return along in (1, -1) and _shape(params)[-1:] == (columns,) and _shape(scale)[-1:] in ((), (1,))


def _write_in_pieces(graph: Graph) -> None:
    """params + scale · cat(pieces) → the same sums, each piece written to its place."""
    for node in graph.find_nodes(op="call_function", target=_aten.addcmul.default):
        params, gathered, scale = node.args
        if gathered.target != _aten.cat.default or len(gathered.users) > 1 or not _by_columns(node):
            continue
        with graph.inserting_before(node):
            rows, columns = _shape(gathered)
            result = graph.call_function(_aten.new_empty.default, (params, [rows, columns]))
            start = 0
            for piece in gathered.args[0]:
                end = start + _shape(piece)[1]
                target = graph.call_function(_aten.slice.Tensor, (result, 1, start, end))
                before = graph.call_function(_aten.slice.Tensor, (params, -1, start, end))
                graph.call_function(_aten.addcmul.out, (before, piece, scale), {"out": target})
                start = end
        node.replace_all_uses_with(result)
        graph.erase_node(node)
        graph.erase_node(gathered)
