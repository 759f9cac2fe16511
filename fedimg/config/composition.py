"""Overrides as Hydra writes them → the composed configuration.

Hydra composes the YAML below `conf/` (Compose API, hydra 1.3) and parses overrides and
sweeps; every key is judged before it gets there, so that a typo is answered with the
nearest key, and the result is built by `fedimg.config.strict`.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedimg.config import implied, keys, settings_file, strict
from fedimg.config.keys import conf_folder, groups
from fedimg.config.schema import Config, check_counts
from fedimg.errors import ConfigError, DataError

MAY_CHANGE_ON_RESUME = ("device", "resume", "runs")
_MAPPINGS = ("data.columns", "data.features", "data.options", "data.subgroups")
_RESOLVER = re.compile(r"\$\{[^}]*:")


def compose(overrides: Sequence[str] = (), also: Sequence[str] = ()) -> Config:
    """The configuration of one run.

    `also` names keys that the caller takes for itself: an unknown one may have meant them.
    `settings=FILE` stands for what a YAML file of one's own says (`settings_file`).
    `resume=runs/<id>` takes that run's own configuration and lets only the device change.

    Raises:
        ConfigError: an unknown key or option (with the nearest valid one), a value that does
            not fit, a sweep (that is `sweep`'s), or anything that would name code.
    """
    overrides = settings_file.expanded(overrides, _MAPPINGS, conf_folder())
    parsed = _parse(overrides)
    for override in parsed:
        if override.is_sweep_override():
            raise ConfigError(
                f"one value for {override.key_or_group}",
                "several, which is a sweep",
                "add -m to run one after the other, or put a list in brackets: [a,b]",
            )
    resume = [o for o in parsed if o.key_or_group == "resume" and o.value() is not None]
    if resume:
        return _resumed(Path(str(resume[-1].value())), parsed)
    mapping = compose_mapping(Config, overrides, conf_folder(), also)
    implied.fill(mapping)
    check_counts(mapping)
    return strict.build(Config, mapping)


def sweep(overrides: Sequence[str]) -> list[list[str]]:
    """The points of a sweep as override lists: choices and ranges, all combined, last one fastest.

    Raises:
        ConfigError: a sweep over an interval or a pattern, which has no list of points.
    """
    axes: list[list[str]] = []
    for override in _parse(overrides):
        if not override.is_sweep_override():
            axes.append([override.input_line or ""])
        elif override.value_type in (
            ValueType.CHOICE_SWEEP,
            ValueType.SIMPLE_CHOICE_SWEEP,
            ValueType.RANGE_SWEEP,
        ):
            axes.append(
                [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
            )
        else:
            raise ConfigError(
                f"a list or range of points for {override.key_or_group}",
                "an interval or pattern",
                "write a,b,c",
            )
    return [list(point) for point in itertools.product(*axes)]


def load(path: Path) -> Config:
    """Read a configuration that `dump` wrote; raises ConfigError where it is not one."""
    try:
        mapping = _plain(OmegaConf.create(path.read_text("utf-8")))
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(
            "a readable configuration file", type(error).__name__, "name a run folder with its config.yaml"
        ) from error
    return strict.build(Config, mapping)


def dump(config: Config) -> str:
    """The configuration as YAML that `load` reads back to an equal one."""
    text: str = yaml.safe_dump(_listed(dataclasses.asdict(config)), sort_keys=False, allow_unicode=True)
    return text


def compose_mapping(
    schema: type, overrides: Sequence[str], folder: Path, also: Sequence[str] = ()
) -> dict[str, Any]:
    """Compose `folder`/config.yaml with overrides whose keys `schema` has; plain values come back."""
    options = groups(folder)
    known = (*strict.key_paths(schema), *also)
    lines, choices = [], {}
    for override in _parse(overrides):
        key = override.key_or_group
        if override.type == OverrideType.DEL or override.package is not None:
            raise ConfigError(
                "overrides of the form key=value",
                repr(override.input_line or key),
                "leave it out, or set the key",
            )
        if key in options:
            choices[key] = keys.option(key, override.value(), options)
            lines.append(f"{key}={choices[key]}" if choices[key] is not None else f"{key}=null")
        elif strict.is_key(schema, key):
            lines.append("++" + (override.input_line or "").lstrip("+"))
        else:
            raise strict.unknown_key(key, known)
    try:
        with initialize_config_dir(config_dir=str(folder), version_base="1.3"):
            mapping = _plain(hydra_compose(config_name="config", overrides=lines))
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError("YAML files that compose", reason, "correct the file that it names") from error
    if choices.get("experiment") is not None:
        mapping["experiment"] = choices["experiment"]
    return mapping


def _parse(overrides: Sequence[str]) -> list[Override]:
    parser = OverridesParser.create()
    parsed = []
    for line in overrides:
        try:
            parsed.append(parser.parse_override(line))
        except HydraException as error:
            raise ConfigError(
                "overrides of the form key=value",
                f"{line!r}",
                "put values with spaces or special signs in quotes: 'key=\"value\"'",
            ) from error
    return parsed


def _resumed(folder: Path, overrides: Sequence[Override]) -> Config:
    """A stopped run's own configuration: going on with another one would be another run."""
    changed = [o.key_or_group for o in overrides if o.key_or_group not in MAY_CHANGE_ON_RESUME]
    if changed:
        raise ConfigError(
            "a resumed run with its own configuration",
            f"an override of {changed[0]}",
            "leave it out, or start a new run",
        )
    if not folder.is_dir():
        raise DataError("the folder of a stopped run", "no such run", "`fedimg runs list` names the runs")
    stored = load(folder / "config.yaml")
    given = {o.key_or_group: o.value() for o in overrides} | {"resume": str(folder)}
    return strict.build(Config, {**_listed(dataclasses.asdict(stored)), **given})


def _plain(config: Any) -> dict[str, Any]:
    """OmegaConf → plain values. References between keys are followed, resolvers are refused:
    `${oc.env:…}` would write the environment into the run's record.
    """
    if not isinstance(config, DictConfig):
        raise ConfigError("a configuration with keys", "none", "write key: value lines")
    for text in _texts(OmegaConf.to_container(config)):
        if _RESOLVER.search(text):
            raise ConfigError(
                "a configuration that is plain data",
                "a ${resolver:…}",
                "write the value itself, or ${another.key}",
            )
    try:
        value = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "a key"
        raise ConfigError(f"a value for {key}", "none", f"set {key}=…") from error
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else {}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _listed(value: Any) -> Any:
    """Tuples as lists, so that YAML has a plain form for them."""
    if isinstance(value, Mapping):
        return {k: _listed(v) for k, v in value.items()}
    return [_listed(v) for v in value] if isinstance(value, list | tuple) else value
