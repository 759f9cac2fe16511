"""A file is taken once it was left alone; the originals stay; no link leads out; a restart takes nothing twice."""

from __future__ import annotations

import contextlib
import os
import threading

import pytest

from fedimg.errors import ConfigError
from sites.watch.folder import FolderSettings, FolderSource
from sites.watch.spool import SpoolLimits
from tests.watch.arriving import PLANTED, STUDY, Told, files_of, instance, spooled, wait_for


class Ticks:
    """A clock that stands still until it is told."""

    now = 100.0

    def __call__(self):
        return self.now


@contextlib.contextmanager
def watching(spool, folder, **options):
    """A source that is asked to look; its clock is `.ticks`, what it told `.told`."""
    folder.mkdir(exist_ok=True)
    ticks, told = Ticks(), Told()
    settings = FolderSettings(folder, quiet_s=2.0, **options)
    source = FolderSource(settings, spool, told.received.append, told.released.append, ticks)
    source.ticks, source.told = ticks, told
    yield source
    source._memory.close()


def look(source, seconds):
    source.ticks.now += seconds
    return source.sweep()


def test_a_file_is_taken_when_it_was_quiet_and_stays_where_it_is(tmp_path):
    inside = tmp_path / "in"
    with spooled(tmp_path) as spool, watching(spool, inside) as source:
        (inside / "a" / "b").mkdir(parents=True)
        path = inside / "a" / "b" / "one.dcm"
        path.write_bytes(instance()[:500])
        assert look(source, 0) == 0 and look(source, 1.9) == 0
        path.write_bytes(instance())  # it grew: the time begins again
        assert look(source, 0.2) == 0 and look(source, 1.9) == 0
        assert look(source, 0.2) == 1
        assert path.read_bytes() == instance()
        assert [one.arrival.number for one in source.told.received] == [1]
        assert source.told.received[0].source == "folder"
        assert look(source, 10) == 0 and len(source.told.received) == 1
        assert spool.counts.read() == {"received": 1}


def test_studies_are_released_once_the_folder_is_quiet(tmp_path):
    inside = tmp_path / "in"
    with spooled(tmp_path) as spool, watching(spool, inside) as source:
        (inside / "1.dcm").write_bytes(instance(1))
        (inside / "2.dcm").write_bytes(instance(2, StudyInstanceUID="1.2.3"))
        look(source, 0)
        look(source, 1)
        (inside / "3.dcm").write_bytes(instance(3))
        look(source, 0.5)
        assert look(source, 0.6) == 2 and source.told.released == []  # one is still waited for
        assert look(source, 1.5) == 1
        assert source.told.released == [frozenset({STUDY, "1.2.3"})]
        look(source, 5)
        assert len(source.told.released) == 1


def test_no_link_is_followed(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    outside.mkdir()
    (outside / "one.dcm").write_bytes(instance())
    with spooled(tmp_path) as spool, watching(spool, inside) as source:
        (inside / "one.dcm").symlink_to(outside / "one.dcm")
        (inside / "folder").symlink_to(outside)
        (inside / "up").symlink_to(inside)
        os.mkfifo(inside / "pipe.dcm")
        for _ in range(3):
            look(source, 5)
        assert source.told.received == []
        assert spool.counts.read() == {"refused.link": 2}


def test_a_link_that_takes_a_files_place_is_not_followed(tmp_path):
    inside = tmp_path / "in"
    (tmp_path / "secret.dcm").write_bytes(instance())
    with spooled(tmp_path) as spool, watching(spool, inside) as source:
        (inside / "one.dcm").write_bytes(instance())
        look(source, 0)
        source.ticks.now += 5
        listed = source._files()

        def exchanged():
            for seen, folder in listed:
                (inside / "one.dcm").unlink()
                (inside / "one.dcm").symlink_to(tmp_path / "secret.dcm")
                yield seen, folder

        source._files = exchanged
        assert source.sweep() == 0 and source.told.received == []
        assert spool.counts.read() == {"not_readable": 1}


def test_what_is_refused_is_refused_once_and_again_when_it_changes(tmp_path):
    inside = tmp_path / "in"
    with spooled(tmp_path, file_bytes=10_000) as spool, watching(spool, inside) as source:
        (inside / "letter.dcm").write_text(PLANTED[0] * 20)
        (inside / "large.dcm").write_bytes(bytes(10_001))
        (inside / ".hidden.dcm").write_bytes(instance(5))
        look(source, 0)
        assert look(source, 3) == 2 and look(source, 3) == 0
        assert spool.counts.read() == {"refused.not_an_image": 1, "refused.unsafe_structure": 1}
        (inside / "letter.dcm").write_bytes(instance())
        look(source, 0)
        assert look(source, 3) == 1 and len(source.told.received) == 1


def test_what_was_taken_is_remembered_over_a_restart_without_names(tmp_path):
    inside = tmp_path / "in"
    with spooled(tmp_path) as spool, watching(spool, inside) as source:
        (inside / f"{PLANTED[0]}.dcm").write_bytes(instance())
        (inside / "bad.dcm").write_bytes(b"x" * 99)
        look(source, 0)
        assert look(source, 3) == 2
        for path in files_of(spool):
            assert PLANTED[0] not in path.name
        stored = (spool.root / "folder.sqlite").read_bytes()
        assert PLANTED[0].encode() not in stored and STUDY.encode() not in stored
        assert (spool.root / "folder.sqlite").stat().st_mode & 0o777 == 0o600
    with spooled(tmp_path) as spool, watching(spool, inside) as source:
        look(source, 0)
        assert look(source, 3) == 0 and source.told.received == []
        assert spool.counts.read() == {}


def test_a_full_disk_is_waited_for(tmp_path, monkeypatch):
    inside = tmp_path / "in"
    with spooled(tmp_path) as spool, watching(spool, inside) as source:
        for number in range(3):
            (inside / f"{number}.dcm").write_bytes(instance(number))
        look(source, 0)
        with monkeypatch.context() as patch:
            patch.setattr(spool, "limits", SpoolLimits(keep_free_bytes=1 << 60))
            assert look(source, 3) == 0 and look(source, 3) == 0
            assert source.told.released == []
        assert look(source, 0.1) == 3
        assert len(source.told.received) == 3


def test_files_are_moved_where_that_is_asked_for_and_never_over_others(tmp_path):
    inside, done = tmp_path / "in", tmp_path / "done"
    with spooled(tmp_path) as spool, watching(spool, inside, move_to=done) as source:
        (inside / "a").mkdir()
        for data in (instance(1), instance(2)):
            (inside / "a" / "one.dcm").write_bytes(data)
            look(source, 0)
            assert look(source, 3) == 1
        (inside / "bad.dcm").write_bytes(b"x" * 99)
        look(source, 0)
        look(source, 3)
        assert (done / "a" / "one.dcm").read_bytes() == instance(1)
        assert (done / "a" / "one.dcm.1").read_bytes() == instance(2)
        assert not (inside / "a" / "one.dcm").exists()
        assert (inside / "bad.dcm").exists()
    with pytest.raises(ConfigError, match="outside of the watched one"):
        FolderSettings(inside, move_to=inside / "done")


def test_a_deep_tree_is_not_followed_to_its_end(tmp_path):
    inside = tmp_path / "in"
    deep = inside
    for _ in range(60):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "one.dcm").write_bytes(instance())
    with spooled(tmp_path) as spool, watching(spool, inside) as source:
        look(source, 0)
        assert look(source, 3) == 0


def test_it_watches_by_itself(tmp_path):
    inside = tmp_path / "in"
    inside.mkdir()
    told, released = Told(), threading.Event()
    with spooled(tmp_path) as spool:
        settings = FolderSettings(inside, quiet_s=0.1, poll_s=0.02)
        with FolderSource(settings, spool, told.received.append, lambda _: released.set()):
            (inside / "one.dcm").write_bytes(instance())
            assert released.wait(20) and len(told.received) == 1
            moved = tmp_path / "away"
            inside.rename(moved)  # a share that is gone for a while
            wait_for(lambda: spool.counts.read().get("folder_away"), "the notice")
            moved.rename(inside)
            (inside / "two.dcm").write_bytes(instance(2))
            wait_for(lambda: len(told.received) == 2, "the second one")


def test_a_folder_that_is_none_is_told(tmp_path):
    with spooled(tmp_path) as spool, pytest.raises(ConfigError, match="a folder to watch"):
        FolderSource(FolderSettings(tmp_path / "none"), spool, print, print).__enter__()
