"""A home from its backup: whole under its name or not at all, and in a state in which it releases nothing yet.

A backup is older than what was spent and answered since. So the restored ledger lies beside its place and is not used
until `fedimg ledger recover` has taken up the coordinator's head (everything that was reserved counts as spent), and no
run of before is joined again (`fedimg.restored`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedimg import shared_site
from fedimg.archive import Archive
from fedimg.crypto.sealing import SealingKey
from fedimg.dicom import receipts
from fedimg.durable import fresh_folder
from fedimg.errors import DataError
from fedimg.home import SiteHome
from fedimg.intake.admission import anchor_of
from fedimg.privacy.stated import statement_of
from fedimg.restored import Restored
from fedimg.shared_site import FirstHome
from sites.backup import LEDGER, PURPOSE, belongs

_OTHER = "name the file that `fedimg site backup` wrote"


@dataclass(frozen=True, slots=True)
class RestoredHome:
    """Attributes: made: when the backup was. files: how many. key: the site's, hex. closed: names of runs.
    ledger: the old ledger, still to be recovered; None in a further home. head: its last one.
    """

    made: str
    files: int
    key: str
    closed: tuple[str, ...]
    ledger: Path | None
    head: str


def restore(
    file: Path, root: Path, key: SealingKey, sender: str | None = None, now: datetime | None = None
) -> RestoredHome:
    """Make the home `root`, which must not exist.

    Args:
        sender: the site's public key, hex, where it is known; another site's backup is then refused.

    Raises:
        DataError: the archive is cut, changed, for another key, another site's or of something else; there is a
        home already, here or where this machine knows it; receipts do not verify. LedgerError: the ledger does not.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    state = shared_site.state_folder()
    with shared_site.alone(state), fresh_folder(root) as partial:
        with Archive.open(file, key, PURPOSE, partial) as archive:
            facts = _facts(archive.facts)
            _check_sender(archive.sender, sender)
            if facts["first"] and not facts["simulated"]:
                shared_site.check_lost(state, archive.sender)
            archive.extract(partial, belongs)
        home = _opened(partial, archive.sender, facts)
        open_in_ledger = _check_ledger(home) if facts["first"] else ()
        closed = _open_runs(partial, open_in_ledger)
        Restored.at(facts["made"], now or datetime.now(UTC), closed).write(partial)
        _note(home, root, state)
    return RestoredHome(
        facts["made"],
        archive.files,
        archive.sender,
        closed,
        root / LEDGER if facts["first"] else None,
        facts["head"],
    )


def _facts(found: dict[str, Any]) -> dict[str, Any]:
    kinds = {"made": str, "first": bool, "simulated": bool, "head": str}
    if found.get("kind") != "home" or any(type(found.get(name)) is not kind for name, kind in kinds.items()):
        raise DataError("a backup of a site's home", "an archive of something else", _OTHER)
    return found


def _check_sender(found: str, expected: str | None) -> None:
    if expected is not None and found != expected.lower():
        raise DataError("a backup that this site signed", "another site's", _OTHER)


def _opened(partial: Path, sender: str, facts: dict[str, Any]) -> SiteHome:
    """The home as it will be; its keys are those that signed the backup, and its receipts verify."""
    home = SiteHome.open(partial)
    same = (home.first is None, home.simulated) == (facts["first"], facts["simulated"])
    if home.signing_key.public_bytes.hex() != sender or not same:
        raise DataError(
            "a home whose own key signed the backup", "another key, or another kind of home", _OTHER
        )
    if home.receipts.exists() or receipts.head_path(home.receipts).exists():
        for _ in receipts.read(home.receipts, home.signing_key.public_bytes):
            pass  # the whole chain
    return home


def _check_ledger(home: SiteHome) -> tuple[str, ...]:
    """Runs that had not ended; the ledger itself stays where nothing opens it."""
    if home.ledger.exists() or not (home.root / LEDGER).exists():
        raise DataError("a backup with a ledger to be recovered", "another", _OTHER)
    runs = statement_of(home.root / LEDGER, home.signing_key).runs
    return tuple(run.run for run in runs.values() if not run.closed)


def _open_runs(root: Path, in_ledger: tuple[str, ...]) -> tuple[str, ...]:
    """Every run that the backup knows of, and not its end."""
    known = set(in_ledger)
    for folder in ("runs", "outbox", "sums"):
        if (root / folder).is_dir():
            known |= {path.name for path in (root / folder).iterdir()}
    known |= {path.stem for path in (root / "plans").glob("*.json")}
    known = {run for run in known if not (root / "runs" / run / "ended.part").exists()}
    before = Restored.read(root)  # of a home that had been restored when it was backed up
    return tuple(sorted(known | set(before.closed if before is not None else ())))


def _note(home: SiteHome, root: Path, state: Path) -> None:
    """This machine now knows the home at its place, with the receipts that it has: its operator put them back."""
    if home.simulated:
        return
    if home.first is None:
        shared_site.note_moved(state, FirstHome.of(root, home.signing_key.public_bytes))
    anchor, key = anchor_of(home), home.signing_key.public_bytes
    if anchor is None:
        return
    if receipts.head_path(home.receipts).exists():
        anchor.note(receipts.count_signed(home.receipts, key), receipts.last_signed(home.receipts, key))
    else:
        anchor.path.unlink(missing_ok=True)
