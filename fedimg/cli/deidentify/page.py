"""`report`: a page on what was done, for those who may see the originals."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fedimg.cli.console import say
from fedimg.cli.deidentify import folders
from fedimg.errors import ConfigError


def report(arguments: Any) -> int:
    """Write the page anew, over an earlier one."""
    from fedimg import site_report
    from fedimg.home import SiteHome
    from fedimg.intake import FolderInputs

    config = folders.configuration(arguments.overrides)
    folder = folders.opened(arguments.out, arguments.overrides, config, create=False)
    file, at_home = arguments.file, isinstance(folder, SiteHome)
    if file is None:
        if not at_home:
            raise ConfigError("FILE.html to write", "none", "give --file, outside of OUT, which is handed on")
        file = folder.root / site_report.NAME
    _check(file, folder.root, at_home=at_home)
    inputs = FolderInputs(arguments.input) if arguments.input is not None else ()
    site_report.write(file, folder, config, inputs)
    sys.stdout.write(f"{file}\n")
    if arguments.input is not None:
        say("the page shows originals: keep it where they are kept")
    return 0


def _check(file: Path, out: Path, *, at_home: bool) -> None:
    if file.suffix != ".html":
        raise ConfigError("a name that ends in .html", file.suffix or "no ending", "name the page so")
    if not file.parent.is_dir():
        raise ConfigError("a folder to write into", "none there", "make it first")
    inside = out.resolve() in file.resolve().parents
    if inside and not (at_home and file.resolve().parent == out.resolve()):
        remedy = "name a file elsewhere: what is released is handed on, and the page shows originals"
        raise ConfigError("FILE.html outside of OUT", "one within it", remedy)
