"""After the loss of a disk: what a backup and the server's head say, and the entry that goes on from them.

What was reserved may have been released, so it counts as spent. What was reserved after the backup is
not known to anyone but by its number: if there was such a reservation, all that was left counts as spent.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedimg.privacy.chain import Head, follow, refuse
from fedimg.privacy.statement import Statement, replay, verify, write_off

_SQLITE = b"SQLite format 3\0"


def source_of(backup: Path, public_key: bytes) -> tuple[Path | Sequence[bytes], bool]:
    """What to build from, and whether it has records of patients: an extract has none.

    Raises:
        LedgerError: neither an older file nor an extract that this site signed.
    """
    try:
        content = backup.read_bytes()
    except OSError as failure:
        raise refuse(
            f"no readable backup ({type(failure).__name__})", "name the file that was kept"
        ) from failure
    if content.startswith(_SQLITE):
        return backup, True
    return verify(content, public_key).entries, False


def entry(
    bodies: Sequence[bytes], head: Head, seen: Head, reserved: int | None, *, patients_kept: bool
) -> dict[str, Any]:
    """The values of the recovery's entry. Raises LedgerError for another history than the head's."""
    for here, resumed in follow(bodies):
        if any(
            known is not None and known.sequence == seen.sequence and known != seen
            for known in (here, resumed)
        ):
            raise refuse(
                f"a backup with another entry {seen.sequence} than the one seen before: it is of a fork",
                "find the backup that belongs to the head",
            )
    missing = seen.sequence > head.sequence
    terms, runs, lost = replay(bodies)
    values: dict[str, Any] = {
        "seen": (seen if missing else head).name,
        "missing": max(0, seen.sequence - head.sequence),
        "patients_kept": patients_kept,
        "lost": 0.0,
    }
    write_off(runs, values)
    if missing and (reserved is None or reserved > head.sequence):
        values["lost"] = max(0.0, Statement(terms, runs, head, lost).remaining)
    return values
