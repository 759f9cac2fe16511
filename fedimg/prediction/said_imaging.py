"""What a bundle says of preprocessing → `ImagingConfig`, whole and exact, or refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from fedimg.errors import DataError, FedimgError
from fedimg.imaging.config import PIPELINE_VERSION, ImagingConfig

_VERSION = "pipeline_version"


def imaging_of(said: Mapping[str, Any]) -> ImagingConfig:
    """Every key and no other, of values that come back as they were.

    Raises DataError: another version of preprocessing, whose floats would be others, or what is none.
    """
    if said.get(_VERSION) != PIPELINE_VERSION:
        raise DataError(
            f"a bundle of preprocessing {PIPELINE_VERSION}",
            "another",
            "use the fedimg that made it, or make it anew",
        )
    own = {key: value for key, value in said.items() if key != _VERSION}
    try:
        found = ImagingConfig(**_arguments(ImagingConfig(), own))
        if json.loads(json.dumps(asdict(found))) == own:
            return found
        fault = "another value"
    except (FedimgError, TypeError, ValueError, AttributeError) as error:
        fault = type(error).__name__
    raise DataError("preprocessing as fedimg describes it", fault, "ask for the bundle again")


def _arguments(default: Any, said: Mapping[str, Any]) -> dict[str, Any]:
    """By the types of a default's own values: sections inside are built, lists are tuples."""
    found = {}
    for one in fields(default):
        own, value = getattr(default, one.name), said.get(one.name)
        if is_dataclass(own) and isinstance(value, Mapping):
            build: Any = type(own)
            found[one.name] = build(**_arguments(own, value))
        elif isinstance(value, Mapping):
            found[one.name] = {key: _tuples(item) for key, item in value.items()}
        else:
            found[one.name] = _tuples(value)
    return found


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value
