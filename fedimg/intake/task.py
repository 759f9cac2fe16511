"""One input on its way: what it is, what its way depends on, what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from fedimg.dicom.layers import DeidConfig
from fedimg.intake.targets import Target
from fedimg.subgroups import UNKNOWN, Codes
from fedimg.values import Quarantine, SourceItem


@dataclass(frozen=True, slots=True)
class ReleaseConfig:
    """What one input's way depends on.

    Attributes:
        project: salt of every pseudonym. deid: see `DeidConfig`.
        allow_secondary_capture: pictures (PNG, JPEG, TIFF) become secondary captures and are
            released. The source says that they show no text; nobody checks.
        follow_links: whether an input may be a symbolic link.
        labelled: whether an input without label is held back: what feeds a training has one.
        root: names of folders from here on down to the file are words to be searched for;
            None: those of the file and its folder.
    """

    project: str
    deid: DeidConfig = field(default_factory=DeidConfig)
    allow_secondary_capture: bool = True
    follow_links: bool = True
    labelled: bool = True
    root: Path | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One input and its place in the run. `occurrence` counts equal paths.

    `accepted` are findings that a reviewer has called false alarms.
    """

    position: int
    occurrence: int
    item: SourceItem
    accepted: frozenset[Quarantine] = frozenset()


def tasks_of(items: Iterable[SourceItem], *, distinct: bool) -> Iterator[Task]:
    """Items by run position. Equal paths are counted, unless they are a folder's, which are `distinct`."""
    seen: Counter[str] = Counter()
    for position, item in enumerate(items):
        if distinct:
            yield Task(position, 0, item)
            continue
        path = str(item.path.absolute())
        yield Task(position, seen[path], item)
        seen[path] += 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one input. `temporary` names a file in quarantine that may be released.

    `reason` None means: it passed. `ledger_key` names the patient to the site's own ledger and stands in
    no receipt, `voxels`, a class for each of them, and `groups` go to the home; all other fields may.
    """

    position: int
    link: str
    size_in: int
    reason: Quarantine | None = None
    detail: str | None = None
    temporary: str | None = None
    output: PurePosixPath | None = None
    sha256: str = ""
    size: int = 0
    pixel_digest: str = ""
    modality: str = "OT"
    keys: Mapping[str, str] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    ledger_key: str = field(default="", repr=False)
    voxels: Target | None = field(default=None, repr=False)
    groups: Codes = field(default=UNKNOWN, repr=False)
