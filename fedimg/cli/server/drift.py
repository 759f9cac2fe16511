"""`fedimg server drift`: the sites' drift histograms, verified and compared, each site with all the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedimg.cli.console import add_action, print_json, print_table, say

if TYPE_CHECKING:
    from fedimg.monitoring.across_sites import Compared
    from server.drift import Round

_ABOUT = (
    "take in sites' drift histograms and compare each site with the others; without files show what was found"
)
_COLUMNS = ("model", "from", "to", "stream", "site", "patients", "distance", "low", "high", "p", "differs")


def add_to(actions: Any) -> None:
    """The arguments of the verb."""
    parser = add_action(actions, "drift", _ABOUT)
    parser.add_argument("folder", type=Path, help="a federation's folder")
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help="of `fedimg watch histograms`")
    parser.add_argument("--level", type=float, default=0.05, help="of a false alarm in a round, default 0.05")
    parser.add_argument("--json", action="store_true", help="one JSON list on stdout")


def run(arguments: Any) -> int:
    from server.drift import rounds, take_in
    from server.federation_folder import FederationFolder

    folder = FederationFolder(arguments.folder)
    found = take_in(folder, arguments.files, arguments.level)
    if not arguments.files:
        found = rounds(folder)
    if arguments.json:
        print_json([one.to_json() for one in found])
        return 0
    print_table([row for one in found for row in _rows(one)], _COLUMNS)
    for one in found:
        if not one.compared:
            say(
                f"{one.model[:16]}, {one.first} to {one.last}: {len(one.sites)} site; nobody to compare it with yet"
            )
        elif len(one.sites) == 2 and one.flagged:
            say(f"{one.model[:16]}, {one.first} to {one.last}: of two sites nobody can say which one differs")
    return 0


def _verdict(row: Compared) -> str:
    if not row.told:
        return "too few"
    if row.but_for:
        return f"not without {', '.join(row.but_for)}"
    return "yes" if row.flagged else "no"


def _rows(one: Round) -> list[dict[str, Any]]:
    return [
        {
            "model": one.model[:16],
            "from": one.first,
            "to": one.last,
            "stream": row.stream,
            "site": row.site,
            "patients": round(row.patients),
            "distance": row.distance if row.told else None,
            "low": row.low if row.told else None,
            "high": row.high if row.told else None,
            "p": row.p if row.told else None,
            "differs": _verdict(row),
        }
        for row in one.compared
    ]
