"""Hiding commitments to a site's data and ledger, and their opening for an auditor.

HMAC-SHA256 under 32 fresh bytes of the operating system for each record. Without the secret the commitment is a
random number also for whoever can guess the data; with it the site can show, later and to whom it chooses,
which receipts and which ledger stood behind the model. The secret stays at the site, mode 0600.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from fedimg.crypto.keys import KEY_BYTES, keyed_digest, read_secret, write_secret
from fedimg.errors import DataError

FORMAT = "fedimg-opening-1"
_DOMAIN = b"fedimg-release-record-commitment-1"


@dataclass(frozen=True, slots=True)
class Committed:
    """What is committed to. Digests in hex; "" where a site has none of it.

    Attributes:
        receipts: SHA-256 of the last receipt as the site joined; its chain holds all before it.
        arrays: SHA-256 of the receipt of declared public arrays.
        ledger: head of the ledger's chain when the record was made.
    """

    receipts: str
    arrays: str
    ledger: str

    def data(self, secret: bytes, run: str, site: str) -> str:
        """The commitment to the data."""
        values = (bytes.fromhex(self.receipts), bytes.fromhex(self.arrays))
        return keyed_digest(secret, _DOMAIN, b"data", run.encode(), site.encode(), *values).hex()

    def of_ledger(self, secret: bytes, run: str, site: str) -> str:
        """The commitment to the ledger."""
        return keyed_digest(
            secret, _DOMAIN, b"ledger", run.encode(), site.encode(), bytes.fromhex(self.ledger)
        ).hex()


def fresh_secret(home: Path, run: str) -> tuple[bytes, str]:
    """A new secret, written below a site's home before it is used, and its name there."""
    folder = home / "commitments"
    folder.mkdir(mode=0o700, exist_ok=True)
    name, secret = f"{run}-{secrets.token_hex(8)}", secrets.token_bytes(KEY_BYTES)
    write_secret(folder / f"{name}.key", secret)
    return secret, name


def kept_secret(home: Path, name: str) -> bytes:
    """The secret of that name. Raises DataError where the site does not have it."""
    if Path(name).name != name:
        raise DataError("the name of a commitment", "a path", "name a record of this site")
    return read_secret(home / "commitments" / f"{name}.key")


@dataclass(frozen=True, slots=True)
class Opening:
    """What a site hands to an auditor, who can then check both commitments of its part of the record."""

    run: str
    site: str
    secret: bytes
    committed: Committed

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "run": self.run,
            "site": self.site,
            "secret": self.secret.hex(),
            "receipts": self.committed.receipts,
            "arrays": self.committed.arrays,
            "ledger": self.committed.ledger,
        }

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Raises DataError for anything but an opening."""
        refused = DataError(
            f"an opening of a commitment, format {FORMAT}", "another file", "ask the site: `fedimg site open`"
        )
        try:
            secret = bytes.fromhex(value["secret"])
            committed = Committed(*(bytes.fromhex(value[k]).hex() for k in ("receipts", "arrays", "ledger")))
            run, site, other = str(value["run"]), str(value["site"]), value["format"] != FORMAT
        except (KeyError, TypeError, ValueError):
            raise refused from None
        if other or len(secret) != KEY_BYTES:
            raise refused
        return cls(run, site, secret, committed)

    def opens(self, data: str, ledger: str) -> tuple[bool, bool]:
        """Whether it opens the commitments to the data and to the ledger."""
        return (
            hmac.compare_digest(self.committed.data(self.secret, self.run, self.site), data),
            hmac.compare_digest(self.committed.of_ledger(self.secret, self.run, self.site), ledger),
        )
