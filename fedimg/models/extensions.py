"""Code that others add: networks, losses, data sources and algorithms, found by entry point.

A configuration names an extension, never code. What the name stands for is what has been
installed on this machine; its digest is computed *before* anything of it is imported, so that a
site's policy can judge the code that is about to run.

An entry point is declared by the package that brings it:

    [project.entry-points."fedimg.models"]
    tiny = "my_package.networks:tiny"
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fedimg.errors import ConfigError, PolicyRefused

GROUPS = MappingProxyType(
    {
        "fedimg.models": "network",
        "fedimg.losses": "loss",
        "fedimg.sources": "data source",
        "fedimg.algorithms": "algorithm",
    }
)


@dataclass(frozen=True)
class Extension:
    """An installed extension that has not been imported yet.

    Attributes:
        group: entry point group, one of `GROUPS`.
        name: as configured.
        distribution: the installed package that declares it, with its version.
    """

    group: str
    name: str
    distribution: str
    _entry_point: EntryPoint

    @cached_property
    def digest(self) -> str:
        """Of the code, as "sha256:…" over every file of the top-level package (or the one module) it lies in.

        Compiled caches are left out: they follow from the sources. What the package imports from
        elsewhere is not covered; a site that needs that pins its whole environment.
        """
        total = hashlib.sha256()
        for relative, path in _code_files(self._entry_point.module):
            content = path.read_bytes()
            total.update(
                len(relative).to_bytes(4, "big") + relative + len(content).to_bytes(8, "big") + content
            )
        return f"sha256:{total.hexdigest()}"

    def load(self, allowed: Collection[str]) -> Any:
        """Import the extension and return what the entry point names.

        Args:
            allowed: digests that may run here (the policy's `allowed_extensions`).

        Raises:
            PolicyRefused: the digest is not among them; nothing was imported.
            ConfigError: the package is there but does not import.
        """
        kind = GROUPS[self.group]
        if self.digest not in allowed:
            raise PolicyRefused(
                f"the digest of {kind} {self.name} ({self.distribution}) among allowed_extensions",
                self.digest,
                "review the package, then add this digest to the site's policy",
            )
        try:
            return self._entry_point.load()
        except (ImportError, AttributeError) as failure:
            raise ConfigError(
                f"{kind} {self.name} to import",
                f"{type(failure).__name__}",
                "reinstall the package that brings it",
            ) from failure


def installed(group: str) -> tuple[Extension, ...]:
    """Every extension of a group, by name; nothing is imported."""
    found: dict[str, Extension] = {}
    for point in entry_points(group=group):
        owner = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown package"
        if point.name in found and found[point.name].distribution != owner:
            raise ConfigError(
                f"one {GROUPS[group]} named {point.name}",
                f"{found[point.name].distribution} and {owner}",
                "uninstall one of the packages",
            )
        found[point.name] = Extension(group, point.name, owner, point)
    return tuple(found[name] for name in sorted(found))


def find(group: str, name: str, builtin: Sequence[str] = ()) -> Extension:
    """The installed extension of that name; nothing is imported.

    Args:
        builtin: names that need no extension, for the message.

    Raises:
        ConfigError: no such name, with the nearest one that exists.
    """
    known = {extension.name: extension for extension in installed(group)}
    if name in known:
        return known[name]
    names = sorted({*builtin, *known})
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    choices = ", ".join(names) or "none is installed"
    remedy = f"did you mean {near[0]}?" if near else f"install a package with an entry point in {group}"
    raise ConfigError(f"a {GROUPS[group]} that exists ({choices})", name, remedy)


def _code_files(module: str) -> list[tuple[bytes, Path]]:
    """(path below the package, file) of everything that importing `module` may run, sorted."""
    spec = _located(module)
    origin = Path(spec.origin or "")
    if spec.submodule_search_locations is None:
        return [(origin.name.encode(), origin)]
    root = origin.parent
    files = [p for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    return sorted((str(p.relative_to(root.parent)).encode(), p) for p in files)


def _located(module: str) -> ModuleSpec:
    """Where the outermost package with code is. Finding a top-level name imports nothing."""
    name = module.partition(".")[0]
    spec = find_spec(name)
    if spec is None or not spec.has_location:
        raise ConfigError(
            "an extension in an installed package or module with a file of its own",
            f"{name}, which is {'not there' if spec is None else 'a namespace or built in'}",
            "move the code into a package with an __init__.py",
        )
    return spec
