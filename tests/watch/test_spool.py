"""Durable before it is acknowledged; refused and counted else; and a folder that says nothing of a patient."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.dicom.refusal import Quarantined
from fedimg.errors import DataError
from sites.watch import spool as module
from sites.watch.spool import Full, OfAnotherStudy, Spool
from tests.watch.arriving import PLANTED, files_of, instance, spooled, uid_of


def kept(spool):
    return sorted((spool.root / "incoming").iterdir())


def test_an_instance_is_kept_as_it_came(tmp_path):
    with spooled(tmp_path) as spool:
        received = spool.take(instance(), "test")
        assert received.path.read_bytes() == instance()
        assert (received.source, received.repeat, received.further) == ("test", False, False)
        assert received.arrival.sop_uid == uid_of(1)
        assert kept(spool) == [received.path] and spool.counts.read() == {"received": 1}


def test_folders_and_files_are_ours_alone_and_their_names_say_nothing(tmp_path):
    with spooled(tmp_path) as spool:
        for number in range(3):
            spool.take(instance(number), "test")
        draft = spool.draft()
        draft.write(instance())
        for path in [spool.root, *spool.root.rglob("*")]:
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)
            assert not any(word.lower() in str(path).lower() for word in (*PLANTED, "1.2.826"))
            assert uid_of(1).encode().hex() not in path.name
        draft.discard()
        names = {path.name for path in kept(spool)}
    with spooled(tmp_path / "elsewhere") as other:  # another key, other names
        assert names.isdisjoint(other.take(instance(number), "test").path.name for number in range(3))


def test_while_it_is_held_nothing_is_taken(tmp_path):
    with spooled(tmp_path) as spool:
        spool.held = "no room on the disk"
        with pytest.raises(Full, match="no room on the disk"):
            spool.take(instance(), "test")
        assert kept(spool) == [] and spool.counts.read() == {"full": 1}
        spool.held = ""
        assert spool.take(instance(), "test").path.exists()


def test_a_repeat_is_told_and_other_bytes_of_the_same_instance_are_kept_as_well(tmp_path):
    with spooled(tmp_path) as spool:
        first = spool.take(instance(), "test")
        again = spool.take(instance(), "test")
        other = spool.take(instance(StudyDescription="another"), "test")
        assert (again.repeat, again.path) == (True, first.path)
        assert (other.repeat, other.further) == (False, True) and len(kept(spool)) == 2
        assert spool.counts.read() == {"received": 2, "repeated": 1, "further": 1}
    with spooled(tmp_path) as spool:  # and after a restart
        assert spool.take(instance(), "test").repeat
        assert spool.take(instance(StudyDescription="a third"), "test").further
        for path in kept(spool):
            spool.drop(path)
        fresh = spool.take(instance(), "test")
        assert not fresh.repeat and not fresh.further


def test_a_file_is_copied_and_left_alone_and_a_link_is_not_followed(tmp_path):
    (tmp_path / "one.dcm").write_bytes(instance())
    (tmp_path / "link.dcm").symlink_to(tmp_path / "one.dcm")
    os.mkfifo(tmp_path / "pipe.dcm")
    with spooled(tmp_path) as spool:
        spool.take(tmp_path / "one.dcm", "test")
        for name in ("link.dcm", "pipe.dcm", "none.dcm"):
            with pytest.raises(Quarantined):
                spool.take(tmp_path / name, "test")
        assert (tmp_path / "one.dcm").read_bytes() == instance() and len(kept(spool)) == 1
        assert spool.counts.refused() == 3


def test_what_is_refused_is_counted_by_reason_and_leaves_nothing(tmp_path):
    with spooled(tmp_path, file_bytes=100_000) as spool:
        for data in (b"x" * 500, instance()[:-1], instance(SOPInstanceUID="../../x"), bytes(100_001)):
            with pytest.raises(Quarantined):
                spool.take(data, "test")
        with pytest.raises(OfAnotherStudy) as caught:
            spool.take(instance(), "test", study="1.2.3")
        assert caught.value.arrival.sop_uid == uid_of(1)
        assert spool.counts.read() == {
            "refused.not_an_image": 1,
            "refused.unreadable": 1,
            "refused.unsafe_structure": 2,
            "refused.object_type": 1,
        }
        assert not kept(spool) and not list((spool.root / "drafts").iterdir())


def test_the_limit_holds_while_a_draft_grows(tmp_path):
    with spooled(tmp_path, file_bytes=1000) as spool:
        draft = spool.draft()
        draft.write(bytes(1000))
        with pytest.raises(Quarantined):
            draft.write(b"x")
        assert not draft.path.exists()


def test_below_the_watermark_nothing_is_taken(tmp_path):
    with spooled(tmp_path, keep_free_bytes=1 << 60) as spool:
        with pytest.raises(Full) as caught:
            spool.take(instance(), "test")
        assert caught.value.expected == "room on the spool's disk"
        assert spool.counts.read() == {"full": 1} and not kept(spool)


def test_the_watermark_holds_while_a_draft_grows(tmp_path, monkeypatch):
    with spooled(tmp_path) as spool:
        draft = spool.draft()
        draft.write(bytes(module._LOOK_EVERY - 1))
        monkeypatch.setattr(spool, "limits", module.SpoolLimits(keep_free_bytes=1 << 60))
        with pytest.raises(Full):
            draft.write(b"x")
        assert not draft.path.exists()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fails_is_full_and_nothing_is_acknowledged(tmp_path, monkeypatch, call):
    def failing(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with spooled(tmp_path) as spool:
        with monkeypatch.context() as patch:
            patch.setattr(module.os if call == "fsync" else module.Path, call, failing)
            with pytest.raises(Full, match="No space left on device"):
                spool.take(instance(), "test")
        assert not kept(spool) and not list((spool.root / "drafts").iterdir())
        assert spool.counts.read() == {"full": 1}
        spool.take(instance(), "test")


def test_bytes_then_name_then_folder_are_on_the_disk_in_this_order(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, module.Path.replace

    def noted_fsync(handle):
        done.append(f"fsync {Path(f'/proc/self/fd/{handle}').readlink().name.split('.')[-1]}")
        fsync(handle)

    def noted_replace(path, target):
        done.append("rename")
        return replace(path, target)

    with spooled(tmp_path) as spool:
        monkeypatch.setattr(os, "fsync", noted_fsync)
        monkeypatch.setattr(module.Path, "replace", noted_replace)
        spool.take(instance(), "test")
        assert done == ["fsync part", "rename", "fsync incoming"]
        done.clear()
        spool.take(instance(), "test")  # who brought it first may not be through
        assert done[-1] == "fsync incoming"


def test_what_was_acknowledged_is_found_again_after_a_restart(tmp_path):
    with spooled(tmp_path) as spool:
        before = [spool.take(instance(number), "test") for number in range(4)]
        (spool.root / "drafts" / "0.part").write_bytes(instance(9)[:99])  # what a kill leaves
    with spooled(tmp_path) as spool:
        assert not list((spool.root / "drafts").iterdir())
        again = list(spool.waiting())
        assert {one.path for one in again} == {one.path for one in before}
        assert {one.arrival for one in again} == {one.arrival for one in before}
        assert {one.source for one in again} == {"restart"}


def test_what_does_not_read_any_more_is_put_aside_and_counted(tmp_path):
    with spooled(tmp_path) as spool:
        cut, changed, whole = (spool.take(instance(number), "test").path for number in range(3))
        cut.write_bytes(cut.read_bytes()[:-9])
        changed.write_bytes(instance(7))
    with spooled(tmp_path) as spool:
        assert [one.path for one in spool.waiting()] == [whole]
        assert spool.counts.read() == {"damaged": 2}
        assert len(list((spool.root / "damaged").iterdir())) == 2
        assert not spool.take(instance(0), "test").repeat


def test_one_process_has_it_and_its_key_is_private(tmp_path):
    with spooled(tmp_path) as spool, pytest.raises(DataError, match="one process that writes"):
        Spool(spool.root)
    (tmp_path / "spool" / "spool.key").chmod(0o644)
    with pytest.raises(DataError, match="mode 0600"):
        Spool(tmp_path / "spool")


KILLED = """
import sys
from pathlib import Path
from tests.watch.arriving import instance
from sites.watch.spool import Spool, SpoolLimits
with Spool(Path(sys.argv[1]), SpoolLimits(keep_free_bytes=0)) as spool:
    for number in range(100000):
        spool.take(instance(number), "test")
        print(number, flush=True)
"""


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "spool")], stdout=subprocess.PIPE, text=True
    )
    acknowledged = [int(process.stdout.readline()) for _ in range(25)]
    process.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    with spooled(tmp_path) as spool:
        found = {one.arrival.number for one in spool.waiting()}
        assert set(acknowledged) <= found <= {*acknowledged, len(acknowledged)}
        assert spool.counts.read() == {}


def test_many_threads_bring_many_instances_and_some_twice(tmp_path):
    failures = []

    def bring(spool, numbers):
        try:
            for number in numbers:
                spool.take(instance(number), "test")
        except Exception as failure:  # noqa: BLE001
            failures.append(failure)

    with spooled(tmp_path) as spool:
        threads = [
            threading.Thread(target=bring, args=(spool, range(k // 2 * 10, k // 2 * 10 + 10)))
            for k in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures and len(kept(spool)) == 40
        assert spool.counts.read() == {"received": 40, "repeated": 40}


@given(st.binary(max_size=400), st.integers(0, 400))
def test_nothing_is_written_beside_the_spool(tmp_path_factory, noise, at):
    folder = tmp_path_factory.mktemp("any")
    data = instance()
    with spooled(folder) as spool:
        for brought in (noise, data[:at] + noise + data[at:]):
            with contextlib.suppress(Quarantined):
                spool.take(brought, "test")
        assert [path.name for path in folder.iterdir()] == ["spool"]
        assert len(files_of(spool)) == 2 + len(kept(spool))
