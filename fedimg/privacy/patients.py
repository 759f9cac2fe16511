"""Whose releases they were: the ledger's records by patient, beside the chain and bound to it.

A second signed chain in the ledger's file, for the site alone: no extract, head or message holds any of
it. It says which patients a run may sample, in which role, who has withdrawn, and which records are of
one person. What a patient has spent follows from it and from the charges of the main chain.

Every charge in the main chain commits to the records as they stood: an HMAC under a secret that lies
here, over their last digest and the chain's. Without the secret it is a random number; records that are
put back to before the last charge open it no more, and the ledger refuses.
"""

from __future__ import annotations

import hmac
import json
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt

from fedimg.crypto.keys import SigningKey, keyed_digest, verify
from fedimg.errors import LedgerError
from fedimg.privacy.chain import START, link, refuse

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]

_DOMAIN = b"fedimg-ledger-patients-v1"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS patients (sequence INTEGER PRIMARY KEY, body BLOB NOT NULL, digest BLOB NOT NULL,
                                     signature BLOB NOT NULL);
CREATE TRIGGER IF NOT EXISTS no_patient_update BEFORE UPDATE ON patients
    BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS no_patient_delete BEFORE DELETE ON patients
    BEGIN SELECT RAISE(ABORT, 'append only'); END;
"""


class PatientRecords:
    """The records of one ledger. Several processes may add; each sees the others' at its next look.

    `new`: the chain has not committed to any records yet; else there must be some.
    A patient is a number here, by order of appearance. `numbers`: ledger key → number.
    `members`: (run, role) → who may be sampled, (n,) bool. `withdrawn`: (n,) bool.
    `merged`: pairs (from, into) in order: the record `into` carries the sum of both.
    """

    def __init__(self, connection: sqlite3.Connection, key: SigningKey, *, new: bool) -> None:
        self._connection, self._key = connection, key
        self.digests = [START]
        self.numbers: dict[str, int] = {}
        self.members: dict[tuple[str, str], Mask] = {}
        self.withdrawn: Mask = np.zeros(0, dtype=np.bool_)
        self.merged: list[tuple[int, int]] = []
        self.site_key = ""
        self._secret = b""
        if new:
            self._guarded(lambda: connection.executescript(_SCHEMA).close())
        self.refresh()
        if new and not self._secret:
            self.add("open", {"secret": secrets.token_hex(32)})

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def events(self) -> int:
        return len(self.digests) - 1

    def commitment(self, chain_digest: bytes, digest: bytes | None = None) -> str:
        """To the records as they stand (or stood at `digest`), hiding, different for every entry."""
        return keyed_digest(self._secret, self.digests[-1] if digest is None else digest, chain_digest).hex()

    def check(self, committed: str, chain_digest: bytes) -> None:
        """Raises LedgerError where no state of these records was committed to."""
        if not any(
            hmac.compare_digest(committed, self.commitment(chain_digest, d)) for d in self.digests[1:]
        ):
            raise refuse("records of patients other than those it last charged: put back or changed")

    def refresh(self) -> None:
        """Take up what another process of this site has added: a withdrawal acts at the next sampling."""
        rows = self._guarded(
            lambda: self._connection.execute(
                "SELECT sequence, body, digest, signature FROM patients WHERE sequence > ? ORDER BY sequence",
                (self.events,),
            ).fetchall()
        )
        for sequence, body, digest, signature in rows:
            place = f"a patients' entry {self.events + 1}"
            if not all(type(value) is bytes for value in (body, digest, signature)):
                raise refuse(f"{place} of another type")
            if sequence != self.events + 1 or link(self.digests[-1], body) != digest:
                raise refuse(f"{place} that does not continue the one before it")
            if not verify(self._key.public_bytes, signature, _DOMAIN + digest):
                raise refuse(f"{place} that this site did not sign")
            try:
                self._apply(json.loads(body))
            except (ValueError, KeyError, TypeError, IndexError) as failure:
                raise refuse("patients' entries that no ledger writes") from failure
            self.digests.append(digest)

    def add(self, kind: str, values: Mapping[str, Any]) -> None:
        """Add an entry behind whatever is there; durable on return. Raises LedgerError, and nothing was added.

        Entries that name numbers are made from records that were just refreshed; numbers never change.
        """
        body = json.dumps({"kind": kind, **values}, sort_keys=True, separators=(",", ":")).encode()

        def insert() -> None:
            with self._connection, closing(self._connection.cursor()) as cursor:
                cursor.execute("BEGIN IMMEDIATE")
                self.refresh()
                digest = link(self.digests[-1], body)
                signature = self._key.sign(_DOMAIN + digest)
                row = (self.events + 1, body, digest, signature)
                cursor.execute("INSERT INTO patients VALUES (?, ?, ?, ?)", row)

        self._guarded(insert)
        self.refresh()

    def know(self, keys: Iterable[str]) -> None:
        """Give a number to each key that has none."""
        self.refresh()
        new = sorted({key for key in keys if key} - self.numbers.keys())
        if new:
            self.add("known", {"patients": new})

    def bind(self, site_key: str) -> None:
        """Note under which site key the records are kept, by its digest, or refuse another one.

        Raises:
            LedgerError: the records are under another key: every patient would begin anew.
        """
        if self.site_key and self.site_key != site_key:
            raise LedgerError(
                "the site key under which this ledger knows its patients",
                "another one",
                "put the old key back, or carry the records over: fedimg ledger remap HOME --from-key OLD.key",
            )
        if not self.site_key:
            self.add("keys", {"digest": site_key})

    def enter(self, run: str, role: str, members: Mask) -> None:
        """Let patients take part in a run in a role, from its first charge on; nobody leaves by this."""
        known = self.mask(run, role)
        if (members & ~known).any() or (run, role) not in self.members:
            self.add("join", {"run": run, "role": role, "members": _packed(members)})

    def withdraw(self, keys: Iterable[str]) -> None:
        """Of known patients; for good."""
        gone = mask_of((self.numbers[key] for key in keys), len(self))
        if (gone & ~self.withdrawn).any():
            self.add("withdraw", {"members": _packed(gone)})

    def merge(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Of known patients; pairs that are one record already change nothing."""
        roots = self.roots()
        numbered = [(self.numbers[source], self.numbers[target]) for source, target in pairs]
        new = [pair for pair in numbered if roots[pair[0]] != roots[pair[1]]]
        if new:
            self.add("merge", {"pairs": new})

    def rename(self, names: Mapping[str, str], site_key: str) -> None:
        """Raises LedgerError where a record has no new name, or two would have one."""
        self.refresh()
        missing = len(self.numbers.keys() - names.keys())
        if missing or len({names[key] for key in self.numbers}) < len(self):
            raise LedgerError(
                "a list with every patient of this ledger, each once",
                f"{missing} records without a patient" if missing else "two records of one patient",
                "give the list of all patients that the site has ever trained on",
            )
        renamed = [[number, names[key]] for key, number in self.numbers.items()]
        self.add("rename", {"names": renamed, "digest": site_key})

    def mask(self, run: str, role: str) -> Mask:
        """(n,) who may be sampled."""
        return _grown(self.members.get((run, role), np.zeros(0, dtype=np.bool_)), len(self))

    def roots(self) -> Numbers:
        """(n,) the record that carries each one's spending."""
        into = np.arange(len(self), dtype=np.int64)
        for source, target in self.merged:
            into[into == into[source]] = into[target]
        return into

    def _apply(self, entry: Mapping[str, Any]) -> None:
        kind = entry["kind"]
        if kind == "open" and not self._secret:
            self._secret = bytes.fromhex(entry["secret"])
        elif kind == "keys":
            self.site_key = str(entry["digest"])
        elif kind == "known":
            for key in entry["patients"]:
                self.numbers.setdefault(str(key), len(self.numbers))
            self.withdrawn = _grown(self.withdrawn, len(self))
        elif kind == "join":
            place = (str(entry["run"]), str(entry["role"]))
            before = self.mask(*place)
            self.members[place] = before | _unpacked(entry["members"], len(self))
        elif kind == "withdraw":
            self.withdrawn = self.withdrawn | _unpacked(entry["members"], len(self))
        elif kind == "merge":
            pairs = [(int(source), int(target)) for source, target in entry["pairs"]]
            if not all(0 <= number < len(self) for pair in pairs for number in pair):
                raise ValueError("a number that no patient has")
            self.merged += pairs
        elif kind == "rename":
            self._rename(entry["names"], str(entry["digest"]))
        else:
            raise ValueError("an unknown kind of entry")

    def _rename(self, names: Sequence[tuple[int, str]], digest: str) -> None:
        of = {number: key for key, number in self.numbers.items()}
        of.update({int(number): str(key) for number, key in names})
        renamed = {of[number]: number for number in range(len(of))}
        if len(renamed) != len(of):
            raise ValueError("two records under one key")
        self.numbers, self.site_key = renamed, digest

    def _guarded(self, work: Any) -> Any:
        try:
            return work()
        except sqlite3.Error as failure:
            remedy = "free disk space or stop the other process; nothing was released"
            raise refuse(
                f"one that cannot be read or written ({type(failure).__name__})", remedy
            ) from failure


def mask_of(numbers: Iterable[int], size: int) -> Mask:
    """(size,) True at the given numbers."""
    mask = np.zeros(size, dtype=np.bool_)
    mask[list(numbers)] = True
    return mask


def _packed(mask: Mask) -> str:
    return np.packbits(mask).tobytes().hex()


def _unpacked(text: str, size: int) -> Mask:
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8)).astype(np.bool_)
    if bits[size:].any():
        raise ValueError("a number that no patient has")
    return _grown(bits[:size], size)


def _grown(mask: Mask, size: int) -> Mask:
    return np.concatenate([mask, np.zeros(size - len(mask), dtype=np.bool_)]) if len(mask) < size else mask
