"""`fedimg audit`: does the mechanism do what it claims, and what can an attacker learn all the same?

Each module of this package is one audit: `run(argv)` as a verb has, its first docstring line as help. It
is imported when it is asked for, so an audit is added by adding its file.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules

from fedimg.errors import ConfigError


def run(argv: Sequence[str]) -> int:
    names = actions()
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(usage(names) + "\n")
        raise SystemExit(0 if argv else 2)
    if argv[0] not in names:
        raise ConfigError(f"an audit: {', '.join(names)}", repr(argv[0]), "see `fedimg audit --help`")
    return int(import_module(f"{__name__}.{argv[0]}").run(argv[1:]))


def actions() -> tuple[str, ...]:
    """Names of the audits; modules with a leading underscore serve them."""
    return tuple(sorted(found.name for found in iter_modules(__path__) if not found.name.startswith("_")))


def usage(names: Sequence[str]) -> str:
    """What `fedimg audit --help` prints."""
    about = {name: (import_module(f"{__name__}.{name}").__doc__ or "").split("\n")[0] for name in names}
    width = max(map(len, names), default=0)
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in about.items())
    return (
        "usage: fedimg audit NAME [options]\n\n"
        f"{lines}\n\n"
        "Each takes --json and --report PAGE.html. Exit code 0: passed; 1: failed; others as of every verb."
    )
