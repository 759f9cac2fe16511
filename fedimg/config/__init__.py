"""Configuration: Hydra composes plain YAML, a strict builder makes a frozen typed tree of it."""

from fedimg.config.composition import compose, dump, load, sweep
from fedimg.config.schema import Config, EngineConfig, EvaluationConfig, SecaggConfig

__all__ = [
    "Config",
    "EngineConfig",
    "EvaluationConfig",
    "SecaggConfig",
    "compose",
    "dump",
    "load",
    "sweep",
]
