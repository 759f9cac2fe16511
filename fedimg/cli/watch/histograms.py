"""`fedimg watch histograms`: one file for the coordinator, so that sites can be compared; each costs the patients' ε."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from datetime import date
from pathlib import Path

from fedimg.cli.console import print_json, print_table
from fedimg.errors import ConfigError, DataError

ABOUT = "make one signed file of noised histograms for the coordinator; it is charged to the site's ledger"


def add_to(parser: ArgumentParser) -> None:
    """Its arguments, behind the settings file."""
    parser.add_argument("out", type=Path, help="a folder; the file gets a name that says nothing")
    parser.add_argument("--model", required=True, metavar="DIGEST", help="the first digits are enough")
    parser.add_argument("--from", dest="first", required=True, metavar="DAY", help="first day, as 2026-01-31")
    parser.add_argument("--to", dest="last", required=True, metavar="DAY", help="last day, itself included")
    parser.add_argument("--epsilon", type=float, required=True, help="what the file may cost each patient")
    parser.add_argument("--delta", type=float, help="the ledger's where left out")
    parser.add_argument(
        "--stream", action="append", default=[], metavar="NAME", help="again for each; else all"
    )
    # no default: under another issuer than in the ledger a withdrawal would be overlooked
    about = "of patient numbers, as this site's images and withdrawals name it; '' where they name none"
    parser.add_argument("--issuer", required=True, help=about)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(of=run)


def run(arguments: Namespace) -> int:
    from fedimg.cli.watch import digest_of
    from fedimg.home import SiteHome
    from sites.watch.histogram_release import Asked, make
    from sites.watch.settings import WatchSettings
    from sites.watch.store.schema import reader

    settings = WatchSettings.load(arguments.settings)
    if settings.site_home is None:
        raise ConfigError(
            "site_home in the watcher's settings", "none", "name the home of `fedimg site init`"
        )
    root = Path(settings.home)
    store = reader(root)
    known = [row["digest"] for row in store.execute("SELECT digest FROM model")]
    store.close()
    asked = Asked(
        digest_of(arguments.model, known),
        day(arguments.first),
        day(arguments.last),
        arguments.epsilon,
        arguments.delta,
        tuple(arguments.stream),
        arguments.issuer,
    )
    made = make(SiteHome.open(Path(settings.site_home)), root, asked, arguments.out)
    said = {
        "file": str(made.file),
        "model": asked.model,
        "epsilon": made.histograms.epsilon,
        "delta": made.histograms.delta,
        "noise_std": made.histograms.noise_std,
        "streams": len(made.histograms.counts),
        "ledger_epsilon_spent": made.epsilon_spent,
        "ledger_epsilon_left": made.epsilon_left,
    }
    if arguments.json:
        print_json(said)
    else:
        print_table(
            [{"what": name.replace("_", " "), "value": value} for name, value in said.items()],
            ["what", "value"],
        )
    return 0


def day(text: str) -> date:
    """Raises DataError for what is no day."""
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise DataError("a day as 2026-01-31", "another text", "write year, month and day") from None
