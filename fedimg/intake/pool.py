"""Outcomes of many tasks in order, in this process or in several; a file that kills or halts one is held back."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing import connection
from pathlib import Path
from typing import Self

from fedimg.crypto.keys import SiteKey
from fedimg.intake.release import Releaser
from fedimg.intake.task import Outcome, ReleaseConfig, Task
from fedimg.processes import never_started
from fedimg.values import Quarantine

_CHUNK = 16
_AHEAD = 3  # chunks per process: enough that none waits, few enough that memory stays flat
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_child: Releaser | None = None  # of a child process: tables and keys are loaded once
_seconds = 0.0


@dataclass(frozen=True, slots=True)
class Workplace:
    """What every process of a run needs: see `Releaser`.

    `seconds_per_file` of processor time end a child process that reads one input; 0: no limit.
    """

    site_key: SiteKey
    config: ReleaseConfig
    quarantine: Path
    index: Path | None = None
    seconds_per_file: float = 0.0

    def releaser(self) -> Releaser:
        return Releaser(self.site_key, self.config, self.quarantine, self.index)


def _begin(
    secret: bytes, config: ReleaseConfig, quarantine: Path, index: Path | None, seconds: float
) -> None:
    """In a fresh child: it ends with its parent, whatever ended that, and leaves Ctrl-C to it."""
    global _child, _seconds  # noqa: PLW0603 - one per process, which is made for it
    _seconds = seconds
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _child = Workplace(SiteKey.from_bytes(secret), config, quarantine, index).releaser()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _ready() -> None:
    """The least task: it shows that a child has started."""


def _take(tasks: Sequence[Task]) -> list[Outcome]:
    if _child is None:
        raise RuntimeError("a child process that was not begun")
    return [_within_limit(_child, task) for task in tasks]


def _within_limit(child: Releaser, task: Task) -> Outcome:
    """The system ends this process where the time runs out: a codec that turns in a circle holds Python's lock,
    so that nothing in Python could end it.
    """
    signal.setitimer(signal.ITIMER_VIRTUAL, _seconds)
    try:
        return child.take(task)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


class ReleasePool:
    """`workers` child processes (spawned: no lock or file of this process is inherited); 0: this process.

    Memory stays flat: only a few chunks per worker are under way. Close it, or use `with`.
    """

    def __init__(self, workplace: Workplace, workers: int) -> None:
        self._workplace, self._workers = workplace, workers
        self._local = workplace.releaser()
        self._executor: ProcessPoolExecutor | None = None

    def start(self) -> None:
        """Start the children without waiting for them: they come up while the inputs are surveyed."""
        if self._workers:
            self._executor = self._executor or self._fresh()
            with _single_threaded(), suppress(BrokenProcessPool):  # the first task finds out why
                for _ in range(self._workers):
                    self._executor.submit(_ready)

    def outcomes(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Outcome]]:
        """One outcome per task, in order. Raises OSError for a full disk, ConfigError where no child starts."""
        if not self._workers:
            yield from ((task, self._local.take(task)) for task in tasks)
            return
        source = iter(tasks)
        waiting: deque[tuple[list[Task], Future[list[Outcome]]]] = deque()
        while True:
            while len(waiting) < _AHEAD * self._workers and (chunk := list(islice(source, _CHUNK))):
                waiting.append((chunk, self._submit(chunk)))
            if not waiting:
                return
            chunk, future = waiting.popleft()
            try:
                outcomes = future.result()
            except BrokenProcessPool:
                yield from self._one_by_one(chunk)
                waiting = deque((later, self._submit(later)) for later, _ in waiting)
            else:
                yield from zip(chunk, outcomes, strict=True)

    def _submit(self, chunk: list[Task]) -> Future[list[Outcome]]:
        if self._executor is None:
            self._executor = self._fresh()
        try:
            with _single_threaded():  # a submission starts children
                return self._executor.submit(_take, chunk)
        except BrokenProcessPool:
            self.close()
            return self._submit(chunk)

    def _fresh(self) -> ProcessPoolExecutor:
        place = self._workplace
        secret = place.site_key.to_bytes()
        arguments = (secret, place.config, place.quarantine, place.index, place.seconds_per_file)
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._workers, context, _begin, arguments)

    def _one_by_one(self, chunk: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        """After a child died (a codec's crash, a limit): find out on which task, and hold it back."""
        self._start_afresh()
        for task in chunk:
            try:
                yield task, self._submit([task]).result()[0]
            except BrokenProcessPool:
                self._start_afresh()
                found = (
                    "an input that ended the process which read it, by a crash or a limit of memory or time"
                )
                link = self._local.link_of(task)
                yield task, Outcome(task.position, link, 0, Quarantine.UNREADABLE, found)

    def _start_afresh(self) -> None:
        """New children that have shown to start: without this a file would be blamed, and the next one, and so on."""
        self.close()
        self._executor = self._fresh()
        try:
            with _single_threaded():
                self._executor.submit(_ready).result()
        except BrokenProcessPool:
            raise never_started() from None

    def close(self) -> None:
        """Stop the children; tasks not begun are dropped."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Children inherit an environment of one thread each: the processes are the parallelism."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
