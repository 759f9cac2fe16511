"""`fedimg doctor`: is everything in place, at a site or at the coordinator? One row a check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedimg import __version__
from fedimg.cli.console import print_json, print_table, verb_parser
from fedimg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fedimg.checkup import Checkup

_ABOUT = (
    "Look at a site or at a federation's server from end to end: files, keys, certificates, ledger, data, a step of "
    "training. It changes nothing. The exit code is 1 where a check fails; warnings do not count. "
    "docs/provisioning.md lists the checks."
)


def run(argv: Sequence[str]) -> int:
    parser = verb_parser("doctor", _ABOUT)
    parser.add_argument(
        "path", type=Path, help="a site's settings (sites/NAME.yaml), its home, or a federation's folder"
    )
    parser.add_argument("--dial", action="store_true", help="at a site: dial the server too, as a stranger")
    parser.add_argument("--json", action="store_true", help="a JSON list on stdout")
    arguments = parser.parse_args(argv)
    if not arguments.path.exists():
        raise DataError("a site's settings or home, or a federation's folder", "none there", "name another")
    coordinators = (arguments.path / "federation.json").exists()
    if coordinators and arguments.dial:
        raise ConfigError("--dial at a site", "a federation's folder", "leave it out, or name a site's home")
    from fedimg.checkup import Checkup, State

    checkup = Checkup()
    _examine(checkup, arguments.path, coordinators=coordinators, dial=arguments.dial)
    rows = [finding.row() for finding in checkup.findings]
    if arguments.json:
        print_json(rows)
    else:
        shown = {State.FAIL.value: "FAIL"}
        print_table(
            [row | {"state": shown.get(row["state"], row["state"])} for row in rows],
            ("state", "check", "found", "remedy"),
        )
    return 1 if checkup.failed else 0


def _examine(checkup: Checkup, path: Path, *, coordinators: bool, dial: bool) -> None:
    from fedimg.checkup import Seen, fail, one_installation, program

    checkup.look("installation", one_installation)
    checkup.look("program", lambda: program(__version__))
    try:
        if coordinators:
            from server.doctor import examine as examine_coordinator

            examine_coordinator(checkup, path)
        else:
            from sites.doctor import examine

            examine(checkup, path, dial=dial)
    except ImportError:  # mostly a package of another's, as the first check has said
        missing: Seen[None] = fail("a part of the program that cannot be imported", "install fedimg again")
        checkup.look("everything else", lambda: missing)
