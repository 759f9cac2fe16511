"""`fedimg site`: a hospital's home, its data, and its process in a federation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedimg.cli.console import add_action, verb_parser

_EPSILON_MAX = 10.0
_DELTA = 1e-5  # of a ledger whose site says nothing else


def run(argv: Sequence[str]) -> int:
    parser = verb_parser(
        "site",
        "Make a site's home, fill it, take part in a federation, back it up, and read what it tells its operator.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _of_homes(actions)
    _of_running(actions)
    _of_keeping(actions)
    arguments = parser.parse_args(argv)
    from fedimg.cli.site import homes, keeping, running

    done: int = {
        "init": homes.init,
        "log": homes.log,
        "open": homes.open_commitments,
        "admit": running.admit,
        "start": running.start,
        "approve": running.approve,
        "decline": running.decline,
        "close": running.close,
        "backup": keeping.backup,
        "restore": keeping.restore,
    }[arguments.action](arguments)
    return done


def _of_running(actions: Any) -> None:
    admit = add_action(
        actions, "admit", "take a data source in: everything that training may read passes here"
    )
    admit.add_argument("home", type=Path, help="a site's home folder")
    admit.add_argument("overrides", nargs="*", metavar="key=value", help="data=dicom data.path=… deid=…")
    admit.add_argument("--share", metavar="NAME", help="of a source that is divided among sites: this one's")
    start = add_action(actions, "start", "take part in the federation that the home has pinned, until ended")
    start.add_argument("--config", type=Path, required=True, help="the process's settings, sites/NAME.yaml")
    approve = add_action(actions, "approve", "list the runs that were offered, or agree to one")
    approve.add_argument("home", type=Path, help="a site's home folder")
    approve.add_argument("plan", nargs="?", help="a run's name, or 8 letters or more of its plan's digest")
    approve.add_argument("--json", action="store_true", help="a JSON list on stdout")
    decline = add_action(
        actions, "decline", "do not take part in a run that was offered; approve takes it back"
    )
    decline.add_argument("home", type=Path, help="a site's home folder")
    decline.add_argument("run", help="its name")
    about = "end a run here, for good: what it had set aside and not spent is free again"
    close = add_action(actions, "close", about)
    close.add_argument("home", type=Path, help="a site's home folder")
    close.add_argument("run", help="its name")


def _of_keeping(actions: Any) -> None:
    from fedimg.cli.site import keeping

    backup = add_action(actions, "backup", "seal what the site cannot make again into one file, for one key")
    restore = add_action(
        actions, "restore", "make a home from its backup; it releases nothing until it is recovered"
    )
    keeping.add_to(backup, restore)


def _of_homes(actions: Any) -> None:
    about = "make a home: keys, policy and an empty privacy ledger, for good"
    init = actions.add_parser("init", help=about, description=about)
    init.add_argument("home", type=Path, help="a folder that is new or empty")
    init.add_argument(
        "--patients", type=int, required=True, help="this site's rounded number of patients; public"
    )
    init.add_argument(
        "--epsilon-max", type=float, help=f"what all runs ever may cost a patient; {_EPSILON_MAX:g} if absent"
    )
    init.add_argument(
        "--delta",
        type=float,
        help=f"of that promise; the smaller of 1/(10 · patients) and {_DELTA:g} if absent",
    )
    whose = init.add_mutually_exclusive_group()
    whose.add_argument(
        "--site",
        type=Path,
        metavar="HOME",
        help="a home of the same site: the new one is for another study, with its keys and its ledger",
    )
    whose.add_argument(
        "--another-site",
        action="store_true",
        help="of which no patient can be a patient of the sites made here before; it gets a ledger of its own",
    )
    log = actions.add_parser("log", help="refusals and faults, for the site's own operator")
    log.add_argument("home", type=Path, help="a site's home folder")
    log.add_argument("--json", action="store_true", help="a JSON list on stdout")
    about = "open this site's commitments in a release record, for one auditor: the file holds the secret"
    opening = actions.add_parser("open", help=about, description=about)
    opening.add_argument("home", type=Path, help="a site's home folder")
    opening.add_argument("record", type=Path, help="a run's folder, or a record.json")
    opening.add_argument(
        "--out", type=Path, required=True, help="file to write, mode 0600; refused if there is one"
    )
