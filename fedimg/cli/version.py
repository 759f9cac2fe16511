"""`fedimg version`: this program and the libraries that its results depend on."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from fedimg import __version__
from fedimg.cli.console import print_json, verb_parser

LIBRARIES = ("torch", "monai", "opacus", "dp-accounting", "cryptography", "flwr", "ray", "pydicom", "numpy")


def run(argv: Sequence[str]) -> int:
    parser = verb_parser("version", "Show versions.")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args(argv)
    found = {"fedimg": __version__, "python": platform.python_version()}
    found |= {name: text for name in LIBRARIES if (text := _version(name)) is not None}
    if arguments.json:
        print_json(found)
    else:
        sys.stdout.writelines(f"{name} {text}\n" for name, text in found.items())
    return 0


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # ray is an extra
        return None
