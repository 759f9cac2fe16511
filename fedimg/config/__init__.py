"""Configuration: Hydra composes plain YAML, a strict builder makes a frozen typed tree of it.

The tree is made of the stations' own sections, so its module imports them all. It is loaded when it is first
asked for: `keys`, which answers a typo, needs none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedimg.config.composition import compose, dump, load, sweep
    from fedimg.config.evaluation import EvaluationConfig
    from fedimg.config.schema import Config, EngineConfig, settled

__all__ = [
    "Config",
    "EngineConfig",
    "EvaluationConfig",
    "compose",
    "dump",
    "load",
    "settled",
    "sweep",
]

_COMPOSITION = ("compose", "dump", "load", "sweep")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "composition" if name in _COMPOSITION else "schema"
    return getattr(import_module(f"fedimg.config.{module}"), name)
