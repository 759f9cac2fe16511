"""What a bundle says of its model: MONAI's metadata, and below `fedimg` what a site needs to let it work.

Read with an own check, whole before any of it is used: MONAI's `verify_metadata` fetches its schema from the network.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from fedimg.bundle.manifest import Opened
from fedimg.errors import DataError

METADATA = "configs/metadata.json"
FORMAT = "fedimg-model-1"
TASKS = ("classification", "multilabel", "regression", "segmentation", "detection", "several")
_MONAI = {
    "version": str,
    "changelog": dict,
    "monai_version": str,
    "pytorch_version": str,
    "numpy_version": str,
    "required_packages_version": dict,
    "task": str,
    "description": str,
    "authors": str,
    "copyright": str,
    "network_data_format": dict,
}
NAME = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
CODE = re.compile(r"[A-Z]{2,4}|[A-Z][A-Z0-9_ ]{1,15}")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Metadata:
    """Attributes:
    name, version: of the release. run: that it comes from. task, classes, image_shape (C, *spatial): as trained.
    imaging: preprocessing, every key of it. temperature: by which logits are divided; 1 where none was fitted.
    threshold: a study is called where class 1's probability is at or above it; None where none is promised.
    modalities, body_parts: of series that it may look at, DICOM's own words; empty: any.
    weights, architecture: digests, as in the release record.
    """

    name: str
    version: str
    run: str
    task: str
    classes: tuple[str, ...]
    image_shape: tuple[int, ...]
    imaging: Mapping[str, Any]
    temperature: float
    threshold: float | None
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    weights: str
    architecture: str


def read_metadata(bundle: Opened) -> Metadata:
    """Of a bundle whose signature held. Raises DataError for a field that is not what the format says."""
    found = bundle.json(METADATA)
    if not isinstance(found, dict):
        raise _fault("the whole", "an object")
    for key, kind in _MONAI.items():
        if not isinstance(found.get(key), kind):
            raise _fault(key, kind.__name__)
    own = found.get("fedimg")
    if not isinstance(own, dict) or own.get("format") != FORMAT:
        raise _fault("fedimg.format", FORMAT)
    if own.get("task") not in TASKS:
        raise _fault("fedimg.task", " or ".join(TASKS))
    imaging, threshold = own.get("imaging"), own.get("threshold")
    if not isinstance(imaging, dict):
        raise _fault("fedimg.imaging", "an object")
    if threshold is not None and not (_is_number(threshold) and 0 <= threshold <= 1):
        raise _fault("fedimg.threshold", "null or a number from 0 to 1")
    temperature, shape = own.get("temperature"), own.get("image_shape")
    if not _is_number(temperature) or not 0.01 <= temperature <= 100:
        raise _fault("fedimg.temperature", "a number from 0.01 to 100")
    if (
        not isinstance(shape, list)
        or not 3 <= len(shape) <= 4
        or not all(type(n) is int and 0 < n <= 4096 for n in shape)
    ):
        raise _fault("fedimg.image_shape", "3 or 4 sides from 1 to 4096")
    return Metadata(
        _text(own, "name", NAME),
        _text(found, "version", NAME),
        _text(own, "run", NAME),
        own["task"],
        _texts(own, "classes", NAME),
        tuple(shape),
        imaging,
        float(temperature),
        None if threshold is None else float(threshold),
        _texts(own, "modalities", CODE),
        _texts(own, "body_parts", CODE),
        _text(own, "weights", _HEX),
        _text(own, "architecture", _HEX),
    )


def _text(found: Mapping[str, Any], key: str, form: re.Pattern[str]) -> str:
    value = found.get(key)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise _fault(key, "a text of the form that the format asks for")
    return value


def _texts(found: Mapping[str, Any], key: str, form: re.Pattern[str]) -> tuple[str, ...]:
    value = found.get(key)
    if (
        not isinstance(value, list)
        or len(value) > 1000
        or not all(isinstance(v, str) and form.fullmatch(v) for v in value)
    ):
        raise _fault(f"fedimg.{key}", "a list of texts")
    return tuple(value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _fault(where: str, expected: str) -> DataError:
    """Names the field and never quotes it."""
    return DataError(
        f"{where} of a bundle's metadata to be {expected}", "something else", "ask for the bundle again"
    )
