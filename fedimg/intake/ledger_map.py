"""Pseudonym of a release → ledger key, at the home (0600): one JSON line each, the last one counts.

The receipts, which may be shown, hold no ledger key: with it one patient's releases of two projects
could be joined. This file stays where it is.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Self

from fedimg.dicom.ledger_keys import LENGTH
from fedimg.dicom.pseudonyms import is_patient_key


def read_ledger_keys(path: Path) -> dict[str, str]:
    """Patient pseudonym → ledger key. A line cut short by an interruption is skipped: its input comes again."""
    found: dict[str, str] = {}
    if not path.exists():
        return found
    with path.open("rb") as file:
        for line in file:
            entry = _entry(line)
            if entry is not None:
                found[entry[0]] = entry[1]
    return found


def _entry(line: bytes) -> tuple[str, str] | None:
    try:
        body: Any = json.loads(line)
        patient, key = body["patient"], body["ledger"]
        well_formed = is_patient_key(patient) and len(bytes.fromhex(key)) * 2 == len(key) == LENGTH
    except (ValueError, KeyError, TypeError):
        return None
    return (patient, key) if well_formed else None


class LedgerMap:
    """Appends; durable from `flush` on."""

    def __init__(self, path: Path) -> None:
        self._known = read_ledger_keys(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._file.write(b"\n")  # ends a line that an interruption cut short; empty lines are skipped

    def put(self, patient: str, key: str) -> None:
        """Note a patient's key, unless it is known already, or there is none (the site's own output)."""
        if not key or self._known.get(patient) == key:
            return
        self._known[patient] = key
        body = {"ledger": key, "patient": patient}
        self._file.write(json.dumps(body, sort_keys=True, separators=(",", ":")).encode() + b"\n")

    def flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
