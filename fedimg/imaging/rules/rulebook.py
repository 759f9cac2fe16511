"""Expert rules in YAML → a class and a score of each image.

    classes: 2
    rules:
      - {name: calcified mass, if: lesion_volume_ml > 0.5 and hu_mean > 20, class: 1, score: 0.9}
    otherwise: {class: 0, score: 0.8}

The first rule whose condition holds decides (a decision list: R. Rivest, Machine Learning 2, 1987).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fedimg.errors import ConfigError
from fedimg.imaging.measurements.registry import Value
from fedimg.imaging.rules.expression import Condition, condition
from fedimg.values import Vector

OTHERWISE = "otherwise"
_LARGEST_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class Rule:
    """`score` in [0, 1] is how sure the expert is of `label`, the class."""

    name: str
    condition: Condition
    label: int
    score: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided of one image, and the name of the rule that did."""

    label: int
    score: float
    rule: str

    def scores(self, classes: int) -> Vector:
        """(classes,), adding up to 1: `score` for its class, and the rest shared among the others."""
        shares = np.full(classes, (1 - self.score) / (classes - 1))
        shares[self.label] = self.score
        return shares


@dataclass(frozen=True, slots=True)
class Rulebook:
    """Rules in order, and what holds where none of them does."""

    classes: int
    rules: tuple[Rule, ...]
    otherwise: Decision

    @property
    def names(self) -> frozenset[str]:
        """The measurements that the rules ask for."""
        return frozenset().union(*(rule.condition.names for rule in self.rules))

    def decide(self, measured: Mapping[str, Value]) -> Decision:
        """Of one image; what was not measured makes no rule hold."""
        for rule in self.rules:
            if rule.condition.holds(measured):
                return Decision(rule.label, rule.score, rule.name)
        return self.otherwise


def load_rules(path: Path) -> Rulebook:
    """Raises ConfigError, naming the key, for a file that is missing, no YAML, or says anything else than rules."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ConfigError(f"rules of up to {_LARGEST_FILE} bytes", "a larger file", "split it")
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(
            "a readable YAML file of rules", type(error).__name__, "see conf/rules/ for an example"
        ) from None
    return rulebook(content)


def rulebook(content: object) -> Rulebook:
    """The same of plain values."""
    whole = _mapping(content, "rules file", {"classes", "rules", OTHERWISE})
    classes = _whole(whole["classes"], "classes", 2, 1000)
    listed = whole["rules"]
    if not isinstance(listed, list) or not listed:
        raise ConfigError("rules: a list of at least one", type(listed).__name__, "list the rules")
    rules = tuple(_rule(item, f"rules[{place}]", classes) for place, item in enumerate(listed))
    names = [rule.name for rule in rules]
    for place, name in enumerate(names):
        if name in (*names[:place], OTHERWISE):
            raise ConfigError(f"rules[{place}].name of its own", name, "give it another name")
    last = _mapping(whole[OTHERWISE], OTHERWISE, {"class", "score"})
    return Rulebook(classes, rules, Decision(*_outcome(last, OTHERWISE, classes), OTHERWISE))


def _rule(item: object, key: str, classes: int) -> Rule:
    found = _mapping(item, key, {"name", "if", "class", "score"})
    for part in ("name", "if"):
        if not isinstance(found[part], str) or not found[part].strip():
            raise ConfigError(f"{key}.{part}: text", _shown(found[part]), "write it as text")
    return Rule(found["name"], condition(found["if"], f"{key}.if"), *_outcome(found, key, classes))


def _outcome(found: Mapping[str, Any], key: str, classes: int) -> tuple[int, float]:
    score = found["score"]
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
        raise ConfigError(f"{key}.score: a number from 0 to 1", _shown(score), "change this key")
    return _whole(found["class"], f"{key}.class", 0, classes - 1), float(score)


def _whole(value: object, key: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"{key}: a whole number from {least} to {most}", _shown(value), "change this key")
    return value


def _shown(value: object) -> str:
    """Scalars only: a few lines of YAML can name a list that would fill the memory when it is written out."""
    return repr(value)[:80] if isinstance(value, (str, int, float, type(None))) else type(value).__name__


def _mapping(value: object, key: str, keys: set[str]) -> dict[str, Any]:
    """With exactly these keys."""
    if not isinstance(value, dict):
        raise ConfigError(f"{key}: keys and values", type(value).__name__, f"give {', '.join(sorted(keys))}")
    inside = "" if key == "rules file" else f"{key}."
    for extra in value.keys() - keys:
        raise ConfigError(f"a key among {', '.join(sorted(keys))}", f"{inside}{extra}", "remove it")
    for missing in sorted(keys - value.keys()):
        raise ConfigError(f"{inside}{missing}", "no such key", "add it")
    return dict(value)
