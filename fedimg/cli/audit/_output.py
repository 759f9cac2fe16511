"""What the audits share: where their pages may be written, and how a result is printed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedimg.cli.console import Arguments, print_json, say, verb_parser
from fedimg.errors import ConfigError

REAL = (
    "These results are about real patients: they belong to this site's own files, are written for their owner alone "
    "(mode 0600), and are never sent."
)


def parser(name: str, about: str) -> Arguments:
    """A parser with the options that every audit takes."""
    made = verb_parser(f"audit {name}", about)
    made.add_argument("--json", action="store_true", help="one JSON object on stdout")
    made.add_argument(
        "--report", type=Path, metavar="PAGE.html", help="write a page with pictures (mode 0600)"
    )
    return made


def check(page: Path | None) -> None:
    """Refuse a page that could not be written, before the work is done. Raises ConfigError."""
    if page is None:
        return
    if page.suffix != ".html":
        raise ConfigError("a name that ends in .html", page.suffix or "no ending", "name the page so")
    if not page.parent.is_dir():
        raise ConfigError("a folder to write the page into", "none there", "make it first")


def finish(found: Mapping[str, Any], page: Path | None, html: str, lines: list[str], *, as_json: bool) -> int:
    """Write the page, print the result, and return the exit code: 0 for a verdict of pass, else 1."""
    from fedimg.durable import write_durably

    if page is not None:
        write_durably(page, html, mode=0o600)
        say(f"report: {page}")
    if as_json:
        print_json(found)
    else:
        sys.stdout.write("\n".join([*lines, f"{found['verdict']}, {found['seconds']:.1f} s"]) + "\n")
    return 0 if found["verdict"] == "pass" else 1
