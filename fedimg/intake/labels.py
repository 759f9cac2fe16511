"""Labels of released files, by instance pseudonym, at the home: one JSON line each, the last one counts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from fedimg.intake.keyed_lines import KeyedLines, read_lines
from fedimg.subgroups import UNKNOWN, Codes, checked_codes
from fedimg.values import NO_CLASS, SourceItem, Split

_TOO_LARGE = 1 << 62
_HEX = re.compile(r"([0-9a-f]{64})?")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MODALITY = re.compile(r"([A-Z][A-Z0-9_]{0,15})?")
_MOST_FEATURES = 64


@dataclass(frozen=True, slots=True)
class Label:
    """Class index, or `NO_CLASS`, and split; of what is drawn over the image the target's name and the drawing's digest, or "";
    the number to be learnt, if any; which groups the patient is of (`fedimg.subgroups`); numbers beside the image by
    name; what the table calls its modality, or "".
    """

    index: int
    split: Split
    target: str = ""
    drawn: str = ""
    value: float | None = None
    groups: Codes = field(default=UNKNOWN, repr=False)
    features: tuple[tuple[str, float], ...] = ()
    modality: str = ""

    @classmethod
    def of(cls, item: SourceItem, target: str, drawn: str, groups: Codes) -> Self:
        """Of an item that has a label."""
        beside = (item.value, groups, item.features, item.modality)
        return cls(item.label or 0, item.split, target, drawn, *beside)


def label_key(keys: Mapping[str, str]) -> str:
    """Patient and instance: broken exporters give two patients one instance number, and the label of
    one must not depend on the other.
    """
    return f"{keys['patient']}/{keys['instance']}"


def read_labels(path: Path) -> dict[str, Label]:
    """Instance → its label. A line cut short by an interruption is skipped: its input comes again."""
    return read_lines(path, _entry)


def _entry(line: bytes) -> tuple[str, Label] | None:
    """None for a line that is none, whatever stands in it."""
    try:
        return _parsed(line)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None


def _parsed(line: bytes) -> tuple[str, Label] | None:
    body: Any = json.loads(line)
    instance, label, split = body["instance"], body["label"], body["split"]
    target, drawn, value = body.get("target", ""), body.get("drawn", ""), body.get("value")
    if (
        not isinstance(instance, str)
        or type(label) is not int
        or not NO_CLASS <= label < _TOO_LARGE
        or split not in ("train", "public")
    ):
        return None
    if not all(isinstance(text, str) and _HEX.fullmatch(text) for text in (target, drawn)):
        return None
    if value is not None and not (type(value) in (int, float) and math.isfinite(value)):
        return None
    groups = checked_codes(body["groups"]) if "groups" in body else UNKNOWN
    features, modality = _features(body.get("features", {})), body.get("modality", "")
    if features is None or not (isinstance(modality, str) and _MODALITY.fullmatch(modality)):
        return None
    number = None if value is None else float(value)
    return instance, Label(label, split, target, drawn, number, groups, features, modality)


def _features(body: Any) -> tuple[tuple[str, float], ...] | None:
    """Names and finite numbers, and nothing else."""
    if not isinstance(body, dict) or len(body) > _MOST_FEATURES or not all(map(_NAME.fullmatch, body)):
        return None
    if not all(type(value) in (int, float) and math.isfinite(value) for value in body.values()):
        return None
    return tuple(sorted((name, float(value)) for name, value in body.items()))


class LabelFile(KeyedLines[Label]):
    """Appends; durable from `flush` on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _entry)

    def put(self, instance: str, label: Label) -> None:
        """Note a label, unless it is known already. Raises OSError."""
        drawn = {"target": label.target, "drawn": label.drawn} if label.target else {}
        number = {} if label.value is None else {"value": label.value}
        groups = {} if label.groups == UNKNOWN else {"groups": list(label.groups)}
        stated = {"instance": instance, "label": label.index, "split": label.split}
        beside: dict[str, Any] = {"features": dict(label.features)} if label.features else {}
        beside |= {"modality": label.modality} if label.modality else {}
        self._append(instance, label, stated | drawn | number | groups | beside)

    @property
    def targets(self) -> frozenset[str]:
        return frozenset(label.target for label in self._known.values())

    def get(self, instance: str) -> Label | None:
        return self._known.get(instance)
