"""A plain mapping → a frozen, typed tree, or an error that names the key path.

YAML composes, this judges: every key must be a field, every value must fit its
annotation. Nothing is converted silently except int → float and list → tuple.
A key between underscores (`_target_` and its kin) would name code and is refused,
because a configuration is data wherever it comes from.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from fedimg.errors import ConfigError

Tree = TypeVar("Tree")
_LARGEST = sys.float_info.max  # beyond are infinities, NaN, and whole numbers that no float holds


def build(cls: type[Tree], mapping: Mapping[str, Any]) -> Tree:
    """Build the frozen dataclass `cls`, and the dataclasses inside it, from plain values.

    Supported annotations: int, float, str, bool, None, Literal, tuple, Mapping[str, …],
    dataclasses, and unions of these. A union of dataclasses is told apart by a field whose
    Literal annotation differs between them.

    Raises:
        ConfigError: an unknown key (with the nearest valid one), a missing one, a value that
            does not fit, or one that the dataclass itself refuses.
    """
    return cast("Tree", _dataclass(cls, mapping, "", tuple(key_paths(cls))))


def key_paths(cls: type, prefix: str = "") -> Iterator[str]:
    """Every key path of a configuration tree, sections before their fields."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        path = f"{prefix}{field.name}"
        yield path
        for member in _members(hints[field.name]):
            if _is_dataclass(member):
                yield from key_paths(member, f"{path}.")


def is_key(cls: type, path: str) -> bool:
    """Whether `path` is a key of the tree, or lies inside a Mapping field of it."""
    name, _, rest = path.partition(".")
    hint = get_type_hints(cls).get(name)
    if hint is None:
        return False
    if not rest:
        return True
    for member in _members(hint):
        if get_origin(member) in (Mapping, dict) or member in (Mapping, dict):
            return True
        if _is_dataclass(member) and is_key(member, rest):
            return True
    return False


def unknown_key(path: str, known: Sequence[str]) -> ConfigError:
    """The error for a key that does not exist, naming the nearest one that does."""
    near = nearest(path, known)
    if near == path:
        return ConfigError(
            "a key of the section that was chosen", path, "it belongs to another choice; leave it out"
        )
    remedy = f"did you mean {near}?" if near else "`fedimg config` shows every key"
    return ConfigError("a key of the configuration", f"{path}, which is none", remedy)


def nearest(path: str, known: Sequence[str]) -> str | None:
    """The valid key path closest to a mistyped one: the same last name first, then one that it begins, then by
    spelling; None where nothing is near.
    """
    section, _, leaf = path.rpartition(".")
    same = [k for k in known if k.rpartition(".")[2] == leaf]
    if not same and len(leaf) > 3:
        same = [k for k in known if k.rpartition(".")[2].startswith(f"{leaf}_")]
    if same:
        return max(same, key=lambda k: difflib.SequenceMatcher(None, k, path).ratio())
    for close in difflib.get_close_matches(path, known, n=len(known) or 1, cutoff=0.7):
        # A long section that is right makes any last name look near: that is judged by itself.
        own, _, name = close.rpartition(".")
        if section.startswith(close):
            continue
        if own != section or difflib.SequenceMatcher(None, name, leaf).ratio() >= 0.6:
            return close
    leaves = {k.rpartition(".")[2]: k for k in reversed(known)}
    by_leaf = difflib.get_close_matches(leaf, list(leaves), n=1, cutoff=0.6)
    return leaves[by_leaf[0]] if by_leaf else None


def _dataclass(cls: type, mapping: Any, path: str, known: Sequence[str]) -> Any:
    if not isinstance(mapping, Mapping):
        raise _misfit(path, f"a section with keys of {cls.__name__}", mapping)
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for key in mapping:
        _refuse_code(key, path)
        if key not in fields:
            raise unknown_key(_join(path, str(key)), known)
    values = {}
    for name, field in fields.items():
        if name in mapping:
            values[name] = _value(hints[name], mapping[name], _join(path, name), known)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"a value for {_join(path, name)}", "none", f"set {_join(path, name)}=…")
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(
            f"{path or 'a configuration'} with values that fit together", str(error), "change them"
        ) from error


def _value(hint: Any, value: Any, path: str, known: Sequence[str]) -> Any:
    members = _members(hint)
    if value is None and type(None) in members:
        return None
    classes = [m for m in members if _is_dataclass(m)]
    if classes and isinstance(value, Mapping):
        return _dataclass(_choose(classes, value, path), value, path, known)
    for member in members:
        fits, converted = _plain(member, value, path, known)
        if fits:
            return converted
    raise _misfit(path, _describe(hint), value)


def _plain(hint: Any, value: Any, path: str, known: Sequence[str]) -> tuple[bool, Any]:
    """(fits, value) for one annotation that is neither a union nor a dataclass."""
    origin = get_origin(hint)
    if hint is Any:
        return True, value
    if origin is Literal:
        chosen = [a for a in get_args(hint) if a == value and type(a) is type(value)]
        return bool(chosen), value
    if hint is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
        return fits, float(value) if fits else value
    if hint in (int, str, bool):
        return type(value) is hint, value
    if origin is tuple and isinstance(value, list | tuple):
        return _tuple(get_args(hint), value, path, known)
    if origin in (Mapping, dict) and isinstance(value, Mapping):
        item = get_args(hint)[1]
        for key in value:
            _refuse_code(key, path)
            if not isinstance(key, str):
                raise _misfit(path, "keys that are text", key)
        return True, {k: _value(item, v, _join(path, k), known) for k, v in value.items()}
    return False, value


def _tuple(args: tuple[Any, ...], value: Sequence[Any], path: str, known: Sequence[str]) -> tuple[bool, Any]:
    hints = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else list(args)
    if len(hints) != len(value):
        return False, value
    return True, tuple(
        _value(hint, item, f"{path}[{i}]", known)
        for i, (hint, item) in enumerate(zip(hints, value, strict=True))
    )


def _choose(classes: Sequence[type], value: Mapping[str, Any], path: str) -> type:
    """Which dataclass of a union is meant, by the Literal field that tells them apart."""
    if len(classes) == 1:
        return classes[0]
    tags: dict[str, dict[Any, type]] = {}
    for cls in classes:
        for name, hint in get_type_hints(cls).items():
            if get_origin(hint) is Literal:
                tags.setdefault(name, {}).update(dict.fromkeys(get_args(hint), cls))
    for name, options in tags.items():
        if set(options.values()) == set(classes):
            tag = value.get(name)
            if isinstance(tag, str) and tag in options:
                return options[tag]
            raise _misfit(_join(path, name), f"one of {', '.join(map(str, options))}", tag)
    raise TypeError(f"{path}: the dataclasses of this union have no Literal field to tell them apart")


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _is_dataclass(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _refuse_code(key: Any, path: str) -> None:
    if isinstance(key, str) and len(key) > 2 and key.startswith("_") and key.endswith("_"):
        raise ConfigError(
            "a configuration that is plain data",
            f"the key {_join(path, key)}, which would name code",
            "remove it; code is added by an entry point and named as data",
        )


def _describe(hint: Any) -> str:
    if _is_dataclass(hint):
        return "a section"
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin is tuple:
        inner = _describe(args[0])
        return f"a list of {inner}" if args[-1] is Ellipsis else f"a list of {len(args)}, each {inner}"
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(a) for a in args)
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    return names.get(hint, "a mapping" if origin in (Mapping, dict) else str(hint))


def _misfit(path: str, expected: str, value: Any) -> ConfigError:
    kind = "" if isinstance(value, bool) or value is None else f" ({type(value).__name__})"
    shown = {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value
    found = "null" if value is None else f"{shown!r}{kind}" if isinstance(value, str) else f"{shown}{kind}"
    return ConfigError(f"{path or 'the configuration'} to be {expected}", found, f"set {path}=… accordingly")
