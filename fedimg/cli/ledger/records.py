"""The verbs of `fedimg ledger` that change it: withdrawals, records carried over, a ledger after a loss."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedimg.cli.console import print_json
from fedimg.errors import DataError

if TYPE_CHECKING:
    from fedimg.home import SiteHome

ACTIONS = {
    "withdraw": "leave patients out from the next sampling on, for good, also of a run that is under way",
    "remap": "make two records one, or carry all records over to a new site key",
    "recover": "after the loss of the disk: a backup, and everything reserved counts as spent",
}


def add_to(name: str, action: argparse.ArgumentParser) -> None:
    """The arguments of one verb."""
    action.add_argument("home", type=Path, help="a site's home folder")
    action.add_argument("--json", action="store_true", help="one JSON object on stdout")
    if name == "recover":
        action.add_argument(
            "--backup", type=Path, required=True, help="an older ledger.sqlite, or a signed extract"
        )
        action.add_argument(
            "--head", required=True, help="the last head that the server keeps: NUMBER-DIGEST"
        )
        action.add_argument(
            "--reserved", type=int, help="number of the last reservation that the server keeps beside it"
        )
        return
    columns = "patient_id,issuer" if name == "withdraw" else "patient_id,issuer,new_patient_id,new_issuer"
    action.add_argument("--patients", type=Path, required=True, help=f"a CSV file: {columns} a line")
    if name == "remap":
        action.add_argument(
            "--from-key", type=Path, help="the old site key: the list then has patient_id,issuer of everyone"
        )


def run(arguments: Any) -> int:
    """Carry out one of `ACTIONS`."""
    said = {"withdraw": _withdraw, "remap": _remap, "recover": _recover}[arguments.action](arguments)
    if arguments.json:
        print_json(said)
    else:
        sys.stdout.write("".join(f"{name.replace('_', ' ')}: {value}\n" for name, value in said.items()))
    return 0


def _withdraw(arguments: Any) -> dict[str, Any]:
    from fedimg.dicom.ledger_keys import LedgerKeys

    home = _home(arguments.home)
    keys = LedgerKeys(home.site_key)
    listed = {keys.of(issuer, patient) for patient, issuer in _rows(arguments.patients, 2)}
    ledger = _opened(home)
    try:
        known = ledger.withdraw(sorted(listed), keys.digest)
    finally:
        ledger.disconnect()
    # Only the site's own operator reads this: a number of which none was known is a misspelt list.
    return {"withdrawn": len(listed), "of_these_in_a_run_before": known}


def _remap(arguments: Any) -> dict[str, Any]:
    from fedimg.crypto.keys import SiteKey
    from fedimg.dicom.ledger_keys import LedgerKeys

    home = _home(arguments.home)
    keys = LedgerKeys(home.site_key)
    ledger = _opened(home)
    try:
        if arguments.from_key is None:
            rows = _rows(arguments.patients, 4)
            pairs = [
                (keys.of(issuer, old), keys.of(new_issuer, new)) for old, issuer, new, new_issuer in rows
            ]
            ledger.merge(pairs, keys.digest)
            return {"merged": len(pairs)}
        before = LedgerKeys(SiteKey.load(arguments.from_key))
        people = _rows(arguments.patients, 2)
        ledger.rekey({before.of(i, p): keys.of(i, p) for p, i in people}, keys.digest)
        return {"carried_over": len(people)}
    finally:
        ledger.disconnect()


def _recover(arguments: Any) -> dict[str, Any]:
    from fedimg.privacy.chain import head_of
    from fedimg.privacy.ledger import Ledger

    home = _home(arguments.home)
    seen = head_of(arguments.head)
    ledger = Ledger.recover(home.ledger, home.signing_key, arguments.backup, seen, arguments.reserved)
    statement = ledger.statement
    ledger.disconnect()
    return {
        "head": statement.head.name,
        "epsilon_spent": statement.epsilon_spent,
        "epsilon_left": statement.epsilon_left,
        "to_do": "enter the withdrawals and merged records since the backup again",
    }


def _home(root: Path) -> SiteHome:
    from fedimg.home import SiteHome

    return SiteHome.open(root)


def _opened(home: SiteHome) -> Any:
    from fedimg.privacy.ledger import Ledger

    return Ledger.open(home.ledger, home.signing_key)


def _rows(path: Path, columns: int) -> list[list[str]]:
    """Lines of a CSV file, short ones filled up with ""; a first line of column names is skipped.

    Raises DataError where it cannot be read, or a number is missing; the message quotes nothing of it.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [line for line in csv.reader(file) if any(cell.strip() for cell in line)]
    except (OSError, ValueError, csv.Error):
        raise DataError("a CSV file of patient numbers", "none that can be read", "name one") from None
    if lines and lines[0][0].strip() == "patient_id":
        lines = lines[1:]
    needed = range(0, columns, 2)
    rows = [line[:columns] + [""] * (columns - len(line)) for line in lines]
    wrong = [
        place
        for place, (line, row) in enumerate(zip(lines, rows, strict=True), start=1)
        if len(line) > columns or not all(row[column].strip() for column in needed)
    ]
    if wrong or not rows:
        found = f"another in line {wrong[0]}" if wrong else "none"
        raise DataError(
            f"lines of up to {columns} columns, each with its patient number", found, "correct it"
        )
    return rows
