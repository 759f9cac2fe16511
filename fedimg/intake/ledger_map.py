"""Pseudonym of a release → ledger key, at the home (0600): one JSON line each, the last one counts.

The receipts, which may be shown, hold no ledger key: with it one patient's releases of two projects
could be joined. This file stays where it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedimg.dicom.ledger_keys import LENGTH
from fedimg.dicom.pseudonyms import is_patient_key
from fedimg.intake.keyed_lines import KeyedLines, read_lines


def read_ledger_keys(path: Path) -> dict[str, str]:
    """Patient pseudonym → ledger key. A line cut short by an interruption is skipped: its input comes again."""
    return read_lines(path, _entry)


def _entry(line: bytes) -> tuple[str, str] | None:
    try:
        body: Any = json.loads(line)
        patient, key = body["patient"], body["ledger"]
        well_formed = is_patient_key(patient) and len(bytes.fromhex(key)) * 2 == len(key) == LENGTH
    except (ValueError, KeyError, TypeError):
        return None
    return (patient, key) if well_formed else None


class LedgerMap(KeyedLines[str]):
    """Appends; durable from `flush` on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _entry)

    def put(self, patient: str, key: str) -> None:
        """Note a patient's key, unless it is known already, or there is none (the site's own output)."""
        if key:
            self._append(patient, key, {"ledger": key, "patient": patient})
