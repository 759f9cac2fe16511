"""Are the keys of overrides known? Answered within a moment, before the stations' code is imported.

The whole tree of keys stands in the stations' dataclasses, which need torch and MONAI to be imported. A copy
of their names lies beside this module (`keys.txt`), so that a typo is answered at once; a test holds the copy
to the tree. Whatever passes here is judged again, with its value, by `composition`.

    python -m fedimg.config.keys        writes the copy anew
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fedimg.config import strict
from fedimg.errors import ConfigError

COPY = Path(__file__).with_name("keys.txt")
_NO_GROUPS = frozenset({"rules", "findings"})  # read by the name of a file, and composed into nothing
_OVERRIDE = re.compile(r"\+{0,2}([A-Za-z_][\w.]*)=(.*)", re.DOTALL)
_OPTION = re.compile(r"[\w.-]+")


def conf_folder() -> Path:
    """Where the YAML is: inside an installed package, or beside it in a checkout.

    Raises:
        ConfigError: in neither place.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError("the shipped configuration beside the package", "none", "install fedimg again")


def groups(folder: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Every config group and its options."""
    root = folder or conf_folder()
    return {
        part.name: tuple(sorted(f.stem for f in part.glob("*.yaml")))
        for part in sorted(root.iterdir())
        if part.is_dir() and part.name not in _NO_GROUPS and any(part.glob("*.yaml"))
    }


def check(overrides: Sequence[str]) -> None:
    """Refuse an override of a key, or an option of a group, that does not exist.

    Raises:
        ConfigError: naming it and the nearest one. What is no plain `key=value` is left to the parser.
    """
    known = COPY.read_text("utf-8").split()
    names = [line.removesuffix(".*") for line in known]
    open_ended = tuple(line.removesuffix("*") for line in known if line.endswith(".*"))
    options = groups()
    for override in overrides:
        match = _OVERRIDE.fullmatch(override)
        if match is None:
            continue
        key, value = match.groups()
        if key == "settings":  # a file: what it says is judged when it is read
            continue
        if key in options:
            if _OPTION.fullmatch(value) and value != "null":
                option(key, value, options)
        elif key not in names and not key.startswith(open_ended):
            raise strict.unknown_key(key, names)


def lines(schema: type) -> Iterator[str]:
    """Every key of the tree; with ".*" where any name may follow."""
    for path in strict.key_paths(schema):
        yield f"{path}.*" if strict.is_key(schema, f"{path}.any") else path


def option(group: str, value: object, groups_: Mapping[str, Sequence[str]]) -> str | None:
    """`value` if it is an option of `group`; raises ConfigError with the nearest one."""
    options = groups_[group]
    if value is None and group == "experiment":
        return None
    if isinstance(value, str) and value in options:
        return value
    elsewhere = [name for name, others in groups_.items() if value in others]
    near = strict.nearest(value, options) if isinstance(value, str) else None
    meant = f"{elsewhere[0]}={value}" if len(elsewhere) == 1 else f"{group}={near}" if near else ""
    hint = f"; did you mean {meant}?" if meant else ""
    raise ConfigError(f"{group} to be one of {', '.join(options)}", f"{value}", f"choose one of these{hint}")


if __name__ == "__main__":
    from fedimg.config.schema import Config

    COPY.write_text("".join(f"{line}\n" for line in lines(Config)), "utf-8")
