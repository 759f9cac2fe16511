"""Single fields of a bundle's metadata, each of the form that the format gives it or refused, and never quoted."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from fedimg.errors import DataError

_MOST_TEXTS, _LARGEST_SIDE = 1000, 4096


def text(found: Mapping[str, Any], key: str, form: re.Pattern[str]) -> str:
    value = found.get(key)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise fault(key, "a text of the form that the format asks for")
    return value


def texts(found: Mapping[str, Any], key: str, form: re.Pattern[str]) -> tuple[str, ...]:
    value = found.get(key)
    if (
        not isinstance(value, list)
        or len(value) > _MOST_TEXTS
        or not all(isinstance(v, str) and form.fullmatch(v) for v in value)
    ):
        raise fault(f"fedimg.{key}", "a list of texts")
    return tuple(value)


def one_of(found: Mapping[str, Any], key: str, choices: Sequence[str]) -> str:
    value = found.get(key)
    if not isinstance(value, str) or value not in choices:
        raise fault(f"fedimg.{key}", " or ".join(choices))
    return value


def mapping(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = found.get(key)
    if not isinstance(value, dict):
        raise fault(f"fedimg.{key}", "an object")
    return value


def integer(found: Mapping[str, Any], key: str, least: int, most: int) -> int:
    value = found.get(key)
    if type(value) is not int or not least <= value <= most:
        raise fault(f"fedimg.{key}", f"a whole number from {least} to {most}")
    return value


def number(found: Mapping[str, Any], key: str, least: float, most: float) -> float:
    value = found.get(key)
    if not is_number(value) or not least <= value <= most:
        raise fault(f"fedimg.{key}", f"a number from {least:g} to {most:g}")
    return float(value)


def sides(found: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """Of an image: channels, then two or three lengths."""
    value = found.get(key)
    if (
        not isinstance(value, list)
        or not 3 <= len(value) <= 4
        or not all(type(n) is int and 0 < n <= _LARGEST_SIDE for n in value)
    ):
        raise fault(f"fedimg.{key}", f"3 or 4 sides from 1 to {_LARGEST_SIDE}")
    return tuple(value)


def is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def fault(where: str, expected: str) -> DataError:
    """Names the field and never quotes it."""
    return DataError(
        f"{where} of a bundle's metadata to be {expected}", "something else", "ask for the bundle again"
    )
