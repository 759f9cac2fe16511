"""A backup of what a site cannot make again: one sealed archive for the holder of one key.

    always            keys, policy, ledger, ledger-keys, receipts, look-ups, shares, labels, roster, operator.log,
                      federation/, plans/, outbox/, sums/, runs/, battery/, commitments/
    --released        released/, targets/, and declared public arrays
    never             cache/, quarantine/, source/, reports, locks: they are made again, or hold patients' data as it came;
                      heterogeneity/: its runs are closed for a restored home, and personal models are not noised

The ledger is copied by SQLite's own backup, so that it is whole while a run is charged, and stands in the archive under
the name that a restored home keeps it by: it is never opened there as it is. A further home's archive has neither keys
nor ledger: those are the first home's, which has a backup of its own.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedimg import __version__
from fedimg.archive import Member, Written, write
from fedimg.dicom.chain import chain_locked
from fedimg.durable import locked
from fedimg.errors import LedgerError
from fedimg.home import SiteHome
from fedimg.privacy import chain_file
from fedimg.privacy.ledger import Ledger
from fedimg.restored import NAME as RESTORED
from fedimg.restored import time_of

PURPOSE = "fedimg backup 1"
LEDGER = chain_file.restored_of(Path("ledger.sqlite")).name
_KEYS = frozenset({"site.key", "signing.key"})
# What only grows while an intake is at work, which the backup keeps out: read where it lies, however long it is.
_LINES = frozenset(
    {"receipts.jsonl", "receipts.head", "audit.jsonl", "audit.head", "labels.jsonl", "ledger-keys.jsonl"}
)
_FILES = frozenset(
    {
        *_KEYS,
        *_LINES,
        *("home.json", "policy.yaml", "source.sha256", "roster.json", "operator.log"),
        *("shares.jsonl", "shares.head", RESTORED),
    }
)
_FOLDERS = frozenset({"federation", "plans", "outbox", "sums", "runs", "battery", "commitments"})
_PUBLIC_ARRAYS = frozenset({"declared_public.npz", "declared_public.json"})
_RELEASED = frozenset({"released", "targets"})  # what training may read, and what is drawn over it


@dataclass(frozen=True, slots=True)
class Backup:
    """Attributes: written: files and bytes. head: of the ledger as it was copied; "" of a further home."""

    written: Written
    head: str


def belongs(name: str) -> bool:
    """Whether a backup may hold a file of that name."""
    first, _, rest = name.partition("/")
    if rest:
        return first in _FOLDERS or first in _RELEASED
    return first in _FILES or first in _PUBLIC_ARRAYS or first == LEDGER


def back_up(
    home: SiteHome, target: Path, recipient: bytes, *, released: bool = False, now: datetime | None = None
) -> Backup:
    """Write a new archive of a home, which may be taking part in runs meanwhile.

    Raises:
        LedgerError: its ledger is missing or does not verify. ReceiptError: an intake is at work.
        DataError: the target exists, or no key was given, or files changed that should not.
    """
    with ExitStack() as stack:
        for chain in (home.receipts, home.audit):
            stack.enter_context(chain_locked(chain))
        if (federation := home.root / "federation").is_dir():
            stack.enter_context(locked(federation))
        ledger, head = stack.enter_context(_copied(home)) if home.first is None else (None, "")
        facts = {
            "kind": "home",
            "made": time_of(now or datetime.now(UTC)),
            "fedimg": __version__,
            "first": home.first is None,
            "simulated": home.simulated,
            "released": released,
            "head": head,
        }
        members = _members(home.root, ledger, released=released)
        written = write(target, recipient, PURPOSE, facts, home.signing_key, members, home.root)
    return Backup(written, head)


@contextmanager
def _copied(home: SiteHome) -> Iterator[tuple[Path, str]]:
    """A copy of the ledger that verifies, and its head's name; the one of a home not recovered yet stays what it is."""
    own, old = home.ledger, chain_file.restored_of(home.ledger)
    source = old if old.exists() and not own.exists() else own
    chain_file.check_own(source)
    copy = home.root / f".backup-{secrets.token_hex(8)}.sqlite"
    try:
        for left in home.root.glob(".backup-*.sqlite*"):  # of one that was killed
            left.unlink(missing_ok=True)
        try:
            chain_file.copy(source, copy)
        except sqlite3.Error as failure:
            raise chain_file.refuse(f"an unreadable one ({type(failure).__name__})") from failure
        ledger = Ledger.open(copy, home.signing_key)
        head = ledger.head.name
        ledger.disconnect()
        if copy.with_name(f"{copy.name}-wal").exists():
            raise LedgerError("a ledger that can be copied", "one whose log stays open", "try it again")
        yield copy, head
    finally:
        for left in home.root.glob(f"{copy.name}*"):
            left.unlink(missing_ok=True)


def _members(root: Path, ledger: Path | None, *, released: bool) -> Iterator[Member]:
    names = _FILES | _FOLDERS | ((_PUBLIC_ARRAYS | _RELEASED) if released else frozenset())
    for name in sorted(names | {LEDGER}):
        if name == LEDGER:
            if ledger is not None:
                yield Member(name, root, ledger.name)
        elif ledger is None and name in _KEYS:
            continue  # a further home has none
        elif name in _FOLDERS or name in _RELEASED:
            yield from _below(root, name, moving=name in _FOLDERS)
        elif (root / name).is_symlink() or (root / name).exists():
            yield Member(name, root, name, moving=name not in _LINES | _PUBLIC_ARRAYS)


def _below(root: Path, folder: str, *, moving: bool) -> Iterator[Member]:
    """Every file, in order; what is hidden was not finished. Links are refused when they are read."""
    try:
        found = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in found:
        name = f"{folder}/{entry.name}"
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _below(root, name, moving=moving)
        else:
            yield Member(name, root, name, moving=moving)
