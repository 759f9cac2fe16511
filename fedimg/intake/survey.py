"""The first quick pass: which inputs belong to one subject, and what they call them.

The gate searches every written file for the identifiers of *all* files of its subject, and layer L3
compares slices of one series: both need to be known before the first file is released. Headers are
read, not parsed (`headers`), and what was seen before is not looked at twice.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import islice
from pathlib import Path

from fedimg.dicom.headers import (
    CHARACTER_SET,
    INSTANCE,
    ISSUER,
    PATIENT_ID,
    SERIES,
    Header,
    decoded,
    header_of,
)
from fedimg.dicom.pseudonyms import normalise_id
from fedimg.intake import index
from fedimg.intake.index import Surveyed, SurveyIndex
from fedimg.values import SourceItem

_BATCH = 512
_MOST_SEEN = 1 << 17
_SHORTEST_STEM = 28
_DEFAULT_SET = b"ISO_IR 6"
_RANKS = {"PN": 0, "DA": 3, "DT": 3}  # what is searched for first, where there is too much of it


class _OtherInputs(Exception):
    """The index is of other inputs than these."""


def survey(
    items: Iterable[SourceItem],
    quarantine: Path,
    progress: Callable[[int], None] | None = None,
    *,
    follow_links: bool = True,
) -> Path:
    """Look at every item's header; the path of the index. Goes on where a killed survey stopped.

    What cannot be read has a row without subject here, and its decision later. `progress` is called
    with the number of inputs seen. Raises OSError and sqlite3.OperationalError for a full disk.
    """
    path = quarantine / index.NAME
    try:
        return _surveyed(items, path, progress, follow_links=follow_links)
    except (_OtherInputs, sqlite3.DatabaseError) as fault:
        if isinstance(fault, sqlite3.OperationalError):
            raise
        index.remove(quarantine)  # of other inputs, or damaged by a power failure
        return _surveyed(items, path, progress, follow_links=follow_links)


def _surveyed(
    items: Iterable[SourceItem], path: Path, progress: Callable[[int], None] | None, *, follow_links: bool
) -> Path:
    with SurveyIndex(path) as target:
        done, look, source = target.surveyed(), _Look(target, follow_links=follow_links), enumerate(items)
        for position in range(done):
            _, item = next(source, (0, None))
            if item is None or target.row(position) != look.identity(item):
                raise _OtherInputs
        while batch := list(islice(source, _BATCH)):
            target.add([look.at(position, item) for position, item in batch])
            target.commit()
            done += len(batch)
            if progress is not None:
                progress(done)
    return path


class _Look:
    """At one header after the other."""

    def __init__(self, target: SurveyIndex, *, follow_links: bool) -> None:
        self._target, self._follow = target, follow_links
        self._seen: set[tuple[bytes, int, bytes]] = set()

    def identity(self, item: SourceItem) -> tuple[bytes, int, int]:
        """By which a later run knows that nothing changed: path, size, time of change."""
        try:
            status = item.path.stat(follow_symlinks=self._follow)
        except OSError:
            return os.fsencode(item.path), -1, -1
        return os.fsencode(item.path), status.st_size, status.st_mtime_ns

    def at(self, position: int, item: SourceItem) -> Surveyed:
        header, size, changed = Header(), -1, -1
        try:
            if item.kind == "dicom":
                header, size, changed = header_of(item.path, follow_links=self._follow)
            else:
                _, size, changed = self.identity(item)
        except OSError:
            _, size, changed = self.identity(item)
        subject = self._subject(item, header)
        if subject is not None:
            self._note(subject, header)
        series = header.root.get(SERIES)
        owned = subject + b"\0" + series if subject is not None and series is not None else None
        return Surveyed(position, os.fsencode(item.path), size, changed, subject, owned)

    def _subject(self, item: SourceItem, header: Header) -> bytes | None:
        charset = header.root.get(CHARACTER_SET, _DEFAULT_SET)
        number = header.root.get(PATIENT_ID, b"")
        patient = normalise_id(item.patient_id) if item.patient_id else _normalised(number, charset)
        issuer = _normalised(header.root.get(ISSUER, b""), charset)
        return f"{issuer}\0{patient}".encode("utf-8", "surrogatepass") if patient else None

    def _note(self, subject: bytes, header: Header) -> None:
        charset = header.root.get(CHARACTER_SET, _DEFAULT_SET)
        fresh = []
        for tag, vr, value in header.found:
            key = (subject, tag, value)
            if key in self._seen:
                continue
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen.add(key)
            if tag == INSTANCE:
                # Of thousands of instances what they have in common is searched for: their stem.
                value = value.rpartition(b".")[0]  # noqa: PLW2901
                if len(value) < _SHORTEST_STEM:
                    continue
            name = vr.decode("ascii", "replace")
            fresh.append((_RANKS.get(name, 2 if vr == b"UI" else 1), name, value, charset))
        if fresh:
            self._target.add_identifiers(subject, fresh)


@lru_cache(1 << 14)
def _normalised(value: bytes, charset: bytes) -> str:
    return normalise_id(decoded(value, charset))
