"""Where an arrival is made durable before it is acknowledged: on the disk, name included, or refused and counted.

root/             0700
  spool.key       secret behind the file names (0600), made on first use
  spool.lock      held by the one process that writes here
  incoming/       what was acknowledged, <digest of the instance>-<digest of the bytes>.dcm (0600)
  drafts/         what is still being received; swept at the start
  damaged/        what was acknowledged and does not read any more: nothing is thrown away unseen

Names are HMACs under the key: a listing of the folder says nothing of a patient, not even to who has a list of UIDs.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from fedimg.crypto.keys import KEY_BYTES, keyed_digest, read_secret, write_secret
from fedimg.dicom.arrival import Arrival, ArrivalLimits, examine
from fedimg.dicom.refusal import Quarantined
from fedimg.durable import alone, sync_folder
from fedimg.errors import FedimgError
from fedimg.values import Quarantine
from sites.watch.counts import Counts

_DRAFTS, _INCOMING, _DAMAGED = "drafts", "incoming", "damaged"
_LOOK_EVERY: Final = 8 << 20  # bytes of a draft between two looks at the disk
_LARGE: Final = 64 << 20  # bytes; of such files one at a time is in memory
_PIECE: Final = 1 << 20


class Full(FedimgError):
    """The disk has no room for another instance, or does not take it: the sender keeps it and tries again."""

    def __init__(self, found: str) -> None:
        super().__init__("room on the spool's disk", found, "free some, or lower `keep_free_bytes`")


class OfAnotherStudy(Quarantined):
    """An instance that was sent for a study that it is not of. `arrival`: what it is."""

    def __init__(self, arrival: Arrival) -> None:
        super().__init__(Quarantine.OBJECT_TYPE, "an instance of another study than its sender named")
        self.arrival = arrival


@dataclass(frozen=True, slots=True)
class Received:
    """An instance that is on the disk.

    Attributes:
        path: in incoming/. source: who brought it ("scp", "folder", "stow" …). at: seconds since 1970.
        repeat: the same bytes were here already. further: other bytes of the same SOPInstanceUID are here, too.
    """

    path: Path
    arrival: Arrival
    source: str
    at: float
    repeat: bool = False
    further: bool = False


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """Attributes: arrival: of one instance. keep_free_bytes: of the disk, that no instance may take."""

    arrival: ArrivalLimits = field(default_factory=ArrivalLimits)
    keep_free_bytes: int = 2 << 30


class Draft:
    """A file of the spool that is being received; `Spool.take` makes it an instance, `discard` ends it.

    Its size is held to the limit, and the disk to its watermark, while it grows. Who writes and is refused tells
    `Spool.refuse`, which counts.
    """

    def __init__(self, path: Path, spool: Spool) -> None:
        self.path, self.size, self._spool, self._unseen = path, 0, spool, 0
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._file = os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Raises Quarantined beyond the limit of an instance, Full where the disk has no room; it is discarded then."""
        try:
            self.size += len(data)
            most = self._spool.limits.arrival.file_bytes
            if self.size > most:
                raise Quarantined(Quarantine.UNSAFE_STRUCTURE, f"more than the limit of {most} bytes")
            self._unseen += len(data)
            if self._unseen >= _LOOK_EVERY:
                self._unseen = 0
                self._spool.check_room()
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            self.discard()
            raise Full(f"one that does not take it ({error.strerror})") from None
        except (Quarantined, Full):
            self.discard()
            raise

    def sync(self) -> None:
        """Its bytes are on the disk, and no more will come. Raises OSError."""
        with self._file:
            os.fsync(self._file.fileno())

    def discard(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


class Spool:
    """One process's; safe for many threads.

    Args:
        root: its folder; made (0700) where it is not there.

    Raises:
        DataError: another process has it, or its key can be read by others.
    """

    def __init__(self, root: Path, limits: SpoolLimits | None = None) -> None:
        self.root, self.limits, self.counts = root, limits or SpoolLimits(), Counts()
        self.held = ""  # why nothing is taken for the time being, though there is room here
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        root.chmod(0o700)
        self._held = contextlib.ExitStack()
        self._held.enter_context(alone(root / "spool.lock", "one process that writes into this spool"))
        for name in (_DRAFTS, _INCOMING, _DAMAGED):
            (root / name).mkdir(mode=0o700, exist_ok=True)
        key = root / "spool.key"
        if not key.exists():
            write_secret(key, secrets.token_bytes(KEY_BYTES))
            sync_folder(root)
        self._key = read_secret(key)
        self._large, self._naming = threading.Lock(), threading.Lock()
        self._bytes_of: dict[str, set[str]] = {}  # digest of an instance → digests of bytes that are here
        for path in self._incoming():
            self._note(path.name)
        # of a process that was killed: nobody was told that it had them
        for left in (root / _DRAFTS).iterdir():
            left.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets another process have it."""
        self._held.close()

    def draft(self) -> Draft:
        """An empty file for an instance that is about to be received. Raises Full."""
        self.check_room()
        try:
            return Draft(self.root / _DRAFTS / f"{secrets.token_hex(16)}.part", self)
        except OSError as error:
            raise Full(f"one that does not take it ({error.strerror})") from None

    def check_room(self) -> None:
        """Raises Full below the watermark, and while `held`."""
        if self.held:
            raise Full(self.held)
        if (free := shutil.disk_usage(self.root).free) < self.limits.keep_free_bytes:
            raise Full(f"{free} bytes free, {self.limits.keep_free_bytes} are kept")

    def take(
        self, brought: Path | bytes | Draft, source: str, study: str | None = None, sop: str | None = None
    ) -> Received:
        """Examine an instance and have it on the disk, name included, when this returns; only then acknowledge it.

        Args:
            brought: a draft of this spool, which it takes over; else a file, which stays as it is, or its bytes.
            study, sop: StudyInstanceUID and SOPInstanceUID that it must have, where one was named.

        Raises Quarantined or Full; either is counted, and nothing of it stays.
        """
        draft: Draft | None = None
        try:
            draft = brought if isinstance(brought, Draft) else self._copied(brought)
            arrival = self._examined(draft)
            if study not in (None, arrival.study_uid):
                raise OfAnotherStudy(arrival)
            if sop not in (None, arrival.sop_uid):
                raise Quarantined(Quarantine.OBJECT_TYPE, "another instance than was asked for")
            return self._named(draft, arrival, source)
        except (Quarantined, Full) as refusal:
            self.refuse(refusal)
            raise
        except OSError as error:
            full = Full(f"one that does not take it ({error.strerror})")
            self.refuse(full)
            raise full from None
        finally:
            if draft is not None:
                draft.discard()

    def refuse(self, refusal: Quarantined | Full) -> None:
        """Count what was refused before it could be brought here; `take` counts its own."""
        self.counts.add("full" if isinstance(refusal, Full) else f"refused.{refusal.reason.value}")

    def waiting(self) -> Iterator[Received]:
        """What lies in incoming/, the oldest first, examined again: after a restart, what nobody may know of.

        What does not read any more goes into damaged/ and is counted.
        """
        for at, path in sorted(self._aged()):
            try:
                arrival = examine(path, self.limits.arrival)
                if self._name(arrival) != path.name:
                    raise Quarantined(Quarantine.UNREADABLE, "bytes other than those that were acknowledged")
            except Quarantined:
                if not path.exists():  # who works with it was quicker
                    continue
                self.counts.add("damaged")
                path.replace(self.root / _DAMAGED / path.name)
                continue
            yield Received(path, arrival, "restart", at)

    def digest(self, purpose: str, *parts: bytes) -> bytes:
        """32 bytes that stand for parts that may be patient data, under the spool's key."""
        return keyed_digest(self._key, purpose.encode(), *parts)

    def drop(self, path: Path) -> None:
        """Remove an instance that nobody needs any more."""
        path.unlink(missing_ok=True)
        instance, _, content = path.stem.partition("-")
        with self._naming:
            held = self._bytes_of.get(instance, set())
            held.discard(content)
            if not held:
                self._bytes_of.pop(instance, None)

    def _incoming(self) -> Iterator[Path]:
        return (self.root / _INCOMING).glob("*.dcm")

    def _aged(self) -> Iterator[tuple[float, Path]]:
        for path in self._incoming():
            with contextlib.suppress(FileNotFoundError):  # who works with it was quicker
                yield path.stat().st_mtime, path

    def _copied(self, brought: Path | bytes) -> Draft:
        draft = self.draft()
        if isinstance(brought, bytes):
            draft.write(brought)
            return draft
        try:
            # O_NONBLOCK: a FIFO must not hang the watcher; O_NOFOLLOW: nor a link lead it elsewhere.
            handle = os.open(brought, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(handle, "rb") as file:
                while piece := file.read(_PIECE):
                    draft.write(piece)
        except OSError as error:
            draft.discard()
            raise Quarantined(Quarantine.UNREADABLE, f"one that cannot be read ({error.strerror})") from None
        return draft

    def _examined(self, draft: Draft) -> Arrival:
        with self._large if draft.size > _LARGE else contextlib.nullcontext():
            return examine(draft.path, self.limits.arrival)

    def _name(self, arrival: Arrival) -> str:
        instance = self.digest("instance", arrival.sop_uid.encode()).hex()[:32]
        content = self.digest("content", bytes.fromhex(arrival.sha256)).hex()[:32]
        return f"{instance}-{content}.dcm"

    def _note(self, name: str) -> bool:
        """Remember a name; whether other bytes of its instance are here."""
        instance, _, content = name.removesuffix(".dcm").partition("-")
        held = self._bytes_of.setdefault(instance, set())
        others = [other for other in held if other != content]
        here = any((self.root / _INCOMING / f"{instance}-{other}.dcm").exists() for other in others)
        held.add(content)
        return here

    def _named(self, draft: Draft, arrival: Arrival, source: str) -> Received:
        path = self.root / _INCOMING / self._name(arrival)
        draft.sync()  # before it has its name: what has one is whole
        with self._naming:
            repeat, further = path.exists(), self._note(path.name)
            if not repeat:
                draft.path.replace(path)
        sync_folder(path.parent)  # of a repeat, too: who brought it first may still be at it
        self.counts.add("repeated" if repeat else "received")
        if further and not repeat:
            self.counts.add("further")
        return Received(path, arrival, source, time.time(), repeat, further)
