"""What the page knows, read anew as it changes: registry, bundle, connections, and the runs' folders.

Called from the page's own threads, one at a time; the registry is read over a connection of this object's own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedimg import __version__
from fedimg.crypto.certificates import expiry, utc_now
from fedimg.errors import DataError, FedimgError
from fedimg.federation import Manifest
from server.federation_folder import RUNS, FederationFolder
from server.page.models import FederationInfo, Overview, RunDetail, RunInfo, SiteInfo
from server.page.run_reading import RunReader
from server.registry import Entry, Registry
from server.runs import show_run

MOST_RUNS = 200
_FRESH_S = 0.5


@dataclass(frozen=True, slots=True)
class Presence:
    """A member's: whether it is connected, and since when it is or is not; "" where that is not known."""

    connected: bool
    since: str


def presence_of(connected: Mapping[str, str], gone: Mapping[str, str]) -> dict[str, Presence]:
    """Of members: since when they are connected, and since when they are not."""
    away = {name: Presence(connected=False, since=since) for name, since in gone.items()}
    return away | {name: Presence(connected=True, since=since) for name, since in connected.items()}


@dataclass
class Watch:
    """One federation's.

    Attributes:
        folder: the federation's. presence: of the members, by name.
    """

    folder: FederationFolder
    presence: Callable[[], Mapping[str, Presence]]
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _overview: tuple[float, Overview] | None = field(default=None, init=False)
    _bundle: tuple[int, Manifest | None] = field(default=(-1, None), init=False)

    def __post_init__(self) -> None:
        self._registry = Registry(self.folder.root)
        self._runs = RunReader(self.folder.root / RUNS)

    def close(self) -> None:
        with self._lock:
            self._registry.close()

    def overview(self) -> Overview:
        """As of now, or of half a second ago, however many look."""
        with self._lock:
            now = time.monotonic()
            if self._overview is None or now - self._overview[0] > _FRESH_S:
                self._overview = now, self._read()
            return self._overview[1]

    def detail(self, run: str) -> RunDetail:
        """Raises DataError where the registry does not know the run."""
        with self._lock:
            found = self._runs.detail(self._registry.entry(run))
            return replace(found, info=self._without_paths(found.info))

    def report(self, run: str) -> bytes:
        """A finished run's report.html. Raises DataError where there is none."""
        with self._lock:
            entry = self._registry.entry(run)
        path = show_run(self.folder.root / RUNS, entry.run).path / "report.html"
        if not path.is_file():
            raise DataError("a run with a report", "one without", "wait until it is finished")
        return path.read_bytes()

    def stop(self, run: str) -> Entry:
        """Raises DataError for a run that is not queued or under way."""
        return self._changed(lambda: self._registry.ask_to_stop(run))

    def resume(self, run: str) -> Entry:
        """Raises DataError for a run that was not stopped and has not failed."""
        return self._changed(lambda: self._registry.resume(run))

    def _changed(self, change: Callable[[], Entry]) -> Entry:
        with self._lock:
            self._overview = None
            return change()

    def _read(self) -> Overview:
        entries = self._registry.all()[::-1][:MOST_RUNS]
        manifest, state = self._manifest(), self.folder.state()
        info = FederationInfo(
            state.name,
            state.id,
            manifest.number if manifest is not None else 0,
            f"{expiry(self.folder.tls_certificate):%Y-%m-%d}",
            __version__,
        )
        runs = [self._without_paths(self._runs.info(entry)) for entry in entries]
        return Overview(info, self._sites(manifest), runs)

    def _sites(self, manifest: Manifest | None) -> list[SiteInfo]:
        if manifest is None:
            return []
        present, now, away = self.presence(), utc_now(), Presence(connected=False, since="")
        sites = []
        for name, certificate in sorted(manifest.certificates().items()):
            found = present.get(name, away)
            sites.append(
                SiteInfo(
                    name,
                    found.connected,
                    found.since,
                    manifest.members[name].weight,
                    f"{certificate.not_after:%Y-%m-%d}",
                    (certificate.not_after - now).days,
                )
            )
        return sites

    def _manifest(self) -> Manifest | None:
        """The last bundle's; one that cannot be read is none, as the server's own log says."""
        file = self.folder.root / "federation.bundle"
        at = file.stat().st_mtime_ns if file.exists() else 0
        if at != self._bundle[0]:
            try:
                last = self.folder.last()
            except FedimgError:
                last = None
            self._bundle = at, last.manifest if last is not None else None
        return self._bundle[1]

    def _without_paths(self, info: RunInfo) -> RunInfo:
        """A reason may name the federation's folder in a remedy; on the page it is just that."""
        roots = {str(self.folder.root), str(Path(self.folder.root).resolve())}
        reason = info.reason
        for root in sorted(roots, key=len, reverse=True):
            reason = reason.replace(root, "FOLDER")
        return replace(info, reason=reason)
