"""A folder into which others write DICOM files: each is taken once it has been left alone for a while.

Looked at again and again, without the system's notices of changes, which shared folders do not send. The originals
stay as they are, or are moved on where that is asked for. No link is followed. Which files were taken is remembered
over restarts by a keyed digest of name, size and time of change: names of files may be patients' names.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from fedimg.dicom.refusal import Quarantined
from fedimg.errors import ConfigError
from fedimg.values import Quarantine
from sites.watch.spool import Draft, Full, Received, Spool

_SOURCE: Final = "folder"
_PIECE, _DEEPEST = 1 << 20, 32
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class FolderSettings:
    """Attributes:

    path: the folder, with those in it. quiet_s: for how long a file must not have changed. poll_s: between two looks.
    move_to: where files that were taken go, outside of `path`; None: they stay.
    """

    path: Path
    quiet_s: float = 2.0
    poll_s: float = 0.5
    move_to: Path | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError where files would be moved into the folder that is watched."""
        if self.move_to is not None and self.move_to.resolve().is_relative_to(self.path.resolve()):
            found = "one inside of it"
            raise ConfigError("a folder outside of the watched one", found, "name another as folder.move_to")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as a look found it. name: below the watched folder."""

    name: str
    size: int
    changed_ns: int


class FolderSource:
    """Watches while it is entered; `sweep` is one look.

    Args:
        on_released: hears of the studies of files that were taken, once the folder has been quiet.
    """

    def __init__(
        self,
        settings: FolderSettings,
        spool: Spool,
        on_received: Callable[[Received], None],
        on_released: Callable[[frozenset[str]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._spool, self._clock = settings, spool, clock
        self._on_received, self._on_released = on_received, on_released
        self._since: dict[_Seen, float] = {}  # files that are not taken yet: since when they are as they are
        self._taken: set[_Seen] = set()  # a short cut past digest and table
        self._studies: set[str] = set()
        self._last_change = clock()
        self._memory = _Memory(spool)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="folder", daemon=True)

    def __enter__(self) -> Self:
        """Raises ConfigError where there is no such folder."""
        if not self._settings.path.is_dir():
            raise ConfigError("a folder to watch", "none", "make it, or name another under folder.path")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)
        self._memory.close()

    def sweep(self) -> int:
        """Take what is ready; how many files were taken or refused. A full disk ends it, and the next one goes on."""
        now, present, done = self._clock(), set(), 0
        for seen, folder in self._files():
            present.add(seen)
            if self._known(seen):
                continue
            if seen not in self._since:
                self._since[seen] = self._last_change = now
            if now - self._since[seen] >= self._settings.quiet_s:
                try:
                    done += self._take(seen, folder)
                except Full:
                    return done
        self._since = {seen: since for seen, since in self._since.items() if seen in present}
        self._taken &= present
        if self._studies and not self._since and now - self._last_change >= self._settings.quiet_s:
            studies, self._studies = frozenset(self._studies), set()
            self._on_released(studies)
        return done

    def _run(self) -> None:
        while not self._stop.wait(self._settings.poll_s):
            try:
                self.sweep()
            except OSError:  # the share is away; its text may quote a name
                self._spool.counts.add("folder_away")

    def _files(self) -> Iterator[tuple[_Seen, int]]:
        """Regular files with the descriptor of their folder, through which they are opened: no link comes between."""
        top = self._settings.path.resolve()
        for folder, folders, names, descriptor in os.fwalk(top, follow_symlinks=False):
            depth = len(Path(folder).relative_to(top).parts)
            folders[:] = sorted(name for name in folders if depth < _DEEPEST and not name.startswith("."))
            for name in sorted(names):
                if name.startswith("."):  # what copying programs call a file that is not whole
                    continue
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    relative = os.path.relpath(os.path.join(folder, name), top)  # noqa: PTH118 - bytes of any name
                    seen = _Seen(relative, status.st_size, status.st_mtime_ns)
                    if stat.S_ISREG(status.st_mode):
                        yield seen, descriptor
                    elif not self._known(seen):
                        self._spool.refuse(Quarantined(Quarantine.LINK, "a link, or no regular file"))
                        self._remember(seen)

    def _take(self, seen: _Seen, folder: int) -> int:
        """Raises Full."""
        name = os.path.basename(seen.name)  # noqa: PTH119 - of a name that is relative to a descriptor
        try:
            draft = self._copied(seen, name, folder)
            if draft is None:
                return 0
            received = self._spool.take(draft, _SOURCE)
        except Quarantined:
            self._remember(seen)
            return 1
        self._on_received(received)
        self._studies.add(received.arrival.study_uid)
        self._remember(seen)
        self._move(seen, name, folder)
        return 1

    def _copied(self, seen: _Seen, name: str, folder: int) -> Draft | None:
        """None where it changes still, is gone, or is not ours to read yet. Raises Quarantined, Full; both counted."""
        draft = None
        try:
            draft = self._spool.draft()
            with os.fdopen(os.open(name, _FLAGS, dir_fd=folder), "rb") as file:
                while piece := file.read(_PIECE):
                    draft.write(piece)
                status = os.fstat(file.fileno())
            if (status.st_size, status.st_mtime_ns) == (seen.size, seen.changed_ns):
                return draft
        except (Quarantined, Full) as refusal:
            self._spool.refuse(refusal)
            raise
        except OSError:
            self._spool.counts.add("not_readable")
        if draft is not None:
            draft.discard()
        return None

    def _move(self, seen: _Seen, name: str, folder: int) -> None:
        """Never over another file. What cannot be moved stays, and is remembered as taken."""
        if self._settings.move_to is None:
            return
        target = self._settings.move_to / seen.name
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            number = 0
            while target.exists():
                number += 1
                target = target.with_name(f"{name}.{number}")
            os.rename(name, target, src_dir_fd=folder)
        except OSError:
            self._spool.counts.add("not_moved")

    def _known(self, seen: _Seen) -> bool:
        if seen not in self._taken and self._digest(seen) in self._memory:
            self._taken.add(seen)
        return seen in self._taken

    def _remember(self, seen: _Seen) -> None:
        self._since.pop(seen, None)
        self._taken.add(seen)
        self._memory.add(self._digest(seen))

    def _digest(self, seen: _Seen) -> bytes:
        parts = (os.fsencode(seen.name), str(seen.size).encode(), str(seen.changed_ns).encode())
        return self._spool.digest("folder", *parts)


class _Memory:
    """Digests of what was taken, in a file beside the spool (0600)."""

    def __init__(self, spool: Spool) -> None:
        path = spool.root / "folder.sqlite"
        path.touch(mode=0o600)
        self._table = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._table.execute("CREATE TABLE IF NOT EXISTS taken (digest BLOB PRIMARY KEY) WITHOUT ROWID")

    def __contains__(self, digest: bytes) -> bool:
        return self._table.execute("SELECT 1 FROM taken WHERE digest = ?", (digest,)).fetchone() is not None

    def add(self, digest: bytes) -> None:
        self._table.execute("INSERT OR IGNORE INTO taken VALUES (?)", (digest,))

    def close(self) -> None:
        self._table.close()
