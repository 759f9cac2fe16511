"""The watcher's middle: images become studies, studies jobs, results alerts. Every step is one transaction of the store.

A file is in `incoming/` (durable before its sender was thanked) until its row is committed; then it moves to its study's
folder. Whatever a kill cuts off is found again: files by what lies in incoming/, studies by their state, jobs by theirs,
deliveries by their row. Nothing is told to anybody that is not in the store first.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedimg import prediction
from fedimg.monitoring.assembly import Assembler, AssemblyConfig
from sites.watch.alerting import Alerting
from sites.watch.drifting import Drifting
from sites.watch.naming import Names
from sites.watch.spool import Received
from sites.watch.store.jobs import Finished, Job, images_digest
from sites.watch.store.whole import Store
from sites.watch.targets import moved

_AT_ONCE = 256
_LOOK_S = 0.25


@dataclass
class Centre:
    """One thread runs it; sources and workers call `received`, `released`, `done`, `refused` and `crashed` from theirs.

    Attributes:
        root: the watcher's home. models: digest → what the bundle says, of those that look at studies. changed: called after every
            transaction that a page or a worker may want to know of.
    """

    root: Path
    store: Store
    names: Names
    models: Mapping[str, prediction.Words]
    alerting: Alerting
    drifting: Drifting
    assembly: AssemblyConfig
    changed: Callable[[], None]
    _queue: queue.SimpleQueue[Received | frozenset[str] | None] = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        self._assembler = Assembler(self.store.studies.planes, self.assembly)

    def received(self, one: Received) -> None:
        """An image that is durable in incoming/."""
        self._queue.put(one)

    def released(self, study_uids: Iterable[str]) -> None:
        """An association ended as it should."""
        self._queue.put(frozenset(study_uids))

    @property
    def waiting(self) -> int:
        """Events that were not looked at yet."""
        return self._queue.qsize()

    def recover(self, waiting: Iterable[Received]) -> None:
        """After a start: what lies in incoming/ is received, what was running waits again, what was arriving arrives."""
        self.store.jobs.recover()
        now = time.monotonic()
        for study in self.store.studies.unfinished():
            self._assembler.received(study, now)
        for one in waiting:
            self.received(one)

    def run(self, ending: threading.Event) -> None:
        """Until `ending` is set and nothing is left in the queue."""
        while True:
            events = self._events()
            if events:
                self._take(events)
            for study, reason in self._assembler.complete(time.monotonic()):
                self._complete(study, reason)
            if ending.is_set() and not events and not self.waiting:
                return

    def _events(self) -> list[Received | frozenset[str]]:
        """The next ones, in order; none after a while without any."""
        due = self._assembler.next_at()
        wait = _LOOK_S if due is None else min(_LOOK_S, max(0.001, due - time.monotonic()))
        found: list[Received | frozenset[str]] = []
        try:
            event = self._queue.get(timeout=wait)
            while event is not None:
                found.append(event)
                event = self._queue.get_nowait() if len(found) < _AT_ONCE else None
        except queue.Empty:
            return found
        return found

    def _take(self, events: Iterable[Received | frozenset[str]]) -> None:
        """One commit for a batch of images, then the files' move, then what follows from it."""
        added: list[tuple[str, Path, Path]] = []
        order: list[str | frozenset[str]] = []
        with self.store.database.change():
            for event in events:
                if isinstance(event, frozenset):
                    order.append(frozenset(self.names.study(uid) for uid in event))
                    continue
                study = self.names.study(event.arrival.study_uid)
                path = self.root / "studies" / study / event.path.name
                new = self.store.studies.received(study, event.arrival, path, event.source, event.at)
                added.append((study, event.path, path))
                if new:
                    self.store.database.count("received", event.source)
                    order.append(study)
        for _, before, path in added:
            _move(before, path)
        for one in order:
            if isinstance(one, str):
                self._assembler.received(one, time.monotonic())
            else:
                self._assembler.released(one)
        self.changed()

    def _complete(self, study: str, reason: Any) -> None:
        """A study is whole: jobs for every model that looks at some series of it."""
        now = time.time()
        with self.store.database.change():
            revision = self.store.studies.completed(study, reason, now)
            images = self.store.studies.arrivals(study)
            arrivals = [arrival for arrival, _, _ in images]
            for model in self.store.models.working():
                if (words := self.models.get(model.digest)) is None:
                    continue
                routed = prediction.routed(words, arrivals)
                self.store.jobs.not_looked_at(study, model.digest, routed.others)
                for series in routed.series:
                    digest = images_digest(one.sha256 for one in arrivals if one.series_uid == series)
                    self.store.jobs.plan(
                        study,
                        model.digest,
                        series,
                        digest,
                        shadow=model.role == "shadow",
                        revision=revision,
                        at=now,
                    )
            self.store.studies.settle(study)
        self.changed()

    def claim(self) -> Job | None:
        return self.store.jobs.claim(time.time())

    def folder(self, job: Job) -> Path:
        """Its own, whatever a former attempt left in it is replaced."""
        return self.root / "results" / self.names.of("job", str(job.id))

    def done(self, job: Job, answer: Mapping[str, Any]) -> None:
        """A result, with all that follows from it, or nothing."""
        now, found = time.time(), answer["prediction"]
        finished = Finished(
            found,
            answer["outputs"],
            found["score"],
            found["threshold"],
            found["called"],
            found["seconds"],
            found["measures"],
            found["embedding"],
        )
        with self.store.database.change():
            self.store.jobs.finished(job, finished, now)
            if finished.called and not job.shadow:
                self.alerting.found(job, finished, now)
            self.store.studies.settle(job.study)
        self.changed()
        if (look := self.drifting.observed(job.model, now)) is not None and look.moved:
            said = moved(look, self.models[job.model].metadata.name)
            self.alerting.about_model(job.model, "drift", said, now, tell=look.persists)

    def refused(self, job: Job, reason: str) -> None:
        with self.store.database.change():
            self.store.jobs.refused(job, reason)
            self.store.studies.settle(job.study)
        self.changed()

    def crashed(self, job: Job, reason: str) -> None:
        with self.store.database.change():
            failed = self.store.jobs.crashed(job, reason, time.time())
            self.store.database.count("crashed")
            self.store.studies.settle(job.study)
            if failed:
                self.store.database.count("failed")
        self.changed()


def _move(before: Path, after: Path) -> None:
    """Rename; where it was done before, or the same image came again, what is left in incoming/ is removed."""
    after.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if after.exists():
        before.unlink(missing_ok=True)
    elif before.exists():
        before.rename(after)
