"""The pool's threads outlive whatever a job, the store or the disk does to them, and no job stays 'running' for it."""

from __future__ import annotations

import io
import queue
import signal
import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from loopback_watch import wait_for

from sites.watch import working
from sites.watch.store.jobs import Job, Owed
from sites.watch.worker_process import Models, Worker
from sites.watch.working import Pool


class FakeWorker:
    """Answers as the jobs ask for in `says`; a job that nothing is said of hangs until it is ended."""

    says: ClassVar[dict[int, dict]] = {}

    def __init__(self, models):
        self.ended = threading.Event()

    def ask(self, question, patience_s, give_way=None):
        said = self.says.get(question["job"])
        if "owed" in question and give_way is not None:
            wait_for(lambda: give_way() or self.ended.is_set(), 10, "somebody who waits")
            said = {"gave_way": True}
        if said is None:
            self.ended.wait(patience_s)
            return None
        return {"job": question["job"]} | said

    def end(self):
        self.ended.set()


class Work:
    """Jobs by number; `faults` are raised in turn by what is called."""

    def __init__(self, *jobs, **faults):
        self.jobs, self.faults = queue.SimpleQueue(), {name: list(own) for name, own in faults.items()}
        self.heard = []
        for number in jobs:
            self.jobs.put(Job(number, "ab" * 16, "m", "1.2", "i", (Path("/f"),), False, 1))

    def _raise(self, name):
        if own := self.faults.get(name):
            raise own.pop(0)

    def claim(self):
        self._raise("claim")
        return None if self.jobs.empty() else self.jobs.get()

    def urgent(self):
        self._raise("urgent")
        return not self.jobs.empty()

    def folder(self, job):
        return Path("/out")

    def done(self, job, answer):
        self._raise("done")
        self.heard.append(("done", job.id))

    def refused(self, job, reason):
        self.heard.append(("refused", job.id))

    def crashed(self, job, reason, *, for_good=False):
        self._raise("crashed")
        self.heard.append(("crashed", job.id, reason) if not for_good else ("failed", job.id, reason))

    def put_back(self, job):
        self.heard.append(("put back", job.id))


@pytest.fixture
def pool(monkeypatch):
    monkeypatch.setattr(working, "Worker", FakeWorker)
    monkeypatch.setattr(working, "_AGAIN_S", 0.01)
    monkeypatch.setattr(working, "_NO_ROOM_S", 0.01)
    monkeypatch.setattr(FakeWorker, "says", {number: {"prediction": {}} for number in range(1, 9)})
    made = []

    def make(work, count=1):
        made.append(Pool(work, Models((), ()), count, 60.0, lambda *_, **__: None))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.end()


def heard(work, count):
    wait_for(lambda: len(work.heard) >= count, 10, f"{count} jobs")
    return work.heard


def locked():
    return sqlite3.OperationalError("database is locked")


def test_a_store_that_is_locked_or_full_loses_no_result(pool):
    work = Work(1, 2, claim=[locked()], done=[locked(), sqlite3.OperationalError("database or disk is full")])
    pool(work)
    assert heard(work, 2) == [("done", 1), ("done", 2)]


def test_a_result_that_the_store_cannot_take_is_a_crash_of_that_job_alone(pool):
    work = Work(1, 2, done=[KeyError("PLANTED^NAME")], crashed=[locked()])
    pool(work)
    assert heard(work, 2) == [("crashed", 1, "a result that raises KeyError"), ("done", 2)]


def test_a_job_without_room_for_its_results_loses_no_attempt(pool):
    FakeWorker.says[1] = {"no_room": True}
    work = Work(1, 2)
    pool(work)
    assert heard(work, 2) == [("put back", 1), ("done", 2)]


def test_a_picture_is_left_where_a_study_waits(pool):
    work = Work(urgent=[locked()])
    picture = Job(9, "ab" * 16, "m", "1.2", "i", (Path("/f"),), False, 1, Owed(3, "x", {"score": 0.9}))
    work.jobs.put(picture)
    one = pool(work)
    wait_for(lambda: one.states()[0][0] == "making a picture", 10, "the picture")
    assert work.heard == []
    work.jobs.put(replace(picture, id=1, owed=None))
    assert heard(work, 2) == [("put back", 9), ("done", 1)]
    wait_for(lambda: one.states()[0][1] == 1, 10, "the count of studies, of which a picture is none")


def test_a_picture_goes_on_where_another_worker_has_nothing_to_do(pool):
    work = Work()
    one = pool(work, count=2)
    wait_for(lambda: [state for state, _, _ in one.states()] == ["waiting"] * 2, 10, "both")
    work.jobs.put(Job(9, "ab" * 16, "m", "1.2", "i", (), False, 1, Owed(3, "x", {})))
    one.wake()
    wait_for(lambda: "making a picture" in [state for state, _, _ in one.states()], 10, "the picture")
    work.jobs.put(Job(1, "cd" * 16, "m", "1.2", "i", (), False, 1))
    one.wake()
    assert heard(work, 1) == [("done", 1)]


def test_what_is_no_finite_number_fails_at_once_and_is_told(pool):
    FakeWorker.says[1] = {"not_finite": True}
    work = Work(1, 2)
    pool(work)
    assert heard(work, 2) == [("failed", 1, "a score or measure that is no finite number"), ("done", 2)]


def test_a_worker_that_makes_a_picture_is_told_once_that_somebody_waits():
    told = []
    worker = Worker.__new__(Worker)
    worker._lines = queue.SimpleQueue()

    def signalled(number):
        told.append(number)
        worker._lines.put('{"job": 1, "gave_way": true}')

    worker._process = SimpleNamespace(stdin=io.StringIO(), send_signal=signalled)
    assert worker.ask({"job": 1}, 5.0, lambda: True) == {"job": 1, "gave_way": True}
    assert told == [signal.SIGUSR1]
    assert worker.ask({"job": 1}, 0.3, lambda: False) is None, "its time is limited all the same"


def test_it_ends_at_once_while_a_job_is_looked_at(pool):
    del FakeWorker.says[1]
    work = Work(1)
    one = pool(work)
    wait_for(lambda: one.states()[0][0] == "looking", 10, "the job")
    begun = time.monotonic()
    one.end()
    assert time.monotonic() - begun < 5
    assert work.heard == [], "it is queued again at the next start"


def test_many_threads_take_the_first_worker_once(pool):
    work = Work(*range(1, 9))
    pool(work, count=4)
    assert sorted(heard(work, 8)) == [("done", number) for number in range(1, 9)]


def test_an_answer_that_a_kill_has_cut_off_is_none():
    worker = Worker.__new__(Worker)
    worker._process, worker._lines = SimpleNamespace(stdin=io.StringIO()), queue.SimpleQueue()
    worker._lines.put('{"job": 1, "predic')
    assert worker.ask({"job": 1}, 1.0) is None
    worker._lines.put('{"job": 1, "refused": "why"}')
    assert worker.ask({"job": 1}, 1.0) == {"job": 1, "refused": "why"}
