"""The watcher's middle: images become studies, studies jobs, results alerts. Every step is one transaction of the store.

A file is in `incoming/` (durable before its sender was thanked) until its row is committed; then it moves to its study's
folder. Whatever a kill cuts off is found again: files by what lies in incoming/, studies by their state, jobs by theirs,
deliveries by their row. Nothing is told to anybody that is not in the store first.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fedimg.durable import sync_folder
from fedimg.monitoring.assembly import Assembler, AssemblyConfig, Completeness
from fedimg.prediction.routing import Words, routed
from sites.watch.alerting import Alerting
from sites.watch.drifting import Drifting
from sites.watch.naming import Names
from sites.watch.room import written
from sites.watch.spool import Received
from sites.watch.store.jobs import Finished, Job, images_digest
from sites.watch.store.whole import Store
from sites.watch.targets import moved

_AT_ONCE = 256
_LOOK_S = 0.25
_NO_PICTURE = "attention_failed"
"""Of the counters: a picture that could not be made. Its alert is as it was."""


@dataclass
class Centre:
    """One thread runs it; sources and workers call `received`, `released`, `done`, `refused` and `crashed` from theirs.

    Attributes:
        root: the watcher's home. models: digest → what the bundle says, of those that look at studies. drop: lets go of a
            file in incoming/. changed: called after every transaction that a page or a worker may want to know of.
        held_up: told why nothing can be written, and "" when it can be again.
    """

    root: Path
    store: Store
    names: Names
    models: Mapping[str, Words]
    alerting: Alerting
    drifting: Drifting
    assembly: AssemblyConfig
    drop: Callable[[Path], None]
    changed: Callable[[], None]
    held_up: Callable[[str], None] = lambda _: None
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
        self.store.attention.recover()
        now = time.monotonic()
        for study in self.store.studies.unfinished():
            self._assembler.received(study, now)
        for one in waiting:
            self.received(one)

    def run(self, ending: threading.Event) -> None:
        """Until `ending` is set and nothing is left in the queue."""
        while True:
            events = self._events()
            if events and not written(partial(self._take, events), ending, self.held_up):
                return
            for study, reason in self._assembler.complete(time.monotonic()):
                if not written(partial(self._complete, study, reason), ending, self.held_up):
                    return
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
        """One commit for a batch of images. A file is in its study's folder before its row says so, and leaves incoming/
        after: a row whose file is not there is never seen, and no power cut loses both names.
        """
        order: list[str | frozenset[str]] = []
        taken: list[Path] = []
        with self.store.database.change():
            for event in events:
                if isinstance(event, frozenset):
                    order.append(frozenset(self.names.study(uid) for uid in event))
                    continue
                study = self.names.study(event.arrival.study_uid)
                path = self.root / "studies" / study / event.path.name
                taken.append(event.path)
                if not self._placed(event.path, path):
                    continue
                if self.store.studies.received(study, event.arrival, path, event.source, event.at):
                    self.store.database.count("received", event.source)
                    order.append(study)
            for folder in {self.root / "studies" / one for one in order if isinstance(one, str)}:
                sync_folder(folder)
        for path in taken:
            self.drop(path)
        for one in order:
            if isinstance(one, str):
                self._assembler.received(one, time.monotonic())
            else:
                self._assembler.released(one)
        self.changed()

    def _complete(self, study: str, reason: Completeness) -> None:
        """A study is whole: jobs for every model that looks at some series of it."""
        now, models = time.time(), dict(self.models)  # which upkeep may change meanwhile
        with self.store.database.change():
            revision = self.store.studies.completed(study, reason, now)
            arrivals = [arrival for arrival, _, _ in self.store.studies.arrivals(study)]
            others = self.store.studies.not_to_look_at(study, arrivals)
            own = [one for one in arrivals if one.series_uid not in others]
            digests: dict[str, list[str]] = {}
            for one in own:
                digests.setdefault(one.series_uid, []).append(one.sha256)
            for model, shadow in self.store.models.speaking(models).items():
                chosen = routed(models[model], own)
                self.store.jobs.not_looked_at(study, model, {**chosen.others, **others})
                for series in chosen.series:
                    images = images_digest(digests[series])
                    self.store.jobs.plan(
                        study, model, series, images, shadow=shadow, revision=revision, at=now
                    )
            self.store.studies.settle(study)
        self.changed()

    def claim(self) -> Job | None:
        """A study for a model that speaks, else a picture that is owed, else a study for one in the shadow."""
        now, jobs = time.time(), self.store.jobs
        with self.store.database.change():
            dropped = jobs.drop_retired()
            for study in dropped:
                self.store.studies.settle(study)
            job = jobs.claim(now, shadows=False)
            job = job or self.store.attention.claim(now, self._speaking()) or jobs.claim(now)
        if dropped:
            self.changed()
        return job

    def urgent(self) -> bool:
        """Whether somebody waits for whom a picture has to wait."""
        return self.store.jobs.waits()

    def _speaking(self) -> set[str]:
        return {digest for digest, shadow in self.store.models.speaking(self.models).items() if not shadow}

    def folder(self, job: Job) -> Path:
        """Its own, whatever a former attempt left in it is replaced."""
        return self.root / "results" / self.names.of("job", str(job.id))

    def done(self, job: Job, answer: Mapping[str, Any]) -> None:
        """A result, with all that follows from it, or nothing."""
        if job.owed is not None:
            self._pictured(job, answer)
            return
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
            if not job.shadow:
                if (owed := answer.get("owed")) is not None and finished.called:
                    self.store.attention.owe(job.id, owed["image"], owed["inputs"], now)
                self.alerting.found(job, finished, now)
            self.store.studies.settle(job.study)
        self.changed()
        self._look_for_drift(job.model, now)

    def _pictured(self, job: Job, answer: Mapping[str, Any]) -> None:
        """A picture and what is told of it are in the store together; its alert was before."""
        now, outputs = time.time(), answer["outputs"]
        with self.store.database.change():
            wanted = self.store.attention.finished(job, answer["found"], outputs, self._speaking(), now)
            if wanted:
                self.alerting.pictured(job, outputs, now)
        if not wanted:
            for path in outputs.values():
                Path(path).unlink(missing_ok=True)
        self.changed()

    def _look_for_drift(self, model: str, now: float) -> None:
        """A look and what is told of it are in the store together."""
        with self.store.database.change():
            look = self.drifting.observed(model, now)
            if look is not None and look.moved:
                words = self.models.get(model)  # none of a model that was retired meanwhile
                said = moved(look, "" if words is None else words.metadata.name)
                self.alerting.about_model(model, "drift", said, now, tell=look.persists)

    def refused(self, job: Job, reason: str) -> None:
        with self.store.database.change():
            if job.owed is not None:
                if self.store.attention.refused(job, reason, time.time()):
                    self.store.database.count(_NO_PICTURE)
            else:
                self.store.jobs.refused(job, reason)
                self.store.studies.settle(job.study)
        self.changed()

    def put_back(self, job: Job) -> None:
        with self.store.database.change():
            if job.owed is not None:
                self.store.attention.put_back(job)
            else:
                self.store.jobs.put_back(job)
                self.store.studies.settle(job.study)

    def crashed(self, job: Job, reason: str, *, for_good: bool = False) -> None:
        """`for_good`: it would be so the next time, too."""
        now = time.time()
        with self.store.database.change():
            if job.owed is not None:
                if self.store.attention.crashed(job, reason, now):
                    self.store.database.count(_NO_PICTURE)
            else:
                failed = self.store.jobs.crashed(job, reason, now, for_good=for_good)
                self.store.studies.settle(job.study)
                if failed:
                    self.store.database.count("failed")
            self.store.database.count("crashed")
        self.changed()

    def _placed(self, before: Path, after: Path) -> bool:
        """Whether it is in its study's folder now; not, where a former event of the same image has brought it there and it
        was removed since.
        """
        if after.exists():
            return True
        if not after.parent.exists():
            after.parent.mkdir(mode=0o700)
            sync_folder(after.parent.parent)
        try:
            os.link(before, after)
        except FileNotFoundError:
            return False
        return True
