"""What a model is released for, in YAML: `conf/findings/NAME.yaml`, or a file of one's own.

name: Pulmonary nodule
description: Finds solid nodules in chest CT.
kind: tumour                     # tumour, cardiac, stroke or other
modalities: [CT]
body_parts: [CHEST]
least_images: 8                  # a series with fewer is not looked at
sensitivity: 0.9                 # that the threshold is to promise; 0.95 where none is named
findings:
  - class: lesion                # a name among the model's classes
    code: ["27925004", "SCT", "Nodule"]
    site: ["39607008", "SCT", "Lung"]
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from fedimg.bundle import Finding
from fedimg.codes import Code
from fedimg.config import strict
from fedimg.config.keys import conf_folder
from fedimg.errors import ConfigError, DataError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LARGEST_BYTES = 1 << 16
_OF_CLASS = "of_class"  # `class` is a word of Python's own
_REMEDY = "see docs/bundles.md, or conf/findings/lesion.yaml for an example"


@dataclass(frozen=True, slots=True)
class Line:
    """One finding, as the file has it."""

    of_class: str
    code: tuple[str, str, str]
    site: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class FindingFile:
    """What the file has; words are judged by `bundling.Asked`."""

    name: str
    description: str
    kind: Literal["tumour", "cardiac", "stroke", "other"] = "other"
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    least_images: int = 1
    sensitivity: float = 0.95
    findings: tuple[Line, ...] = ()

    def coded(self) -> tuple[Finding, ...]:
        """Raises ConfigError for what is no code."""
        try:
            return tuple(
                Finding(one.of_class, Code(*one.code), None if one.site is None else Code(*one.site))
                for one in self.findings
            )
        except DataError as fault:
            raise ConfigError(f"findings[].code: {fault.expected}", fault.found, _REMEDY) from None


def read(name: str) -> FindingFile:
    """Of a shipped finding by its name, or of a file by its path. Raises ConfigError."""
    file = Path(name)
    shipped = conf_folder() / "findings"
    if _NAME.fullmatch(name) and not file.is_file():
        file = shipped / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(one.stem for one in shipped.glob("*.yaml")))
        raise ConfigError(f"--finding: a file, or one of {known}", "another name", _REMEDY)
    try:
        if file.stat().st_size > _LARGEST_BYTES:
            raise ConfigError("a file of a finding of at most 64 KiB", "a larger one", _REMEDY)
        content = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError("a readable YAML file of a finding", type(error).__name__, _REMEDY) from None
    return strict.build(FindingFile, _renamed(content))


def _renamed(content: Any) -> Any:
    """With `class` under the name that a field of Python can have."""
    if not isinstance(content, Mapping) or not isinstance(content.get("findings"), list):
        return content
    if any(isinstance(one, Mapping) and _OF_CLASS in one for one in content["findings"]):
        raise ConfigError("findings of class, code and site", _OF_CLASS, _REMEDY)
    lines = [
        {_OF_CLASS if key == "class" else key: value for key, value in one.items()}
        if isinstance(one, Mapping)
        else one
        for one in content["findings"]
    ]
    return {**content, "findings": lines}
