"""Where the shipped mechanism keeps a site while the battery looks at it: a folder with a key and a real ledger."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from fedimg.crypto.keys import SigningKey
from fedimg.privacy.chain import START, link
from fedimg.privacy.ledger import Allowance, Head, Ledger, LedgerTerms

_ROOMY = LedgerTerms(1e12, 1e-5, 2, scratch=True)


@dataclass(frozen=True)
class Declared:
    """A plan whose noise is turned off, which no ledger would let in, with the cost of an ordinary one."""

    digest: str
    allowances: tuple[Allowance, ...]


@dataclass
class Place:
    """A site's folder on the disk."""

    folder: Path
    key: SigningKey
    ledger: Ledger

    @classmethod
    def new(cls, folder: Path) -> Place:
        folder.mkdir()
        key = SigningKey.create(folder / "signing.key")
        return cls(folder, key, Ledger.create(folder / "ledger.sqlite", key, _ROOMY))

    def reopened(self, known: Head | None = None) -> Ledger:
        return Ledger.open(self.folder / "ledger.sqlite", self.key, known)


def charges_of(ledger: Ledger, run: str) -> frozenset[str]:
    """Of a run's charges, from the bytes that the ledger would show an auditor."""
    digest, names = START, set[str]()
    for number, text in enumerate(json.loads(ledger.extract())["entries"], start=1):
        digest, entry = link(digest, text.encode()), json.loads(text)
        if entry["kind"] == "charge" and entry["run"] == run:
            names.add(Head(number, digest).name)
    return frozenset(names)
