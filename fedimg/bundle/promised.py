"""What a bundle's model says and promises: findings in codes, the operating point, and which output is what."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedimg.bundle.fields import fault, integer, is_number, number, one_of
from fedimg.codes import Code
from fedimg.errors import DataError
from fedimg.values import Interval

OUTPUT_TASKS = ("classification", "multilabel", "regression", "segmentation", "detection")
_MOST_OUTPUTS = 1 << 30
_LARGEST = 1e12  # patients, or the end of a range
_CLASS = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a call of class `of_class` says: a code, and where in the body such a finding lies, if that is one place."""

    of_class: str
    code: Code
    site: Code | None = None

    def to_json(self) -> dict[str, Any]:
        site = self.site
        return {
            "class": self.of_class,
            "code": _listed(self.code),
            "site": None if site is None else _listed(site),
        }


@dataclass(frozen=True, slots=True)
class Point:
    """What the threshold promises. Attributes as in `monitoring.operating_point.OperatingPoint`; `threshold` is of
    the calibrated probability.
    """

    threshold: float
    target: float
    confidence: float
    positives: int
    negatives: int
    sensitivity: Interval
    specificity: Interval


@dataclass(frozen=True, slots=True)
class Output:
    """A stretch of an image's logits, flat: `start` to before `stop`, of this shape.

    Attributes: target_range: of a regression, what 0 and 1 stand for.
    """

    task: str
    start: int
    stop: int
    shape: tuple[int, ...]
    target_range: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        ends = self.target_range
        return {
            "task": self.task,
            "from": self.start,
            "to": self.stop,
            "shape": list(self.shape),
            "target_range": None if ends is None else list(ends),
        }


def read_findings(found: object, classes: Sequence[str]) -> tuple[Finding, ...]:
    """Raises DataError for what is no finding, or one of no class of the model, or two of one."""
    findings = tuple(_finding(one) for one in _objects(found, "findings"))
    named = [one.of_class for one in findings]
    if len(set(named)) < len(named) or not set(named) <= set(classes):
        raise fault("fedimg.findings", "of the model's classes, each once")
    return findings


def _finding(found: Mapping[str, Any]) -> Finding:
    name, site = found.get("class"), found.get("site")
    if not isinstance(name, str) or not _CLASS.fullmatch(name):
        raise fault("fedimg.findings", "a list of class, code and site")
    return Finding(name, _code(found.get("code")), None if site is None else _code(site))


def _code(found: object) -> Code:
    if not isinstance(found, list) or len(found) != 3 or not all(isinstance(one, str) for one in found):
        raise fault("fedimg.findings", "with codes of value, scheme and meaning")
    try:
        return Code(*found)
    except DataError:
        raise fault("fedimg.findings", "with codes as DICOM writes them") from None


def read_point(found: object) -> Point | None:
    """None where there is none. Raises DataError."""
    if found is None:
        return None
    if not isinstance(found, dict):
        raise fault("fedimg.operating_point", "an object, or null")
    return Point(
        threshold=number(found, "threshold", 0, 1),
        target=number(found, "target", 0, 1),
        confidence=number(found, "confidence", 0, 1),
        positives=integer(found, "positives", 0, int(_LARGEST)),
        negatives=integer(found, "negatives", 0, int(_LARGEST)),
        sensitivity=_share(found.get("sensitivity")),
        specificity=_share(found.get("specificity")),
    )


def _share(found: object) -> Interval:
    if not isinstance(found, dict):
        raise fault("fedimg.operating_point", "with value, low and high of sensitivity and specificity")
    value, low, high = (number(found, key, 0, 1) for key in ("value", "low", "high"))
    if not low <= value <= high:
        raise fault("fedimg.operating_point", "with intervals around their values")
    return Interval(value, low, high)


def read_outputs(found: object) -> tuple[Output, ...]:
    """One behind the other from 0 on. Raises DataError."""
    outputs = tuple(_output(one) for one in _objects(found, "outputs"))
    starts = [0, *(one.stop for one in outputs)]
    if not outputs or [one.start for one in outputs] != starts[:-1]:
        raise fault("fedimg.outputs", "one stretch behind the other, from 0 on")
    return outputs


def _output(found: Mapping[str, Any]) -> Output:
    shape, ends = found.get("shape"), found.get("target_range")
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= 4
        or not all(type(n) is int and n > 0 for n in shape)
    ):
        raise fault("fedimg.outputs", "with shapes")
    start, stop = (integer(found, key, 0, _MOST_OUTPUTS) for key in ("from", "to"))
    if stop - start != math.prod(shape):
        raise fault("fedimg.outputs", "as long as their shapes say")
    return Output(
        one_of(found, "task", OUTPUT_TASKS), start, stop, tuple(shape), None if ends is None else _ends(ends)
    )


def _ends(found: object) -> tuple[float, float]:
    if (
        not isinstance(found, list)
        or len(found) != 2
        or not all(is_number(n) and abs(n) <= _LARGEST for n in found)
    ):
        raise fault("fedimg.outputs", "with ranges of two numbers")
    low, high = found
    if not low < high:
        raise fault("fedimg.outputs", "with ranges, the second end the larger")
    return float(low), float(high)


def _objects(found: object, key: str) -> list[dict[str, Any]]:
    if not isinstance(found, list) or len(found) > 1000 or not all(isinstance(one, dict) for one in found):
        raise fault(f"fedimg.{key}", "a list of objects")
    return found


def _listed(code: Code) -> list[str]:
    return [code.value, code.scheme, code.meaning]
