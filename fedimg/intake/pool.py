"""Outcomes of many tasks in order, in this process or in several; a file that kills a process is held back."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Self

from fedimg.crypto.keys import SiteKey
from fedimg.intake.release import Outcome, ReleaseConfig, Releaser, Task
from fedimg.values import Quarantine

_CHUNK = 16


@cache
def _releaser(secret: bytes, config: ReleaseConfig, quarantine: Path) -> Releaser:
    """Once per child process: tables and derived keys are loaded once."""
    return Releaser(SiteKey.from_bytes(secret), config, quarantine)


def _take(secret: bytes, config: ReleaseConfig, quarantine: Path, tasks: Sequence[Task]) -> list[Outcome]:
    releaser = _releaser(secret, config, quarantine)
    return [releaser.take(task) for task in tasks]


class ReleasePool:
    """`workers` child processes (spawned: no lock or file of this process is inherited).

    Memory stays flat: only a few chunks per worker are under way. Close it, or use `with`.
    """

    def __init__(self, site_key: SiteKey, config: ReleaseConfig, quarantine: Path, workers: int) -> None:
        self._arguments = (site_key.to_bytes(), config, quarantine)
        self._local = Releaser(site_key, config, quarantine)
        self._workers = workers
        self._executor = self._fresh() if workers > 1 else None

    def _fresh(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._workers, multiprocessing.get_context("spawn"))

    def outcomes(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """One outcome per task, in order. Raises OSError for a full disk."""
        if self._executor is None:
            yield from map(self._local.take, tasks)
            return
        source = iter(tasks)
        waiting: deque[tuple[list[Task], Future[list[Outcome]]]] = deque()
        while True:
            while len(waiting) < 3 * self._workers and (chunk := list(islice(source, _CHUNK))):
                waiting.append((chunk, self._submit(chunk)))
            if not waiting:
                return
            chunk, future = waiting.popleft()
            try:
                yield from future.result()
            except BrokenProcessPool:
                yield from self._one_by_one(chunk)
                waiting = deque((later, self._submit(later)) for later, _ in waiting)

    def _submit(self, chunk: list[Task]) -> Future[list[Outcome]]:
        if self._executor is None:
            raise RuntimeError("a pool of one process takes no chunks")
        try:
            return self._executor.submit(_take, *self._arguments, chunk)
        except BrokenProcessPool:
            self._renew()
            return self._submit(chunk)

    def _renew(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
        self._executor = self._fresh()

    def _one_by_one(self, chunk: Sequence[Task]) -> Iterator[Outcome]:
        """After a child died (a codec's crash, the memory limit): find out on which task, and hold it back."""
        self._renew()
        for task in chunk:
            try:
                yield from self._submit([task]).result()
            except BrokenProcessPool:
                self._renew()
                yield Outcome(task.position, self._local.link_of(task), 0, Quarantine.UNREADABLE)

    def close(self) -> None:
        """Stop the children; tasks not begun are dropped."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
