"""What a ledger says of itself, read once: its file is closed again."""

from __future__ import annotations

from pathlib import Path

from fedimg.crypto.keys import SigningKey
from fedimg.privacy.ledger import Ledger, Statement


def statement_of(path: Path, signing_key: SigningKey) -> Statement:
    """The statement of a ledger as it stands. Raises LedgerError as `Ledger.open`."""
    ledger = Ledger.open(path, signing_key)
    try:
        return ledger.statement
    finally:
        ledger.disconnect()
