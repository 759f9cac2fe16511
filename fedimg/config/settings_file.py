"""Settings of one's own in one YAML file: `settings=FILE` stands for the overrides that it says.

    defaults:            # options of groups, as `fedimg config --groups` lists them
      - data: images
      - model: unet
    data:
      path: /export/vessels
    rounds: 20

What stands behind it on the command line counts more: of an experiment too, whose network and other options take the
place of the file's. Paths in it are those of the working folder, as everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fedimg.errors import ConfigError

KEY = "settings="
_NAME = re.compile(r"[A-Za-z_]\w*")
_LARGEST_BYTES = 1 << 20
_REMEDY = "write key: value lines, and options of groups as a list below defaults"


def expanded(overrides: Sequence[str], mappings: Sequence[str], conf: Path) -> list[str]:
    """The same overrides, with what a file says in place of `settings=FILE`, before all others.

    Args:
        mappings: keys whose value is a mapping by itself, such as `data.columns`.
        conf: the folder with the groups' options.
    Raises ConfigError: a file that cannot be read or is no such YAML; two of them.
    """
    files = [override.removeprefix(KEY) for override in overrides if override.startswith(KEY)]
    if not files:
        return list(overrides)
    if len(files) > 1:
        raise ConfigError("one settings=FILE", str(len(files)), "put everything into one file")
    content = _read(Path(files[0]))
    taken = _of_experiments(overrides, conf)
    options = _options(content.pop("defaults", []))
    return [
        *(option for option in options if option.partition("=")[0] not in taken),
        *_values(content, "", frozenset(mappings)),
        *(override for override in overrides if not override.startswith(KEY)),
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ConfigError("a settings file of at most 1 MiB", "a larger one", _REMEDY)
        found = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError("a readable YAML file at settings=FILE", type(error).__name__, _REMEDY) from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ConfigError("a YAML file of keys and values", "another one", _REMEDY)
    return found


def _of_experiments(overrides: Sequence[str], conf: Path) -> set[str]:
    """Groups of which an experiment among the overrides chooses the option: a file's own choice would hide it."""
    taken = set()
    for override in overrides:
        name = override.removeprefix("experiment=")
        file = conf / "experiment" / f"{name}.yaml"
        if name != override and _NAME.fullmatch(name) and file.is_file():
            chosen = yaml.safe_load(file.read_text("utf-8")).get("defaults", [])
            taken |= {key.removeprefix("override /") for one in chosen for key in one} | {"experiment"}
    return taken


def _options(defaults: object) -> Iterator[str]:
    if not isinstance(defaults, list) or not all(isinstance(one, dict) and len(one) == 1 for one in defaults):
        raise ConfigError("defaults as a list of `group: option`", "something else", _REMEDY)
    for one in defaults:
        for group, option in one.items():
            yield f"{group}={_written(option)}"


def _values(content: Mapping[str, Any], prefix: str, mappings: frozenset[str]) -> Iterator[str]:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in mappings:
            yield from _values(value, f"{name}.", mappings)
        else:
            yield f"{name}={_written(value)}"


def _written(value: object) -> str:
    """As Hydra's grammar for overrides has it: text in quotes, so that no sign in it means anything."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{','.join(_written(one) for one in value)}]"
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and _NAME.fullmatch(key) for key in value):
            return f"{{{','.join(f'{key}:{_written(one)}' for key, one in value.items())}}}"
    elif isinstance(value, str) and "${" not in value:
        # A backslash is itself, but in front of a quote.
        escaped = re.sub(r"(\\*)'", lambda found: 2 * found[1] + "\\'", value)
        return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"
    raise ConfigError("plain values in a settings file", type(value).__name__, _REMEDY)
