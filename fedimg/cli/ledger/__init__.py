"""`fedimg ledger`: what a site promised its patients, what it spent, and what is left."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedimg.cli.console import print_json, print_table, verb_parser
from fedimg.cli.ledger import records
from fedimg.errors import DataError, LedgerError

if TYPE_CHECKING:
    from fedimg.privacy.ledger import Ledger, Statement

COLUMNS = ("run", "state", "release", "noise_multiplier", "sampling_rate", "declared", "retries", "charged")


def run(argv: Sequence[str]) -> int:
    parser = verb_parser("ledger", "Show, verify, export, correct and recover a site's privacy ledger.")
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="show|verify|export|recover|withdraw|remap"
    )
    for name, about in (
        ("show", "the runs of a ledger and what each reserved and spent"),
        ("verify", "check every entry and signature; exit code 3 if one does not hold"),
        ("export", "write the signed extract of a home's ledger"),
    ):
        action = actions.add_parser(name, help=about, description=about)
        if name == "export":
            action.add_argument("source", type=Path, help="a site's home folder")
            action.add_argument("out", type=Path, help="file to write; refused if there is one")
            action.add_argument("--json", action="store_true", help="one JSON object on stdout")
            continue
        action.add_argument("source", type=Path, help="a site's home folder, or a signed extract")
        action.add_argument("--key", help="the site's public key, hex: an extract must be signed by it")
        action.add_argument("--json", action="store_true", help="one JSON object on stdout")
    for name, about in records.ACTIONS.items():
        records.add_to(name, actions.add_parser(name, help=about, description=about))
    arguments = parser.parse_args(argv)
    if arguments.action in records.ACTIONS:
        return records.run(arguments)
    if arguments.action == "export":
        return _export(arguments.source, arguments.out, as_json=arguments.json)
    statement, key = _statement(arguments.source, arguments.key)
    described = _described(statement, key, trusted=arguments.key is not None or arguments.source.is_dir())
    if arguments.json:
        print_json(described)
    else:
        _print(described, with_runs=arguments.action == "show")
    return 0


def _statement(source: Path, key: str | None) -> tuple[Statement, str]:
    """The verified content of a home's ledger or of an extract, and the key that signed it."""
    if source.is_dir():
        ledger = _open(source)
        try:
            return ledger.statement, json.loads(ledger.extract())["public_key"]
        finally:
            ledger.disconnect()
    from fedimg.privacy.ledger import verify

    try:
        extract = source.read_bytes()
        signer = key or str(json.loads(extract)["public_key"])
        public_key = bytes.fromhex(signer)
    except (OSError, ValueError, KeyError, TypeError):
        raise LedgerError(
            "a site's home folder or a ledger extract, and a key in hex",
            "neither",
            "name the home, or the file that `fedimg ledger export` wrote",
        ) from None
    return verify(extract, public_key), signer


def _open(home: Path) -> Ledger:
    from fedimg.home import SiteHome
    from fedimg.privacy.ledger import Ledger

    opened = SiteHome.open(home)
    return Ledger.open(opened.ledger, opened.signing_key)


def _export(home: Path, out: Path, *, as_json: bool) -> int:
    ledger = _open(home)
    try:
        extract, head = ledger.extract(), ledger.head
    finally:
        ledger.disconnect()
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise DataError("a new file for the extract", "one that exists", "name another file") from None
    with os.fdopen(handle, "wb") as stream:
        stream.write(extract)
    if as_json:
        print_json({"file": str(out), "entries": head.sequence, "head": head.digest.hex()})
    else:
        sys.stdout.write(f"{out}\n")
    return 0


def _described(statement: Statement, key: str, *, trusted: bool) -> dict[str, Any]:
    terms = statement.terms
    return {
        "verified": True,
        "key": key,
        "key_given": trusted,
        "entries": statement.head.sequence,
        "head": statement.head.digest.hex(),
        "simulated": terms.scratch,
        "epsilon_max": terms.epsilon_max,
        "delta": terms.delta,
        "epsilon_spent": statement.epsilon_spent,
        "epsilon_left": statement.epsilon_left,
        "order": terms.order,
        "budget": terms.budget,
        "committed": statement.committed,
        "written_off": statement.lost,
        "remaining": statement.remaining,
        "runs": [
            {
                "run": spend.run,
                "state": "closed" if spend.closed else "open",
                "release": allowance.release,
                "noise_multiplier": allowance.noise_multiplier,
                "sampling_rate": allowance.sampling_rate,
                "declared": allowance.count,
                "retries": allowance.retries,
                "charged": spend.charged.get(allowance.release, 0),
            }
            for spend in statement.runs.values()
            for allowance in spend.allowances.values()
        ],
    }


def _print(ledger: dict[str, Any], *, with_runs: bool) -> None:
    kind = "a simulation's scratch ledger" if ledger["simulated"] else "a site's ledger"
    sys.stdout.write(f"{kind}: {ledger['entries']} entries, every one in its place and signed\n")
    whose = (
        ""
        if ledger["key_given"]
        else " (named by the extract itself; compare it with the site's, or pass --key)"
    )
    sys.stdout.write(f"key {ledger['key']}{whose}\nhead {ledger['head']}\n")
    sys.stdout.write(
        f"promise to each patient over all runs: ε ≤ {ledger['epsilon_max']:g} at δ = {ledger['delta']:g}\n"
        f"ε spent or reserved {ledger['epsilon_spent']:.4g}, ε left {ledger['epsilon_left']:.4g}"
        " over all runs together; of this a run may take less than the ε that it states for itself\n"
        f"budget at Rényi order {ledger['order']}: {ledger['budget']:.4g},"
        f" committed {ledger['committed']:.4g}, left {ledger['remaining']:.4g}\n"
    )
    if with_runs and ledger["runs"]:
        sys.stdout.write("\n")
        print_table(ledger["runs"], COLUMNS)
