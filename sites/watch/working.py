"""The pool of worker processes: jobs of the store, one at a time for each; a worker that ends or hangs costs its study nothing.

A picture that is owed gives way to a study: whoever makes one is asked to stop where somebody waits.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fedimg.errors import DataError
from sites.watch.store.jobs import Job
from sites.watch.worker_process import Models, Worker

_LOOK_S = 0.5
_AGAIN_S = 1.0
"""Between two attempts to tell the store of a job, where it is locked or has no room."""
_NO_ROOM_S = 10.0
_NOT_FINITE = "a score or measure that is no finite number"


class Work(Protocol):
    """Where jobs come from, and what becomes of them; called from the pool's threads."""

    def claim(self) -> Job | None: ...
    def urgent(self) -> bool:
        """Whether a study waits for which a picture should be left."""
        ...

    def done(self, job: Job, answer: Mapping[str, Any]) -> None: ...
    def refused(self, job: Job, reason: str) -> None: ...
    def crashed(self, job: Job, reason: str, *, for_good: bool = False) -> None: ...
    def put_back(self, job: Job) -> None: ...
    def folder(self, job: Job) -> Path:
        """Where its outputs go."""
        ...


@dataclass(slots=True)
class _Seat:
    """What pages show of a worker."""

    state: str = "starting"
    done: int = 0
    since: float = 0.0
    worker: Worker | None = None

    def now(self, state: str) -> None:
        if state != self.state or not self.since:
            self.state, self.since = state, time.time()


class Pool:
    """`count` workers while it is entered.

    Models are exchanged while studies wait: a fresh worker loads and tests the new ones before the old one ends, so
    that a bundle that is unfit changes nothing.
    """

    def __init__(
        self, work: Work, models: Models, count: int, job_s: float, say: Callable[..., None]
    ) -> None:
        self._work, self._models, self._job_s, self._say = work, models, job_s, say
        self._ending, self._wake = threading.Event(), threading.Event()
        self._generation = 0
        self._seats = [_Seat() for _ in range(count)]
        self._threads = [
            threading.Thread(target=self._serve, args=(seat,), name="work", daemon=True)
            for seat in self._seats
        ]
        self._first = [Worker(models) for _ in self._threads[:1]]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Waits for no job: one under way is queued again at the next start."""
        self._ending.set()
        self._wake.set()
        for seat in self._seats:
            if (worker := seat.worker) is not None:
                worker.end()  # whoever waits for its answer hears that there is none
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout=10)
        for unused in self._first:
            unused.end()

    def wake(self) -> None:
        """There may be jobs."""
        self._wake.set()

    def states(self) -> list[tuple[str, int, float]]:
        """What each worker does, how many series it has looked at, and since when it does it (seconds since 1970)."""
        return [(seat.state, seat.done, seat.since) for seat in self._seats]

    def exchange(self, models: Models) -> None:
        """Raises Unfit or NotReady; then everything stays as it is."""
        Worker(models).end()
        self._models = models
        self._generation += 1
        self.wake()

    def _serve(self, seat: _Seat) -> None:
        generation = -1
        try:
            while not self._ending.is_set():
                if seat.worker is None or generation != self._generation:
                    generation = self._generation
                    self._replace(seat)
                if seat.worker is None:
                    seat.now("no model that is fit")
                    self._ending.wait(5.0)
                    continue
                self._wake.clear()  # before the look: what comes after it wakes again
                if (job := self._claimed()) is None:
                    self._wake.wait(timeout=_LOOK_S)
                elif not self._one(seat.worker, job, seat):
                    seat.worker.end()
                    seat.worker = None
        finally:
            if seat.worker is not None:
                seat.worker.end()

    def _replace(self, seat: _Seat) -> None:
        seat.now("starting")
        fresh = self._started()
        if seat.worker is not None:
            seat.worker.end()
        seat.worker = fresh
        if fresh is not None and self._ending.is_set():
            fresh.end()
        seat.now("waiting")

    def _started(self) -> Worker | None:
        try:
            return self._first.pop() if self._first else Worker(self._models)
        except (
            DataError,
            OSError,
            IndexError,
        ) as fault:  # IndexError: another thread has taken the first one
            self._say("no worker", about=str(fault) if isinstance(fault, DataError) else type(fault).__name__)
            return None

    def _claimed(self) -> Job | None:
        """None where nothing waits, or the store cannot say at the moment."""
        try:
            return self._work.claim()
        except sqlite3.Error as fault:
            self._say("jobs held up", about=type(fault).__name__)
            self._ending.wait(_AGAIN_S)
            return None

    def _one(self, worker: Worker, job: Job, seat: _Seat) -> bool:
        """Whether the worker is still fit."""
        seat.now("looking" if job.owed is None else "making a picture")
        try:
            begun = time.monotonic()
            give_way = None if job.owed is None else self._should_give_way
            answer = worker.ask(_question(job, self._work.folder(job)), self._job_s, give_way)
            if self._ending.is_set():
                return False
            if answer is None or answer.get("job") != job.id:
                slow = time.monotonic() - begun >= self._job_s
                why = "a worker that took too long" if slow else "a worker that ended"
                self._told(lambda: self._work.crashed(job, why))
                return False
            self._answered(job, answer)
        finally:
            seat.done += job.owed is None
            seat.now("waiting")
        return True

    def _should_give_way(self) -> bool:
        """A study waits, and no other worker will take it at once."""
        if self._ending.is_set() or any(seat.state == "waiting" for seat in self._seats):
            return False
        try:
            return self._work.urgent()
        except sqlite3.Error:
            return False

    def _answered(self, job: Job, answer: Mapping[str, Any]) -> None:
        """What a worker says, into the store; what the store cannot make anything of is a crash of this job alone."""
        if "failed" in answer:
            self._told(lambda: self._work.crashed(job, f"an error of type {answer['failed']}"))
        elif "not_finite" in answer:
            self._say("model failed", about=_NOT_FINITE, model=job.model[:16])
            self._told(lambda: self._work.crashed(job, _NOT_FINITE, for_good=True))
        elif "gave_way" in answer:
            self._told(lambda: self._work.put_back(job))
        elif "no_room" in answer:
            self._say("jobs held up", about="no room for results")
            self._told(lambda: self._work.put_back(job))
            self._ending.wait(_NO_ROOM_S)
        elif "refused" in answer:
            self._told(lambda: self._work.refused(job, answer["refused"]))
        else:
            try:
                self._told(lambda: self._work.done(job, answer))
            except Exception as fault:  # noqa: BLE001 - its text may quote what was found; a study must not end the thread
                kind = type(fault).__name__
                self._say("result refused", about=kind)
                self._told(lambda: self._work.crashed(job, f"a result that raises {kind}"))

    def _told(self, tell: Callable[[], None]) -> None:
        """A store that is locked or full is no fault of the study: told until it takes it, or the watcher ends."""
        while not self._ending.is_set():
            try:
                tell()
            except sqlite3.OperationalError as fault:
                self._say("jobs held up", about=type(fault).__name__)
                self._ending.wait(_AGAIN_S)
            else:
                return


def _question(job: Job, folder: Path) -> dict[str, Any]:
    """Of a worker."""
    asked = {
        "job": job.id,
        "model": job.model,
        "files": [str(path) for path in job.files],
        "out": str(folder),
    }
    if job.owed is None:
        return asked
    return asked | {"owed": {"image": job.owed.image, "inputs": job.owed.inputs, "of": job.owed.prediction}}
