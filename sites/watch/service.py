"""A watcher's process: store, workers, centre, deliveries, page and sources, begun in an order in which none lacks another.

They end the other way round: first nothing more comes in, then what came is written down, then nothing more goes out.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fedimg.durable import alone
from fedimg.errors import ConfigError, FedimgError
from fedimg.federation.manifest import split_address
from fedimg.prediction.routing import Words
from fedimg.process_log import Say
from fedimg.web.serving import is_loopback
from sites.watch import bundles
from sites.watch.actions import StoreActions
from sites.watch.alerting import Alerting
from sites.watch.centre import Centre
from sites.watch.console.serving import Console
from sites.watch.console.values import Running, Worker
from sites.watch.delivering import Deliverer
from sites.watch.drifting import Drifting
from sites.watch.kept_counts import KeptCounts
from sites.watch.naming import Names
from sites.watch.settings import WatchSettings
from sites.watch.sources import sources
from sites.watch.spool import Spool, SpoolLimits
from sites.watch.store.database import Database
from sites.watch.store.models import Registered
from sites.watch.store.outbox import StoreOutbox
from sites.watch.store.whole import Store
from sites.watch.targets import TargetBodies, senders
from sites.watch.upkeep import Evaluated, Upkeep
from sites.watch.worker_process import Models
from sites.watch.working import Pool

_TICK_S = 1.0
_GIB = 1 << 30


@dataclass(frozen=True)
class Watcher:
    """What runs, for who wants to send it studies or ask it things.

    Attributes:
        port: of each source and of the console, by name.
    """

    centre: Centre
    spool: Spool
    store: Store
    port: dict[str, int]


@contextmanager
def watching(settings: WatchSettings, say: Say) -> Iterator[Watcher]:
    """A watcher while this lasts.

    Raises:
        DataError: another process has this home, or a bundle of the settings is refused.
        ConfigError: addresses, files and titles that cannot be used.
    """
    root = Path(settings.home)
    _folder_is_there(settings)
    _made(root)
    with ExitStack() as stack:
        stack.enter_context(alone(root / "watch.lock", "one watcher of this home"))
        database = Database(root)
        stack.callback(database.close)
        store, names = Store(database), Names(root)
        models = bundles.registered(settings, store)
        limits = SpoolLimits(keep_free_bytes=int(settings.least_free_gib * _GIB))
        spool = stack.enter_context(Spool(root / "spool", limits))
        parts = _Parts(settings, store, names, models, spool, say)
        stack.callback(parts.pool.end)
        parts.centre.recover(spool.waiting())  # before a worker takes what seems to be running
        parts.pool.start()
        parts.deliverer.start()
        stack.callback(parts.deliverer.stop)
        stack.enter_context(_running("centre", parts.centre.run, say))
        kept = KeptCounts(spool.counts, database)
        stack.callback(kept.tick, 0.0)  # what was counted since the last one
        for name, tick in (
            ("escalation", parts.alerting.tick),
            ("upkeep", parts.upkeep.tick),
            ("counts", kept.tick),
        ):
            stack.enter_context(_running(name, partial(_ticking, name, tick, say), say))
        ports: dict[str, int] = {}
        if settings.console is not None:
            host, port = split_address(settings.console.address)
            page = stack.enter_context(parts.console().serve(host, port))
            ports["console"] = page.port
        for name, source in sources(settings, spool, parts.centre.received, parts.centre.released):
            entered = stack.enter_context(source)
            ports[name] = getattr(entered, "port", 0)
            say("listening" if ports[name] else "looking", source=name, port=ports[name] or None)
        parts.ready.set()
        stack.callback(parts.ready.clear)
        roles = [f"{one.name} {one.version} ({one.role})" for one in store.models.working()]
        say("watching", models=roles)
        yield Watcher(parts.centre, spool, store, ports)
        say("ending")


def serve(settings: WatchSettings, ending: threading.Event, say: Say) -> None:
    """Until `ending` is set. Raises as `watching`."""
    with watching(settings, say):
        ending.wait()


class _Parts:
    """What does the work, bound to each other."""

    def __init__(
        self,
        settings: WatchSettings,
        store: Store,
        names: Names,
        models: dict[str, Words],
        spool: Spool,
        say: Say,
    ) -> None:
        self.settings, self.store, self.spool, self._say = settings, store, spool, say
        trusted = bundles.trusted_keys(settings)
        self._console: Console | None = None
        self.ready = threading.Event()
        alerting = Alerting(
            store,
            settings.deliver,
            settings.escalation,
            settings.limit,
            TargetBodies(_address(settings)),
            self._wake,
        )
        self.alerting = alerting
        self.deliverer = Deliverer(
            StoreOutbox(store.database, alerting.delivered), senders(settings.deliver), say
        )
        drifting = Drifting(store.database, settings.drift_references, settings.drift)
        self.centre = Centre(
            Path(settings.home),
            store,
            names,
            models,
            alerting,
            drifting,
            settings.assembly,
            spool.drop,
            self.changed,
            self._held_up,
        )
        folders = tuple(one.folder for one in store.models.working())
        self.pool = Pool(self.centre, Models(folders, trusted), settings.workers, settings.job_s, say)
        self.upkeep = Upkeep(
            store, self.pool, models, trusted, settings.keep_days * 86400.0, say, self._contradicted
        )
        self.actions = StoreActions(store, alerting, self.changed)

    def _wake(self) -> None:
        self.deliverer.wake()

    def _held_up(self, why: str) -> None:
        """New images stay with their senders until what is here can be written."""
        self.spool.held = why
        self._say("held up" if why else "going on", about=why or None)

    def changed(self) -> None:
        """After every transaction: workers and readers of pages may want to know."""
        self.pool.wake()
        if self._console is not None:
            self._console.wake()

    def console(self) -> Console:
        chosen = self.settings.console
        pair = None
        if chosen is not None and chosen.certificate is not None and chosen.key is not None:
            pair = Path(chosen.key), Path(chosen.certificate)
        self._console = Console(
            Path(self.settings.home),
            self.actions,
            self._say,
            home=None if self.settings.site_home is None else Path(self.settings.site_home),
            prevalence=self.settings.prevalence,
            process=self._process,
            ready=lambda: self.ready.is_set() and not self.spool.held,
            names=() if chosen is None else chosen.names,
            tls=pair,
        )
        return self._console

    def _process(self) -> Running:
        spool, disk = self.spool, os.statvfs(self.spool.root)
        workers = tuple(
            Worker(name=f"worker {k + 1}", state=state, done=done, since=since)
            for k, (state, done, since) in enumerate(self.pool.states())
        )
        waiting = [one.stat().st_size for one in (spool.root / "incoming").glob("*.dcm") if one.exists()]
        free, least = disk.f_bavail * disk.f_frsize, spool.limits.keep_free_bytes
        counts = dict(spool.counts.read())
        return Running(workers, len(waiting), sum(waiting), free, least, counts, spool.held)

    def _contradicted(self, one: Registered, found: Evaluated, at: float) -> None:
        said = {
            "model": one.name,
            "digest": one.digest,
            "positives": found.positives,
            "called": found.hits,
            "promised_sensitivity": found.target,
        }
        self.alerting.about_model(one.digest, "contradicted", said, at, tell=True)


def _folder_is_there(settings: WatchSettings) -> None:
    """What is mounted later would be found late, and nobody would know why nothing comes."""
    if settings.folder is not None and not Path(settings.folder.path).is_dir():
        found = f"none at {settings.folder.path}"
        raise ConfigError("a folder as folder.path", found, "make or mount it, or correct the settings")


def _made(root: Path) -> None:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    root.chmod(0o700)
    for name in ("studies", "results"):
        (root / name).mkdir(mode=0o700, exist_ok=True)


def _address(settings: WatchSettings) -> str:
    """Of the console, as it stands in messages; "" without one."""
    if settings.console is None:
        return ""
    host, _ = split_address(settings.console.address)
    return f"{'http' if is_loopback(host) else 'https'}://{settings.console.address}/"


def _ticking(name: str, tick: Callable[[float], None], say: Say, ending: threading.Event) -> None:
    """Every second. What the disk or another process holds up is tried again: nothing of it is lost by waiting."""
    while not ending.wait(_TICK_S):
        try:
            tick(time.time())
        except FedimgError as fault:
            say(name, about=str(fault))
        except OSError as fault:
            say(name, about=os.strerror(fault.errno or 0))
        except sqlite3.OperationalError as fault:
            say(name, about=type(fault).__name__)


@contextmanager
def _running(name: str, work: Callable[[threading.Event], Any], say: Say) -> Iterator[None]:
    """A thread that works while this lasts. Where it fails the whole process ends: a supervisor starts it again."""
    ending = threading.Event()

    def run() -> None:
        try:
            work(ending)
        except BaseException as fault:  # noqa: BLE001 - its text may quote anything
            # a watcher that receives and forgets would be worse than one that is not there
            say(
                "fault",
                thread=name,
                about=str(fault) if isinstance(fault, FedimgError) else type(fault).__name__,
            )
            os._exit(70)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(timeout=30)
