"""`fedimg quality`: what is wrong with a folder, a data source or a site's home, for the site's own eyes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedimg.cli.console import print_json, print_table, progress, say, verb_parser
from fedimg.errors import ConfigError

if TYPE_CHECKING:
    from fedimg.quality import Examined, Samples

_ABOUT = (
    "Look for copies of images (within a patient, under two patients, in two parts of the data, at two sites), blank "
    "and clipped images, outliers, gaps in labels and masks, and classes out of balance. The report is for the site "
    "alone: exact counts and names of files are patient data. The exit code is 1 where something serious is found."
)


def run(argv: Sequence[str]) -> int:
    parser = verb_parser("quality", _ABOUT)
    about = "a folder of images, or a site's home; and overrides: data=… data.path=… imaging.cleaning.…=…"
    parser.add_argument("words", nargs="+", metavar="FOLDER|key=value", help=about)
    about = "write one self-contained page, with pictures; 0600, outside of the data, over an earlier one"
    parser.add_argument("--page", type=Path, metavar="FILE.html", help=about)
    parser.add_argument("--strict", action="store_true", help="exit code 1 where there is a warning, too")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout; it names files")
    arguments = parser.parse_intermixed_args(argv)
    overrides = [word for word in arguments.words if "=" in word and not Path(word).exists()]
    folders = [Path(word) for word in arguments.words if word not in overrides]
    if len(folders) > 1:
        raise ConfigError(
            "one folder, or the keys of a source", f"{len(folders)} folders", "name one at a time"
        )
    folder = folders[0] if folders else None
    from fedimg.config import keys

    keys.check(overrides)  # before anything heavy is imported
    from fedimg.config import compose
    from fedimg.quality import examine

    config = compose(overrides)
    inside = folder if folder is not None else config.data.path
    _check_page(arguments.page, None if inside is None else Path(inside))
    with ExitStack() as scratch, progress() as report:
        source = _source(folder, overrides, config, scratch)
        examined = examine(
            source, config.imaging.cleaning, None, lambda done, total: report("reading", done, total)
        )
    if arguments.page is not None:
        _write_page(arguments.page, examined)
    if arguments.json:
        print_json(examined.as_json())
    else:
        _tell(examined)
    return _code(examined, strict=arguments.strict)


def _source(folder: Path | None, overrides: Sequence[str], config: Any, scratch: ExitStack) -> Samples:
    """`scratch` keeps what a source generates or fetches for as long as it is read."""
    from fedimg.quality import of_folder, of_home, of_manifests

    of_data = [word for word in overrides if word.lstrip("+").startswith("data")]
    if folder is not None and of_data:
        raise ConfigError("one folder, or the keys of a source", "both", "leave one of them out")
    if folder is not None and (folder / "home.json").exists():
        from fedimg.home import SiteHome

        return of_home(SiteHome.open(folder), config.evaluation.validation_fraction)
    if folder is not None:
        return of_folder(folder)
    if not of_data:
        raise ConfigError("a folder, or data=…", "neither", "see `fedimg quality --help`")
    from tempfile import TemporaryDirectory

    from fedimg import sources

    work = scratch.enter_context(TemporaryDirectory(prefix="fedimg-quality-"))
    return of_manifests(sources.load(config.data, Path(work), config.sites, config.seed))


def _check_page(page: Path | None, data: Path | None) -> None:
    if page is None:
        return
    if page.suffix != ".html":
        raise ConfigError("a name that ends in .html", page.suffix or "no ending", "name the page so")
    if not page.parent.is_dir():
        raise ConfigError("a folder to write into", "none there", "make it first")
    at_home = data is not None and (data / "home.json").exists() and page.resolve().parent == data.resolve()
    if data is not None and data.resolve() in page.resolve().parents and not at_home:
        raise ConfigError("FILE.html outside of the data", "one within them", "name a file elsewhere")


def _write_page(page: Path, examined: Examined) -> None:
    from datetime import UTC, datetime

    from fedimg.durable import write_durably
    from fedimg.quality.page import page_of

    write_durably(page, page_of(examined, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"))
    say("the page names files and shows images: keep it where they are kept")


def _tell(examined: Examined) -> None:
    counts = examined.counts()
    unit = "patients" if examined.measured.source.unit == "patient" else "units"
    rows = [
        {"severity": str(f.severity), "finding": str(f.kind), "count": f.count, "what it means": f.text}
        for f in examined.findings
    ]
    if rows:
        print_table(rows, ("severity", "finding", "count", "what it means"))
        sys.stdout.write("\n")
    found = f"{len(rows)} findings" if rows else "nothing was found"
    sys.stdout.write(
        f"{counts['inputs']} inputs, {counts['usable']} usable, {counts['patients']} {unit}: {found}\n"
        "for this site alone: exact counts are patient data\n"
    )


def _code(examined: Examined, *, strict: bool) -> int:
    from fedimg.quality import Severity

    failing = {Severity.SERIOUS, Severity.WARNING} if strict else {Severity.SERIOUS}
    return 1 if examined.worst() in failing else 0
