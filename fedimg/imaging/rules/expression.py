"""A small language of conditions on measurements: comparisons, and, or, not. Nothing in it can run.

    lesion_volume_ml > 0.5 and not (hu_mean < -500 or convolution_kernel == "SHARP")

Python's grammar reads the text, and only these forms of it are let through; the tree is walked here, never compiled.
What is not known is neither true nor false (S. Kleene's strong logic): a condition on a missing measurement does not
hold, and neither does its opposite.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from fedimg.errors import ConfigError
from fedimg.imaging.measurements.registry import Value, known

_LONGEST = 1000
_ORDER: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = MappingProxyType(
    {
        ast.Lt: operator.lt,
        ast.LtE: operator.le,
        ast.Gt: operator.gt,
        ast.GtE: operator.ge,
        ast.Eq: operator.eq,
        ast.NotEq: operator.ne,
    }
)
_ALLOWED = "comparisons of measurements with numbers or words, joined by and, or, not"


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition; `names` are the measurements it asks for."""

    text: str
    names: frozenset[str]
    _tree: ast.expr

    def holds(self, measured: Mapping[str, Value]) -> bool | None:
        """None where it hangs on a measurement that is not there."""
        return _truth(self._tree, measured)


def condition(text: str, key: str) -> Condition:
    """Parse; `key` is the path of the text in its file. Raises ConfigError, naming it, for anything else."""
    if len(text) > _LONGEST:
        raise ConfigError(f"{key} up to {_LONGEST} characters", f"{len(text)}", "split it into several rules")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        names = _names(tree, key)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ConfigError(f"{key}: {_ALLOWED}", text, "correct the condition") from None
    return Condition(text, frozenset(names), tree)


def _names(node: ast.expr, key: str) -> set[str]:
    """Checks the tree on the way."""
    if isinstance(node, ast.BoolOp):
        return set().union(*(_names(part, key) for part in node.values))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return _names(node.operand, key)
    if not isinstance(node, ast.Compare) or not all(type(order) in _ORDER for order in node.ops):
        raise _refused(node, key)
    sides = [node.left, *node.comparators]
    found = {side.id for side in sides if isinstance(side, ast.Name)}
    if not found:
        raise ConfigError(f"{key}: a measurement in every comparison", ast.unparse(node), "name one")
    words = [
        side for side in sides if not isinstance(side, ast.Name) and isinstance(_constant(side, key), str)
    ]
    if words and not all(isinstance(order, (ast.Eq, ast.NotEq)) for order in node.ops):
        raise ConfigError(f"{key}: words compared by == or !=", ast.unparse(node), "correct the condition")
    for name in sorted(found):
        try:
            known(name)
        except ConfigError as error:
            raise ConfigError(f"{key}: {error.expected}", error.found, error.remedy) from None
    return found


def _constant(node: ast.expr, key: str) -> Value:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _constant(node.operand, key)
        if isinstance(number, float):
            return -number
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str)):
        if isinstance(node.value, str):
            return node.value
        if not isinstance(node.value, bool) and math.isfinite(number := float(node.value)):
            return number
    raise _refused(node, key)


def _refused(node: ast.AST, key: str) -> ConfigError:
    return ConfigError(f"{key}: {_ALLOWED}", ast.unparse(node), "correct the condition")


def _truth(node: ast.expr, measured: Mapping[str, Value]) -> bool | None:
    if isinstance(node, ast.BoolOp):
        parts = [_truth(part, measured) for part in node.values]
        decided = isinstance(node.op, ast.Or)  # one such part settles it
        return decided if decided in parts else None if None in parts else not decided
    if isinstance(node, ast.UnaryOp):
        truth = _truth(node.operand, measured)
        return None if truth is None else not truth
    assert isinstance(node, ast.Compare)  # noqa: S101 - `_names` let nothing else through
    sides = [_side(side, measured) for side in (node.left, *node.comparators)]
    parts = [_compared(order, *pair) for order, pair in zip(node.ops, pairwise(sides), strict=True)]
    return False if False in parts else None if None in parts else True


def _side(node: ast.expr, measured: Mapping[str, Value]) -> Value | None:
    return measured.get(node.id) if isinstance(node, ast.Name) else _constant(node, "")


def _compared(order: ast.cmpop, left: Value | None, right: Value | None) -> bool | None:
    """None of what is missing, not a number, or of another kind."""
    if left is None or right is None or isinstance(left, str) != isinstance(right, str):
        return None
    if any(isinstance(side, float) and math.isnan(side) for side in (left, right)):
        return None
    return bool(_ORDER[type(order)](left, right))
