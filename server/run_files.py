"""Reading a run folder's files without trusting them: what is wrong is noted, never raised."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

import yaml

# Far more than any run writes; a larger file is damage, not a reason to fill the memory.
_MOST_BYTES = 64 << 20
_MOST_ROUNDS = 1 << 31
# The range of the float32 in which TensorBoard keeps a scalar; NaN is not within it either.
_LARGEST = 3e38


def is_number(value: object) -> TypeGuard[int | float]:
    """A finite number of a size that a metric can have, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def file_names(folder: Path) -> tuple[str, ...]:
    """Names of the files in a folder, hidden ones left out; none if there is no folder."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")))


def _text(path: Path) -> str:
    """The file's text; raises ValueError or OSError."""
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError
    return path.read_text("utf-8")


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError


def _json(text: str) -> Any:
    """Strict JSON: NaN and infinities are no numbers; raises ValueError or RecursionError."""
    return json.loads(text, parse_constant=_refuse_constant)


def read_mapping(path: Path, problems: list[str], *, required: bool) -> Mapping[str, Any] | None:
    """A JSON or YAML mapping; anything else is noted and None."""
    if not path.is_file():
        if required:
            problems.append(f"{path.name} is missing")
        return None
    kind = "YAML" if path.suffix == ".yaml" else "JSON"
    try:
        value = yaml.safe_load(_text(path)) if kind == "YAML" else _json(_text(path))
    except (ValueError, OSError, RecursionError, yaml.YAMLError):
        problems.append(f"{path.name} cannot be read as {kind}")
        return None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        problems.append(f"{path.name} is not a mapping")
        return None
    return value


def read_metrics(path: Path, problems: list[str]) -> tuple[Mapping[str, Any], ...]:
    """The readable rounds in ascending order; of a round written twice the later line counts."""
    if not path.is_file():
        return ()
    try:
        lines = _text(path).splitlines()
    except (ValueError, OSError):
        problems.append(f"{path.name} cannot be read as text")
        return ()
    rounds: dict[int, Mapping[str, Any]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = _json(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and type(row.get("round")) is int and 0 <= row["round"] < _MOST_ROUNDS:
            rounds[row["round"]] = row
        else:
            problems.append(f"{path.name}, line {number}, is not the JSON object of a round")
    return tuple(rounds[number] for number in sorted(rounds))


def read_overrides(path: Path, problems: list[str]) -> tuple[str, ...]:
    """What the run was asked for; none where that was not written."""
    if not path.is_file():
        return ()
    try:
        value = _json(_text(path))
    except (ValueError, OSError, RecursionError):
        value = None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        problems.append(f"{path.name} is not a list of texts")
        return ()
    return tuple(value)


def read_failure(path: Path, problems: list[str]) -> str:
    """Why a run could not go on, as one sentence; "" where it did not fail."""
    said = read_mapping(path, problems, required=False)
    if said is None:
        return ""
    if isinstance(said.get("expected"), str):
        return f"expected {said['expected']}; found {said.get('found')}; {said.get('remedy')}"
    return f"an unexpected {said.get('kind')}"
