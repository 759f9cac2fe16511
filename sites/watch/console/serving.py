"""The console within the watcher's process: a thread and a port of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fedimg.errors import ConfigError
from fedimg.process_log import Say
from fedimg.web.access import AccessToken
from fedimg.web.changes import Changes
from fedimg.web.events import Streams
from fedimg.web.frame import Around
from fedimg.web.guard import Guard, Rules
from fedimg.web.serving import PageServer, is_loopback, own_names
from fedimg.web.shell import Shell
from sites.watch.console.actions import Actions
from sites.watch.console.api import api
from sites.watch.console.buttons import buttons
from sites.watch.console.pages import Known
from sites.watch.console.reading import Reading, mark_of
from sites.watch.console.routes import LINKS, numbers, patients
from sites.watch.console.values import Running
from sites.watch.metrics import WatchMetrics

TOKEN_FILE = "console.token"  # noqa: S105 - a file's name
NOTICE = "Research only. Not for diagnostic use."
_REMEDY = "name another address in the settings, console.address"


@dataclass
class Console:
    """What a console is made of.

    Attributes:
        root: the folder of the store. actions: what a person may do. say: the watcher's log.
        results: the folder below which results' files lie; by default `root/results`.
        home: of the site, whose ledger is shown. prevalence: as the settings state it, by model or finding.
        process: what only the running watcher knows. ready: whether it receives and analyses.
        tls: key and certificate files; needed beyond the loopback. names: those in that certificate.
    """

    root: Path
    actions: Actions
    say: Say
    results: Path | None = None
    home: Path | None = None
    prevalence: Mapping[str, float] = field(default_factory=dict)
    process: Callable[[], Running | None] = lambda: None
    ready: Callable[[], bool] = lambda: True
    tls: tuple[Path, Path] | None = None
    names: tuple[str, ...] = ()
    clock: Callable[[], float] = time.time
    _changes: Changes | None = field(default=None, init=False, repr=False)

    def wake(self) -> None:
        """Something was committed: readers see it now, and not at the next look. Any thread; never waits."""
        if self._changes is not None:
            self._changes.wake()

    @contextmanager
    def serve(self, host: str = "127.0.0.1", port: int = 8460) -> Iterator[PageServer]:
        """While this lasts.

        Raises:
            ConfigError: the address is taken or not this machine's; or others can reach it and there is no TLS.
            DataError: there is no store yet, or TLS files that are none.
        """
        local = is_loopback(host)
        if not local and self.tls is None:
            raise ConfigError(
                "a TLS key and certificate for a console that others can reach",
                "none: patients' names would go in the clear",
                "name console.tls in the settings, or serve it on 127.0.0.1",
            )
        reading, changes = Reading(self.root), Changes(lambda: mark_of(self.root))
        try:
            known = Known(
                reading,
                self.results or self.root / "results",
                self.home,
                self.prevalence,
                self.process,
                self.clock,
            )
            shell, app = self._application(known, changes, host, port)

            def ending() -> None:
                shell.streams.closing.set()
                changes.end()

            with PageServer(
                app, host, port, tls=None if local else self.tls, remedy=_REMEDY, ending=ending
            ) as server:
                self._changes = changes
                name = f"[{host}]" if ":" in host else host
                address = f"http{'' if local else 's'}://{name}:{server.port}/"
                self.say("console", address=address, token_file=str(self.root / TOKEN_FILE))
                yield server
        finally:
            self._changes = None
            changes.end()
            reading.close()

    def _application(self, known: Known, changes: Changes, host: str, port: int) -> tuple[Shell, Guard]:
        local = is_loopback(host)
        rules = Rules(
            AccessToken(self.root / TOKEN_FILE),
            own_names(host, self.names),
            secure=not local,
            cookie=f"fedimg-watch-{port}",
            open_metrics=local,
            fault=lambda kind: self.say("console fault", about=f"an unexpected {kind}"),
        )
        shell = Shell(
            "Watcher",
            rules,
            "fedimg watch token SETTINGS",
            self.ready,
            WatchMetrics(self.root, self.process).text,
            Streams(changes=changes),
            Around(LINKS, NOTICE, wide=True),
            named=True,
        )
        routes = (
            api(known, self.actions),
            patients(shell, known, self.actions),
            numbers(shell, known, self.actions),
            buttons(known, self.actions, changes.wake),
        )
        return shell, shell.app(*routes)
