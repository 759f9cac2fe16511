"""What `fedimg doctor` is made of: one finding a check, and the checks that a site and a coordinator share.

A check looks, and changes nothing: opening a home makes its empty folders where they are missing, and opening a ledger
its log beside it, as every verb does. Findings hold nothing of a patient: their texts are this program's own, and of a
fault that nobody expected they name the kind only.
"""

from __future__ import annotations

import importlib.util
import shutil
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Generic, TypeVar

from fedimg import declared_public, intake
from fedimg.config import keys
from fedimg.dicom import pixels
from fedimg.dicom.refusal import Quarantined
from fedimg.errors import FedimgError
from fedimg.home import SiteHome
from fedimg.record import code
from fedimg.values import DeidentifiedRecord

PACKAGES = ("fedimg", "sites", "server")
SOON_DAYS = 60
LITTLE_BYTES, LEAST_BYTES = 2 << 30, 200 << 20
"""Of free space: below the first is a warning, below the second a failure."""

T = TypeVar("T")
A = TypeVar("A")


class State(StrEnum):
    """Skipped: it could not be made, because of another."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: `check` is what was looked at."""

    check: str
    state: State
    found: str
    remedy: str = ""

    def row(self) -> dict[str, str]:
        return {name: str(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Seen(Generic[T]):
    """What a check saw. `value` is what others go on with; without it they are skipped."""

    found: str
    value: T | None = None
    state: State = State.OK
    remedy: str = ""


def warn(found: str, remedy: str, value: T | None = None) -> Seen[T]:
    return Seen(found, value, State.WARN, remedy)


def fail(found: str, remedy: str, value: T | None = None) -> Seen[T]:
    return Seen(found, value, State.FAIL, remedy)


@dataclass(frozen=True, slots=True)
class Looked(Generic[T]):
    """A check that was made, and what it has for others."""

    check: str
    value: T | None


class Checkup:
    """Makes checks one after the other; none stops the others."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    @property
    def failed(self) -> bool:
        return any(finding.state is State.FAIL for finding in self.findings)

    def look(self, check: str, how: Callable[[], Seen[T]]) -> Looked[T]:
        """Make a check. What it raises is a failure."""
        try:
            seen = how()
        except FedimgError as error:
            seen = fail(f"{error.found}; expected {error.expected}", error.remedy)
        except Exception as fault:  # noqa: BLE001 - whatever it is, the other checks are made
            remedy = "look at what this check looks at; FEDIMG_DEBUG=1 with the verb that needs it shows more"
            seen = fail(f"an unexpected {type(fault).__name__}", remedy)
        self.findings.append(Finding(check, seen.state, seen.found, seen.remedy))
        return Looked(check, seen.value)

    def after(self, given: Looked[A], check: str, how: Callable[[A], Seen[T]]) -> Looked[T]:
        """Make a check that needs what another saw, or skip it."""
        value = given.value
        if value is None:
            self.skip(check, f"it needs {given.check}")
            return Looked(check, None)
        return self.look(check, lambda: how(value))

    def skip(self, check: str, why: str) -> None:
        self.findings.append(Finding(check, State.SKIPPED, why))


def one_installation() -> Seen[None]:
    """Whether the program's packages lie beside each other: a folder of the same name may be found before one."""
    places = {}
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = None if spec is None else spec.origin
        places[name] = None if origin is None else Path(origin).resolve().parent.parent
    others = [name for name in PACKAGES if places[name] is None or places[name] != places["fedimg"]]
    if others:
        return fail(
            f"{' and '.join(others)} from elsewhere than fedimg",
            f"start it in a folder without one of that name, without PYTHONPATH; "
            f'`python -c "import {others[0]}; print({others[0]}.__path__)"` shows where it lies',
        )
    return Seen(f"{', '.join(PACKAGES)} are of one installation")


def program(version: str) -> Seen[None]:
    """Version and code digest, as runs and approvals name them; the configuration that is shipped with them.

    Args:
        version: that the code says it is.
    """
    found, groups = code.installed(), keys.groups()
    text = f"fedimg {found['fedimg']}, code {found['digest']}"
    if found["fedimg"] != version or not groups:
        return warn(f"{text}, installed as another version than {version}", "install fedimg again")
    return Seen(text)


def permissions(folders: Iterable[Path], secrets: Iterable[Path]) -> Seen[None]:
    """Whether folders (0700) and secrets (0600) that are there are their owner's alone. Names are the program's own."""
    wrong, there = [], 0
    for path, is_kind in [(f, stat.S_ISDIR) for f in folders] + [(s, stat.S_ISREG) for s in secrets]:
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            continue
        there += 1
        if not is_kind(mode):
            wrong.append(f"{path.name} is a link or another kind of file")
        elif mode & 0o077:
            wrong.append(f"{path.name} has mode {stat.S_IMODE(mode):04o}")
    if wrong:
        remedy = "ask who could read it; then chmod 700 a folder, chmod 600 a file"
        return fail("; ".join(wrong), remedy)
    if not there:
        return Seen("there are no such files", None, State.SKIPPED)
    return Seen("folders and secrets are their owner's alone")


def space(folder: Path) -> Seen[None]:
    """Free space of the disk that a folder is on."""
    free = shutil.disk_usage(folder).free
    found, remedy = f"{free / 2**30:.1f} GiB free", "free space, or move the folder to a larger disk"
    if free < LEAST_BYTES:
        return fail(found, remedy)
    return warn(found, remedy) if free < LITTLE_BYTES else Seen(found)


def ends(end: datetime, now: datetime, remedy: str) -> Seen[None]:
    """A certificate's end."""
    days = (end - now).days
    if now > end:
        return fail(f"ended on {end:%Y-%m-%d}", remedy)
    found = f"ends on {end:%Y-%m-%d}, in {days} days"
    return warn(found, remedy) if days < SOON_DAYS else Seen(found)


def receipts(home: SiteHome, profiles: Sequence[str | None]) -> Seen[tuple[DeidentifiedRecord, ...]]:
    """What training would read under the profiles that are allowed; the receipts are verified as it does.

    Raises ReceiptError where they do not verify as a whole.
    """
    records: tuple[DeidentifiedRecord, ...] = ()
    refused = []
    for profile in profiles or (None,):
        admission = intake.admission(home, profile)
        records += admission.records
        refused = [*admission.refused]
        if records:
            break
    if records and refused:
        text = f"valid, but some released files are left out: {refused[0].found}"
        return warn(text, refused[0].remedy, records)
    if refused:
        text = f"valid, but no released file may be read: {refused[0].found}"
        return fail(text, refused[0].remedy, records)
    if records:
        return Seen("valid, and training may read what they release", records)
    if declared_public.load_arrays(home.root, home.signing_key.public_bytes) is not None:
        return Seen("none; there are arrays declared public", records)
    return warn("nothing was taken in yet", "fedimg site admit HOME data=…", records)


def readable(home: SiteHome, records: Sequence[DeidentifiedRecord]) -> Seen[None]:
    """Decode one released file as training does, or load what was declared public. Raises ReceiptError."""
    if declared_public.load_arrays(home.root, home.signing_key.public_bytes) is not None:
        return Seen("arrays declared public, as they were admitted")
    if not records:
        return Seen("there is no released file", None, State.SKIPPED)
    try:
        pixels.decode(home.released / records[0].path, masked=records[0].masked)
    except Quarantined as refusal:
        found = f"a released file that does not decode: {refusal.reason.value.replace('_', ' ')}"
        return fail(found, "install fedimg again with all its decoders, or take the input in again")
    return Seen("a released file decodes")
