"""`fedimg measure`: medical parameters of a home's released files, or of images and masks, into a table for the site."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedimg.cli.console import Arguments, print_json, print_table, progress, say, verb_parser
from fedimg.errors import ConfigError, DataError

if TYPE_CHECKING:
    import argparse

    from fedimg.measuring.samples import Sample

_ABOUT = (
    "Measure lesions, tissue, the heart's width, how an image was acquired, and radiomics, by name, in every released "
    "file of a home or in a folder of images with masks. FILE.csv stays at the site (0600): it is patient data, and no "
    "release. A file that cannot be measured has its reason in the table. No medical device."
)


def run(argv: Sequence[str]) -> int:
    """Exit code 0 where anything was measured, else 4."""
    arguments = _parser().parse_args(argv)
    if arguments.list:
        return _list(as_json=arguments.json)
    if arguments.source is None or arguments.out is None:
        raise ConfigError("SOURCE and --out FILE.csv", "one of them missing", "see `fedimg measure --help`")
    from fedimg.durable import write_durably
    from fedimg.imaging.rules import load_rules
    from fedimg.measuring.table import as_csv, chosen, measured

    names = chosen(arguments.names)
    book = None if arguments.rules is None else load_rules(_rulebook(arguments.rules))
    _check_out(arguments.out, arguments.source)
    asked = frozenset(names) | (book.names if book is not None else frozenset())
    samples = _samples(arguments, asked)
    with progress() as report:
        table = measured(samples, names, book, lambda done, total: report("measuring", done, total))
    write_durably(arguments.out, as_csv(table), mode=0o600)
    say("the table is patient data of this site: keep it where the images are kept")
    told = {"files": len(table.rows), "measured": table.measured, "reasons": dict(table.reasons)}
    if arguments.json:
        print_json(told)
    else:
        reasons = ", ".join(f"{count} {reason}" for reason, count in table.reasons.most_common())
        left = f"; not measured: {reasons}" if reasons else ""
        sys.stdout.write(f"{table.measured} of {len(table.rows)} files measured{left}\n")
    return 0 if table.measured else 4


def _parser() -> Arguments:
    parser = verb_parser("measure", _ABOUT)
    parser.add_argument(
        "source", nargs="?", type=Path, metavar="HOME|FOLDER", help="a site's home, or images"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="outside of the images; 0600")
    about = "names, or groups: lesion, tissue, hu, cardiothoracic, image, acquisition, radiomics (intensity, shape, texture)"
    parser.add_argument("--names", metavar="A,B,…", help=f"{about}; default all but radiomics")
    about = "masks of a folder's images, under the same names; without it the column mask of its labels.csv"
    parser.add_argument("--masks", type=Path, metavar="FOLDER", help=about)
    about = "what classes 1, 2, … of the masks are: lesion, body, heart, thorax; default lesion"
    parser.add_argument("--regions", default="lesion", metavar="A,B,…", help=about)
    parser.add_argument("--series", action="store_true", help="of a home: slices of a series as one volume")
    about = "a rulebook, or a name in conf/rules: three columns with its answer (docs/radiomics.md)"
    parser.add_argument("--rules", metavar="FILE", help=about)
    parser.add_argument(
        "--list", action="store_true", help="list names with units and meaning; measures nothing"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout; counts only")
    return parser


def _list(*, as_json: bool) -> int:
    from fedimg.imaging.measurements.registry import REGISTRY, group_of

    rows = [
        {"name": name, "group": group_of(name), "unit": one.unit, "meaning": one.meaning}
        for name, one in REGISTRY.items()
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(rows, ("name", "group", "unit", "meaning"))
    return 0


def _samples(arguments: argparse.Namespace, names: frozenset[str]) -> list[Sample]:
    from fedimg.imaging.measurements.registry import REGIONS
    from fedimg.measuring.samples import of_folder, of_home

    regions = tuple(part.strip() for part in arguments.regions.split(","))
    if not set(regions) <= set(REGIONS) or len(set(regions)) < len(regions):
        raise ConfigError(f"--regions of {', '.join(REGIONS)}, each once", arguments.regions, "correct it")
    source: Path = arguments.source
    if (source / "home.json").exists():
        if arguments.masks is not None:
            raise ConfigError("--masks with a folder of images", "a home", "leave it out: a home has its own")
        from fedimg.home import SiteHome

        found = of_home(SiteHome.open(source), regions, names, series=arguments.series)
    else:
        if arguments.series:
            raise ConfigError("--series with a home", "a folder", "leave it out")
        found = of_folder(source, arguments.masks, regions, names)
    if not found:
        raise DataError("released files in the home", "none", "take images in first: `fedimg site admit`")
    return found


def _rulebook(name: str) -> Path:
    from fedimg.config.keys import conf_folder

    shipped = conf_folder() / "rules" / f"{name}.yaml"
    return shipped if "/" not in name and shipped.is_file() else Path(name)


def _check_out(out: Path, source: Path) -> None:
    """Not among the images, and over nothing but an earlier table."""
    from fedimg.measuring.table import WARNING

    if out.suffix != ".csv":
        raise ConfigError("a name that ends in .csv", out.suffix or "no ending", "name the table so")
    if not out.parent.is_dir():
        raise ConfigError("a folder to write into", "none there", "make it first")
    at_home = (source / "home.json").exists() and out.resolve().parent == source.resolve()
    if source.resolve() in out.resolve().parents and not at_home:
        raise ConfigError("FILE.csv outside of the images", "one among them", "name a file elsewhere")
    if out.is_symlink() or out.exists():
        first = ""
        if out.is_file() and not out.is_symlink():
            with out.open(encoding="utf-8", errors="replace") as file:
                first = file.readline(200)
        if not first.startswith(WARNING):
            raise ConfigError("a new file, or an earlier table of this verb", "another file", "name another")
