"""`fedimg watch`: released models look at the studies that arrive at a hospital, and warn."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fedimg.cli.console import print_json, print_table, say, verb_parser
from fedimg.cli.watch import histograms
from fedimg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sites.watch.settings import WatchSettings
    from sites.watch.store.models import Registered

_EPILOG = "exit code 0: done; 1: a model that works here was withdrawn; 2: settings that cannot be; 4: a bundle or a store that was refused. docs/watching.md has it all."


def run(argv: Sequence[str]) -> int:
    parser = verb_parser("watch", "Let released models look at the studies that arrive, and warn.")
    parser.epilog = _EPILOG
    verbs = parser.add_subparsers(required=True, metavar="start|token|status|models|audit|histograms")
    start = verbs.add_parser("start", help="receive, look, alert, until ended")
    start.set_defaults(of=_start)
    token = verbs.add_parser("token", help="print the page's access token")
    token.add_argument("--new", action="store_true", help="make another one; who is logged in is logged out")
    token.set_defaults(of=_token)
    status = verbs.add_parser(
        "status", help="how many studies, jobs, alerts and deliveries stand where, and what was refused"
    )
    status.add_argument("--json", action="store_true", help="one JSON object on stdout")
    status.set_defaults(of=_status)
    about = (
        "list the models, take in another one, make one speak or silent; a running watcher follows at once"
    )
    models = verbs.add_parser("models", help=about, description=about)
    models.add_argument("--add", type=Path, metavar="BUNDLE", help="begins in the shadow of one of its name")
    for role, words in (
        ("active", "speaks; the one of its name that did is silent"),
        ("shadow", "looks, and nobody is told"),
        ("retired", "looks no more"),
    ):
        models.add_argument(f"--{role}", metavar="DIGEST", help=f"{words} (the first digits are enough)")
    models.add_argument(
        "--check",
        type=Path,
        metavar="LIST",
        help="a coordinator's list: exit code 1 if one that works here was withdrawn",
    )
    models.add_argument("--json", action="store_true", help="one JSON list on stdout")
    models.set_defaults(of=_models)
    audit = verbs.add_parser(
        "audit", help="check that no entry of the audit trail was changed, and print its head"
    )
    audit.set_defaults(of=_audit)
    shared = verbs.add_parser("histograms", help=histograms.ABOUT, description=histograms.ABOUT)
    for verb in (start, token, status, models, audit, shared):
        verb.add_argument("settings", type=Path, help="the watcher's YAML: see sites/watch/example.yaml")
    histograms.add_to(shared)
    arguments = parser.parse_args(argv)
    done: int = arguments.of(arguments)
    return done


def _start(arguments: Namespace) -> int:
    from fedimg.process_log import logger
    from fedimg.process_signals import ending_on_signals
    from sites.watch.service import serve
    from sites.watch.settings import WatchSettings

    with ending_on_signals() as ending:
        serve(WatchSettings.load(arguments.settings), ending, logger("watch"))
    return 0


def _token(arguments: Namespace) -> int:
    from fedimg.web.access import AccessToken
    from sites.watch.console.serving import TOKEN_FILE

    root = _root(arguments)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = AccessToken(root / TOKEN_FILE)
    sys.stdout.write((token.renew() if arguments.new else token.read()) + "\n")
    return 0


def _status(arguments: Namespace) -> int:
    from sites.watch.dicomweb_poll_memory import standing
    from sites.watch.kept_counts import refused
    from sites.watch.store.schema import reader

    root = _root(arguments)
    connection = reader(root)
    found: dict[str, Mapping[str, int]] = {
        name: {row[0]: row[1] for row in connection.execute(query)}
        for name, query in (
            ("studies", "SELECT state, COUNT(*) FROM study GROUP BY state"),
            ("jobs", "SELECT state, COUNT(*) FROM job GROUP BY state"),
            ("alerts", "SELECT state, COUNT(*) FROM alert GROUP BY state"),
            ("pictures", "SELECT state, COUNT(*) FROM attention GROUP BY state"),
            ("deliveries", "SELECT state, COUNT(*) FROM delivery GROUP BY state"),
        )
    }
    found["refused"] = refused(connection)
    connection.close()
    if polled := standing(root / "spool"):
        found["polled"] = polled
    if arguments.json:
        print_json(found)
    else:
        rows = [
            {"what": n, "state": s, "count": c} for n, own in found.items() for s, c in sorted(own.items())
        ]
        print_table(rows, ["what", "state", "count"])
    return 0


def _models(arguments: Namespace) -> int:
    from sites.watch import bundles
    from sites.watch.settings import WatchSettings
    from sites.watch.store.database import Database
    from sites.watch.store.models import Models, Role

    settings = WatchSettings.load(arguments.settings)
    trusted = bundles.trusted_keys(settings)
    database = Database(_existing(Path(settings.home)))
    models = Models(database)
    if arguments.add is not None:
        one, _ = bundles.verified(arguments.add.resolve(), trusted)
        models.add(one, "operator", time.time())
    roles: tuple[Role, ...] = ("active", "shadow", "retired")
    for role in roles:
        if (begin := getattr(arguments, role)) is not None:
            models.set_role(
                digest_of(begin, [one.digest for one in models.all()]), role, "operator", time.time()
            )
    known = models.all()
    database.close()
    if arguments.check is not None:
        return _check(arguments, settings, [one for one in known if one.role != "retired"])
    rows = [
        {"name": one.name, "version": one.version, "role": one.role, "kind": one.kind, "digest": one.digest}
        for one in known
    ]
    if arguments.json:
        print_json(rows)
    else:
        print_table(
            [row | {"digest": row["digest"][:16]} for row in rows], list(rows[0]) if rows else ["name"]
        )
    return 0


def _check(arguments: Namespace, settings: WatchSettings, working: Sequence[Registered]) -> int:
    """How the models that work here stand with the coordinator that made them."""
    from fedimg.crypto.public_key import public_key
    from sites.watch import released

    if settings.coordinator_key is None:
        raise ConfigError(
            "coordinator_key in the settings",
            "none",
            "ask the coordinator for its key, and compare it by telephone",
        )
    key = public_key(settings.coordinator_key)
    found = released.check(Path(settings.home), arguments.check, key, working)
    rows = [asdict(one) for one in found]
    if arguments.json:
        print_json(rows)
    else:
        columns = ("name", "version", "role", "standing", "since", "why", "digest")
        print_table([row | {"digest": row["digest"][:16]} for row in rows], columns)
    withdrawn = sum(one.standing == released.WITHDRAWN for one in found)
    if withdrawn:
        say(f"{withdrawn} of the models that work here withdrawn: make another active, or --retired DIGEST")
    return 1 if withdrawn else 0


def _audit(arguments: Namespace) -> int:
    from sites.watch.store import audit
    from sites.watch.store.schema import reader

    connection = reader(_root(arguments))
    count, head = audit.verify(connection)
    connection.close()
    sys.stdout.write(f"{count} entries, none changed; head {head}\n")
    return 0


def _root(arguments: Namespace) -> Path:
    from sites.watch.settings import WatchSettings

    return Path(WatchSettings.load(arguments.settings).home)


def _existing(root: Path) -> Path:
    if not root.is_dir():
        raise DataError("a watcher's home", "none", "start the watcher once")
    return root


def digest_of(begin: str, known: Sequence[str]) -> str:
    """The one digest that begins so. Raises DataError where there is none, or several."""
    found = [one for one in known if begin and one.startswith(begin)]
    if len(found) != 1:
        remedy = "write more of them" if begin and found else "`fedimg watch models SETTINGS` lists them"
        raise DataError("the first digits of one model's digest", f"those of {len(found)} models", remedy)
    return found[0]
