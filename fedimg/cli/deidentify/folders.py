"""Which folder, which key, which configuration: what every action on an output asks first."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedimg.crypto.key_source import find_site_key, key_file
from fedimg.crypto.keys import SiteKey
from fedimg.errors import ConfigError
from fedimg.home import OutCard, OutFolder, ReleaseFolder, SiteHome

if TYPE_CHECKING:
    from fedimg.intake import IntakeConfig

KEY = "deid.key="
_NO_KEY = "make one with `fedimg deidentify keygen FILE`, then say deid.key=FILE"


def configuration(overrides: Sequence[str], workers: int | None = None) -> IntakeConfig:
    """What the overrides of `deid` compose to, the key apart. Raises ConfigError for others."""
    from fedimg.config import compose

    foreign = [o for o in overrides if not o.lstrip("+").startswith(("deid.", "deid="))]
    if foreign:
        raise ConfigError("overrides of deid", foreign[0], "see `fedimg deidentify run --help`")
    config = compose([o for o in overrides if not o.startswith(KEY)], [KEY[:-1]]).deid
    return config if workers is None else replace(config, workers=workers)


def named_key(overrides: Sequence[str]) -> Path | None:
    """The file of deid.key=FILE."""
    keys = [o.removeprefix(KEY) for o in overrides if o.startswith(KEY)]
    return Path(keys[-1]) if keys else None


def opened(root: Path, overrides: Sequence[str], config: IntakeConfig, *, create: bool) -> ReleaseFolder:
    """An output or a home. Raises ConfigError without its key, DataError for another folder."""
    named = named_key(overrides)
    file = key_file(named, os.environ)
    if file is not None:
        _check_outside(file, root, "OUT")
    key = find_site_key(named, os.environ)
    if (root / "home.json").exists():
        return _home(root, key if named is not None else None)
    if key is None:
        raise ConfigError("a site key", "none", _NO_KEY)
    if OutCard.exists(root) or not create:
        folder = OutFolder.open(root, key)
        if folder.project != config.project:
            remedy = "set deid.project as it was, or use another folder"
            raise ConfigError("the project that this folder was filled under", "another one", remedy)
        return folder
    return OutFolder.create(root, key, config.project)


def _home(root: Path, key: SiteKey | None) -> SiteHome:
    home = SiteHome.open(root)
    if key is not None and home.site_key.to_bytes() != key.to_bytes():
        raise ConfigError("the key of this home", "another one", "leave deid.key out, or name a new folder")
    return home


def check_apart(source: Path, out: Path, overrides: Sequence[str]) -> None:
    """Raises ConfigError where input, output and key lie within one another."""
    file = key_file(named_key(overrides), os.environ)
    if file is not None:
        _check_outside(file, source, "IN")
        _check_outside(file, out, "OUT")
    one, other = source.resolve(), out.resolve()
    if one == other or one in other.parents or other in one.parents:
        remedy = "name an output folder outside of the input"
        raise ConfigError("IN and OUT apart", "one within the other", remedy)


def _check_outside(file: Path, folder: Path, name: str) -> None:
    if folder.resolve() in file.resolve().parents:
        remedy = "move it: whoever is given that folder would have the key too"
        raise ConfigError(f"a site key outside of {name}", "one within it", remedy)
