"""A coordinator's process: it serves the link, and does the runs that it was asked for, one after the other."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import torch

from fedimg import config as configuration
from fedimg import site_data
from fedimg.config import Config
from fedimg.coordination.folder import RunFolder
from fedimg.coordination.terms import own_network, terms_of
from fedimg.crypto.certificates import public_pem_of, read_node_certificate, utc_now
from fedimg.crypto.keys import SigningKey
from fedimg.durable import alone
from fedimg.errors import DataError, FederationError, FedimgError
from fedimg.federation import Manifest
from fedimg.federation.conversation import Ending
from fedimg.federation.manifest import split_address
from fedimg.flower.fleet_server import FleetServer
from fedimg.home import SiteHome
from fedimg.privacy.kept_heads import KeptHeads
from fedimg.process_log import Say
from fedimg.record import code
from fedimg.secagg.roster import Roster
from fedimg.values import SiteDataset
from server.conducting import Conductor
from server.federation_folder import PUBLIC, RUNS, FederationFolder
from server.link import Link, ServerEnds, StopAsked
from server.metrics import CoordinatorMetrics
from server.page.serving import Page
from server.page.watching import presence_of
from server.registry import Entry, Registry, Stage

_LOOK_S, _SETTLE_S, _ADMIT_S = 1.0, 20.0, 600.0


class Coordinator:
    """One federation's server. Use it from one thread.

    Args:
        root: the federation's folder. listen: host:port, where that is not the address that sites dial.
        say: hears what happens, as `process_log.logger` makes it. page: host:port of the page; None for none.
    """

    def __init__(self, root: Path, say: Say, listen: str | None = None, page: str | None = None) -> None:
        self._folder, self._say = FederationFolder(root), say
        self._listen = split_address(listen or self._folder.state().address)
        self._page = split_address(page) if page is not None else None
        self._program = code.program()
        self._bundle_at, self._admitted = 0, 0.0
        self._not_before: dict[tuple[str, str], float] = {}
        self._metrics = CoordinatorMetrics(self._program)

    def serve(self, ending: threading.Event) -> None:
        """Until `ending` is set. Raises DataError where another server has this folder, or there is no bundle."""
        root = self._folder.root
        key, certificate = self._folder.tls
        host, port = self._listen
        with (
            alone(root / "server.lock", "one server for this federation"),
            Registry(root) as registry,
            FleetServer(host, port, certificate, key) as fleet,
            self._shown(fleet, ending),
        ):
            self._admit(fleet)
            self._say("listening", host=host, port=fleet.port, version=self._program.version)
            link = Link(fleet, registry, ending, lambda: self._look_again(fleet), self._metrics.carried)
            try:
                while not ending.is_set():
                    self._admit(fleet)
                    entry = registry.next()
                    if entry is not None and registry.begin(entry.run):
                        self._conduct(entry, registry, link)
                    elif not self._settle(registry, link):
                        ending.wait(_LOOK_S)
            except ServerEnds:
                self._say("ending")

    def _shown(self, fleet: FleetServer, ending: threading.Event) -> AbstractContextManager[object]:
        """The page, where there is to be one."""
        if self._page is None:
            return nullcontext()
        page = Page(
            self._folder,
            self._metrics,
            lambda: presence_of(fleet.connections(), fleet.gone()),
            self._say,
            lambda: not ending.is_set(),
        )
        return page.serve(*self._page)

    def _tell(self, event: str, run: str, about: str) -> None:
        self._say(event, run=run, about=about)
        self._metrics.heard(event, about)

    def _conduct(self, entry: Entry, registry: Registry, link: Link) -> None:
        run = entry.run
        self._say("run taken up", run=run, stage=entry.stage.value)
        folder: RunFolder | None = None
        try:
            folder = RunFolder.open(self._folder.root / RUNS / run)
            config = configuration.load(folder.path / "config.yaml")
            torch.set_num_threads(config.engine.threads)
            conductor = Conductor(
                link,
                registry,
                KeptHeads(self._folder.root / "ledger-heads.json"),
                self._program,
                self._key(),
                self._public,
                lambda event, text: self._tell(event, run, text),
            )
            conductor.conduct(config, folder, Roster.of(self._manifest().members))
        except StopAsked:
            registry.move(run, Stage.STOPPED, "asked to")
            self._say("run stopped", run=run)
        except FedimgError as fault:
            stage = Stage.STOPPED if isinstance(fault, FederationError) else Stage.FAILED
            registry.move(run, stage, str(fault))
            self._say(f"run {stage}", run=run, about=str(fault))
            if folder is not None and stage is Stage.FAILED:
                folder.note_failure(fault)
        except ServerEnds:
            raise
        except (OSError, sqlite3.OperationalError) as fault:
            # a full disk, as a rule: the run goes on when there is room
            number = getattr(fault, "errno", None)
            reason = os.strerror(number) if number else "the registry"
            with suppress(sqlite3.Error):
                registry.move(run, Stage.STOPPED, f"this machine: {reason}; free space, then resume the run")
            self._say("run stopped", run=run, about=reason)
        except Exception as fault:  # noqa: BLE001 - one run's fault ends that run; its text may quote anything
            registry.move(run, Stage.FAILED, f"an unexpected {type(fault).__name__}")
            self._say("run failed", run=run, about=f"an unexpected {type(fault).__name__}")
            if folder is not None:
                folder.note_failure(fault)
        else:
            self._say("run finished", run=run)

    def _settle(self, registry: Registry, link: Link) -> bool:
        """Tell a site that was away of a run's end; whether there was one."""
        connected, now = link.connected(), time.monotonic()
        for run, site in registry.owed():
            if site in connected and self._not_before.get((run, site), 0.0) <= now:
                answers = link.ask({site: Ending(run).to_bytes()}, 30.0)
                if answers.get(site) is not None:
                    registry.settle(run, site)
                    return True
                self._not_before[run, site] = now + _SETTLE_S
        return False

    def _look_again(self, fleet: FleetServer) -> None:
        """While a run is under way; who was a member goes on being one where the bundle cannot be read."""
        try:
            self._admit(fleet)
        except (FedimgError, OSError) as fault:
            self._say("members not read", about=str(fault) if isinstance(fault, FedimgError) else "the disk")

    def _admit(self, fleet: FleetServer) -> None:
        """The members of the last bundle, whenever there is another one; and now and then whose certificates hold."""
        file = self._folder.root / "federation.bundle"
        at = file.stat().st_mtime_ns if file.exists() else 0
        new, now = at != self._bundle_at or not at, time.monotonic()
        if not new and now - self._admitted < _ADMIT_S:
            return
        manifest, members = self._manifest(), {}
        for name, member in manifest.members.items():
            try:
                read_node_certificate(member.certificate, manifest.authority, utc_now())
            except DataError as fault:
                self._say("member left out", site=name, about=str(fault))
                continue
            members[name] = public_pem_of(member.certificate)
        fleet.admit(members)
        self._bundle_at, self._admitted = at, now
        if new:
            self._say("members", bundle=manifest.number, sites=sorted(members))

    def _manifest(self) -> Manifest:
        last = self._folder.last()
        if last is None:
            raise DataError(
                "a bundle of this federation's members",
                "none yet",
                f"fedimg provision bundle {self._folder.root}",
            )
        return last.manifest

    def _key(self) -> SigningKey:
        path = self._folder.root / "coordinator.key"
        return SigningKey.load(path) if path.exists() else SigningKey.create(path)

    def _public(self, config: Config) -> SiteDataset | None:
        root = self._folder.root / PUBLIC
        if not (root / "home.json").exists():
            return None
        terms = replace(terms_of(config, "public"), validation_fraction=0.0)
        return site_data.load(
            SiteHome.open(root),
            terms.imaging,
            own_network(terms),
            profile=terms.deid_profile,
            validation_fraction=0.0,
        ).train
