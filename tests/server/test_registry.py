"""The registry of runs: stages as they are said, by several processes at once, whatever is killed."""

import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from fedimg.errors import DataError
from server.registry import ACTIVE, FILE, Registry, Stage


@pytest.fixture
def registry(tmp_path):
    found = Registry(tmp_path)
    yield found
    found.close()


def test_runs_are_done_in_the_order_in_which_they_were_asked_for(registry):
    for name in ("b", "a", "c"):
        registry.add(name, 5)
    assert registry.next().run == "b"
    registry.move("b", Stage.FINISHED, "", 5)
    registry.move("c", Stage.RUNNING, "", 2)  # under way when the server ended: before those that wait
    assert registry.next().run == "c"
    registry.move("c", Stage.FAILED, "why")
    assert registry.next().run == "a"
    assert [(one.run, one.stage, one.round) for one in registry.all()] == [
        ("b", Stage.FINISHED, 5),
        ("a", Stage.QUEUED, 0),
        ("c", Stage.FAILED, 2),
    ]


@pytest.mark.parametrize("stage", [stage for stage in ACTIVE if stage is not Stage.CLOSING])
def test_a_run_that_is_under_way_is_asked_to_stop_and_resumed_once_it_has(registry, stage):
    registry.add("a", 5)
    registry.move("a", stage, "some", 1)
    assert registry.ask_to_stop("a").stage is stage
    assert registry.is_asked_to_stop("a")
    with pytest.raises(DataError, match="stopped or has failed"):
        registry.resume("a")
    registry.move("a", Stage.STOPPED, "asked to")
    with pytest.raises(DataError, match="queued or under way"):
        registry.ask_to_stop("a")
    found = registry.resume("a")
    assert (found.stage, found.reason, found.round) == (Stage.QUEUED, "", 1)
    assert not registry.is_asked_to_stop("a")


def test_a_queued_run_is_stopped_at_once(registry):
    registry.add("a", 5)
    assert registry.ask_to_stop("a").stage is Stage.STOPPED
    assert registry.next() is None


def test_a_run_that_is_closing_ends_by_itself(registry):
    registry.add("a", 5)
    registry.move("a", Stage.CLOSING)
    with pytest.raises(DataError, match="it ends by itself"):
        registry.ask_to_stop("a")
    assert not registry.is_asked_to_stop("a")


def test_a_run_that_was_stopped_a_moment_ago_is_not_begun(registry):
    registry.add("a", 5)
    taken = registry.next()
    registry.ask_to_stop("a")
    assert not registry.begin(taken.run)
    assert registry.entry("a").stage is Stage.STOPPED
    registry.resume("a")
    assert registry.begin("a")
    assert registry.entry("a").stage is Stage.GATHERING
    registry.ask_to_stop("a")
    assert registry.is_asked_to_stop("a")
    registry.move("a", Stage.FINISHED)  # its end came first
    assert not registry.is_asked_to_stop("a")


def test_ends_that_are_owed_are_kept_until_they_are_told(registry):
    registry.add("a", 5)
    registry.owe("a", ("north", "south"))
    registry.owe("a", ("south", "east"))
    assert registry.owed() == ()  # while it may be resumed nobody is told of an end
    registry.move("a", Stage.FINISHED)
    registry.settle("a", "south")
    assert registry.owed() == (("a", "east"), ("a", "north"))


def test_a_run_that_nobody_resumes_is_ended_at_its_sites(registry):
    registry.add("a", 5)
    registry.move("a", Stage.RUNNING)
    with pytest.raises(DataError, match="stop it first"):
        registry.abandon("a", ("north",))
    registry.move("a", Stage.STOPPED)
    assert registry.abandon("a", ("north", "south")).stage is Stage.ABANDONED
    assert registry.owed() == (("a", "north"), ("a", "south"))
    with pytest.raises(DataError, match="one that is abandoned"):
        registry.resume("a")


def test_a_run_without_a_row_is_taken_up_from_its_folder(registry):
    assert registry.adopt("a", 5).stage is Stage.STOPPED
    registry.move("a", Stage.FINISHED)
    assert registry.adopt("a", 5).stage is Stage.FINISHED  # what is known stands


def test_a_locked_registry_is_told_from_a_broken_one(tmp_path, monkeypatch):
    Registry(tmp_path).close()

    def locked(*_arguments, **_options):
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr("server.registry.sqlite3.connect", locked)
    with pytest.raises(DataError, match="change nothing by hand"):
        Registry(tmp_path)


def test_a_name_that_is_none_and_one_that_is_there_already(registry):
    with pytest.raises(DataError, match="a run of this federation"):
        registry.entry("x")
    registry.add("a", 5)
    with pytest.raises(sqlite3.IntegrityError):
        registry.add("a", 5)
    registry.add("b", 5)  # the failed change left nothing open


def test_a_file_that_is_no_registry_is_told(tmp_path):
    (tmp_path / FILE).write_bytes(b"not a database at all" * 100)
    with pytest.raises(DataError, match="a registry of runs"):
        Registry(tmp_path)


def test_only_its_owner_may_read_it(tmp_path):
    Registry(tmp_path).add("a", 5)
    assert {path.stat().st_mode & 0o077 for path in tmp_path.glob(f"{FILE}*")} == {0}


def test_several_connections_write_and_none_is_lost(tmp_path):
    Registry(tmp_path).close()

    def add(part):
        own = Registry(tmp_path)
        for number in range(20):
            own.add(f"{part}-{number}", 5)
        own.close()

    threads = [threading.Thread(target=add, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    registry = Registry(tmp_path)
    assert len(registry.all()) == 80
    registry.close()


def test_a_writer_that_is_killed_leaves_what_it_had_finished(tmp_path):
    """Each run that the child has told of is there afterwards, whole, and the next process goes on."""
    program = (
        "import sys; from pathlib import Path; from server.registry import Registry, Stage\n"
        "registry = Registry(Path(sys.argv[1]))\n"
        "for number in range(100000):\n"
        "    registry.add(f'r{number}', 5); registry.move(f'r{number}', Stage.RUNNING, 'x', number)\n"
        "    print(number, flush=True)\n"
    )
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True
        )
        child.stdout.readline()
        time.sleep(0.1 * attempt)
        child.send_signal(signal.SIGKILL)
        told = [line.strip() for line in child.stdout if line.endswith("\n")]
        child.wait()
        child.stdout.close()
        registry = Registry(folder)
        found = {entry.run: entry for entry in registry.all()}
        assert all(found[f"r{number}"].round == int(number) for number in told)
        registry.add("after", 5)
        registry.close()
