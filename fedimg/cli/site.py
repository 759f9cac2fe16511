"""`fedimg site`: a hospital's home folder."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedimg.cli.console import print_json, print_table, verb_parser
from fedimg.errors import ConfigError

if TYPE_CHECKING:
    from fedimg.home import SiteHome

# What a home holds only after its ledger was made.
_OF_WORK = ("ledger.sqlite", "ledger.sqlite-wal", "plans", "outbox", "receipts.jsonl", "operator.log")


def run(argv: Sequence[str]) -> int:
    parser = verb_parser("site", "Make a site's home folder, and read what it tells its operator.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="init|log")
    about = "make a home: keys, policy and an empty privacy ledger, for good"
    init = actions.add_parser("init", help=about, description=about)
    init.add_argument("home", type=Path, help="a folder that is new or empty")
    init.add_argument(
        "--patients", type=int, required=True, help="this site's rounded number of patients; public"
    )
    init.add_argument("--epsilon-max", type=float, default=10.0, help="what all runs ever may cost a patient")
    init.add_argument("--delta", type=float, help="of that promise; 1/(10 · patients) or 1e-5 if absent")
    log = actions.add_parser("log", help="refusals and faults, for the site's own operator")
    log.add_argument("home", type=Path, help="a site's home folder")
    log.add_argument("--json", action="store_true", help="a JSON list on stdout")
    arguments = parser.parse_args(argv)
    return _init(arguments) if arguments.action == "init" else _log(arguments)


def _init(arguments: Any) -> int:
    if arguments.patients < 1:
        raise ConfigError(
            "--patients of at least 1", str(arguments.patients), "declare the site's rounded size"
        )
    from fedimg.durable import write_durably
    from fedimg.privacy.events import Event
    from fedimg.privacy.ledger import Ledger, LedgerTerms
    from fedimg.privacy.policy import SitePolicy
    from fedimg.privacy.renyi import best_order

    delta = min(1e-5, 0.1 / arguments.patients) if arguments.delta is None else arguments.delta
    # The order is fixed for the ledger's life: best for steps at σ = 1 that sample a tenth.
    order = best_order(arguments.epsilon_max, delta, [Event(1.0, 0.1, 1)])
    terms = LedgerTerms(arguments.epsilon_max, delta, order)
    home = _home(arguments.home)
    template = (files("sites") / "policies" / "default.yaml").read_text("utf-8")
    policy = re.sub(
        r"(?m)^declared_patients: *\d+", f"declared_patients: {arguments.patients}", template, count=1
    )
    write_durably(home.policy, policy)
    if SitePolicy.load(home.policy).declared_patients != arguments.patients:
        raise ConfigError("a shipped policy with declared_patients", "none", "install fedimg again")
    Ledger.create(home.ledger, home.signing_key, terms).disconnect()
    sys.stdout.write(
        f"home {arguments.home}\nledger: ε ≤ {terms.epsilon_max:g} at δ = {delta:g} for all runs together\n"
        f"public key {home.signing_key.public_bytes.hex()}\nread and edit {home.policy}\n"
    )
    return 0


def _home(root: Path) -> SiteHome:
    """A new home, or one whose making was interrupted before its ledger: nothing was ever done in it.

    A home that has worked and has lost its ledger is not one: a new ledger would forget what was spent.
    """
    from fedimg.home import SiteHome

    if (root / "home.json").exists() and not any((root / name).exists() for name in _OF_WORK):
        home = SiteHome.open(root)
        if not home.simulated:
            return home
    return SiteHome.create(root, simulated=False)


def _log(arguments: Any) -> int:
    from fedimg.home import SiteHome
    from fedimg.operator_log import read_operator_log

    lines: list[Mapping[str, Any]] = list(read_operator_log(SiteHome.open(arguments.home).root))
    if arguments.json:
        print_json(lines)
    else:
        print_table(lines, ("time", "step", "kind", "expected", "found", "remedy"))
    return 0
