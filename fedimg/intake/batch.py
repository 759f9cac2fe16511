"""Releases wait in quarantine until their receipts are signed: then, and only then, they move into the tree.

    file in quarantine, judged there → receipt line → file durable → receipts signed → rename

So at every instant the release tree holds whole files with signed receipts and nothing else. A kill
between signature and rename leaves a receipt whose file is still in quarantine: `finish` moves it.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from fedimg.dicom.receipts import Receipt, ReceiptLog
from fedimg.home import ReleaseFolder, SiteHome
from fedimg.intake.decisions import Decisions
from fedimg.intake.labels import LabelFile
from fedimg.intake.ledger_map import LedgerMap
from fedimg.intake.task import Outcome

_MOST_FILES, _MOST_BYTES, _WRITERS = 32, 1 << 28, 8


class Batch:
    """Receipts and files since the last signature."""

    def __init__(self, folder: ReleaseFolder, log: ReceiptLog, labels: LabelFile | None) -> None:
        self._folder, self._log, self._labels = folder, log, labels
        self._whose = LedgerMap(folder.ledger_keys) if isinstance(folder, SiteHome) else None
        self._moves: list[tuple[str, str]] = []
        self._signed: deque[tuple[str, str]] = deque()
        self._removals: list[str] = []
        self._bytes = 0
        # Files reach the disk while the next ones are computed; their receipts wait for them.
        self._writing = ThreadPoolExecutor(_WRITERS)
        self._durable: list[Future[None]] = []

    def release(self, receipt: Receipt | None, outcome: Outcome) -> None:
        """A file that passed, with its receipt (None: it has one already)."""
        temporary, output, size = outcome.temporary or "", str(outcome.output), outcome.size
        if receipt is not None:
            self._log.append(receipt)
        if self._whose is not None:
            self._whose.put(outcome.keys["patient"], outcome.ledger_key)
        self._moves.append((temporary, output))
        self._durable.append(self._writing.submit(_make_durable, self._folder.quarantine / temporary))
        self._bytes += size
        self._commit_if_full()

    def hold_back(self, receipt: Receipt | None, output: str | None) -> None:
        """A refusal; `output` is what an earlier run had released of the same input."""
        if receipt is not None:
            self._log.append(receipt)
        if output is not None:
            self._removals.append(output)
        self._commit_if_full()

    def _commit_if_full(self) -> None:
        if self._log.unsigned >= _MOST_FILES or len(self._moves) >= _MOST_FILES or self._bytes >= _MOST_BYTES:
            self.commit()

    def commit(self) -> None:
        """Sign, then move. Raises OSError; what was signed before stands, and may be committed again."""
        if self._moves or self._removals or self._log.unsigned:
            self._sign()
        while self._signed:
            temporary, output = self._signed[0]
            _move(self._folder.quarantine / temporary, self._folder.released / output)
            self._signed.popleft()

    def _sign(self) -> None:
        for written in self._durable:
            written.result()
        for output in (*self._removals, *(output for _, output in self._moves)):
            (self._folder.released / output).unlink(missing_ok=True)  # under an older receipt
        for beside in (self._labels, self._whose):
            if beside is not None:
                beside.flush()
        if self._log.unsigned:
            self._log.checkpoint()
        self._signed.extend(self._moves)
        self._moves, self._removals, self._durable, self._bytes = [], [], [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._writing.shutdown()
        if self._whose is not None:
            self._whose.__exit__()


def finish(folder: ReleaseFolder, decisions: Decisions) -> None:
    """Move what a killed run had signed and not moved yet; drop what it had not signed.

    Call it with the receipts locked: no other run is at work.
    """
    for part in folder.quarantine.glob("*.part"):
        decision = decisions.get(part.name.partition("-")[0])
        if decision is None or decision.output is None or decision.decision != "released":
            part.unlink()
            continue
        target = folder.released / decision.output
        if sha256_of(part) == decision.sha256 != sha256_of(target):
            _move(part, target)
        else:
            part.unlink()
    clear(folder)


def clear(folder: ReleaseFolder) -> None:
    """Remove scratch files."""
    for pattern in ("*.part", "*.capture"):
        for leftover in folder.quarantine.glob(pattern):
            leftover.unlink()


def sha256_of(path: Path) -> str | None:
    """Of a file's bytes, hex; None where there is none."""
    if path.is_symlink():
        return None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    source.replace(target)
