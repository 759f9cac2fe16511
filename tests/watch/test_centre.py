"""From images to jobs to alerts: no file is lost on the way, a model always speaks, a wrong patient is never named."""

from __future__ import annotations

import errno
import sqlite3
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from loopback_watch import wait_for

from fedimg.monitoring.assembly import AssemblyConfig, Completeness
from fedimg.monitoring.pushing import RateLimit
from sites.watch.alerting import Alerting
from sites.watch.centre import Centre
from sites.watch.drifting import Drifting
from sites.watch.naming import Names
from sites.watch.room import written
from sites.watch.spool import Received
from tests.watch.told_plainly import FIRST, SECOND, TARGETS, WORDS, SaidPlainly, outbox


@pytest.fixture
def centre(store, tmp_path):
    for name in ("studies", "results", "incoming"):
        (tmp_path / name).mkdir()
    store.models.add(FIRST, "test", 0.0)
    alerting = Alerting(store, TARGETS, (), RateLimit(), SaidPlainly(), lambda: None)
    return Centre(
        tmp_path,
        store,
        Names(tmp_path),
        {FIRST.digest: WORDS},
        alerting,
        Drifting(store.database, 50, None),
        AssemblyConfig(),
        lambda path: path.unlink(missing_ok=True),
        lambda: None,
    )


@pytest.fixture
def arrive(centre, arrival):
    """Images as a source hands them over, and the study found whole."""

    def arrived(*numbers, **said):
        events = []
        for number in numbers:
            one = arrival(number, **said)
            path = centre.root / "incoming" / f"{one.sha256[:16]}.dcm"
            path.write_bytes(b"dicom")
            events.append(Received(path, one, "scp", time.time()))
        centre._take(events)
        study = centre.names.study(events[0].arrival.study_uid)
        centre._complete(study, Completeness.COMPLETE)
        return study

    return arrived


def answer(score=0.9, called=True):
    found = {
        "finding": "nodule",
        "code": {"value": "27925004", "scheme": "SCT", "meaning": "Nodule"},
        "score": score,
        "where": "left",
        "size_mm": None,
    }
    said = {"model_name": "nodule", "model_version": "1.0.0", "kind": "tumour", "threshold": 0.5}
    said |= {"score": score, "called": called, "found": [found] if called else [], "seconds": 0.1}
    return {"prediction": said | {"measures": {}, "embedding": []}, "outputs": {}}


def test_a_row_is_never_there_before_its_file_nor_a_file_lost_with_a_commit(centre, arrive, store, arrival):
    study = arrive(1, 2)
    files = [path for _, path, _ in store.studies.arrivals(study)]
    assert len(files) == 2
    assert all(path.exists() for path in files)
    assert list((centre.root / "incoming").iterdir()) == []

    one = arrival(3)
    path = centre.root / "incoming" / f"{one.sha256[:16]}.dcm"
    path.write_bytes(b"dicom")

    def cut_off(study, said, after, *_):
        assert after.exists(), "whoever sees the row reads the file"
        raise OSError

    whole, store.studies.received = store.studies.received, cut_off
    with pytest.raises(OSError):
        centre._take([Received(path, one, "scp", 1.0)])
    assert path.exists(), "it is taken again after the restart"
    store.studies.received = whole
    centre._take([Received(path, one, "restart", 1.0)])
    assert store.database.row("SELECT images FROM study")["images"] == 3
    assert not path.exists()


def test_later_images_without_the_finding_take_the_alert_back(centre, arrive, store):
    arrive(1, 2)
    centre.done(centre.claim(), answer())
    arrive(3)
    centre.done(centre.claim(), answer(0.1, called=False))
    assert store.database.row("SELECT state FROM alert")["state"] == "superseded"
    assert store.database.row("SELECT priority FROM study")["priority"] == 1


def test_while_the_new_model_is_not_loaded_the_former_speaks(centre, arrive, store):
    store.models.add(SECOND, "operator", 1.0)
    store.models.set_role(SECOND.digest, "active", "operator", 2.0)
    arrive(1, 2)
    job = centre.claim()
    assert (job.model, job.shadow) == (FIRST.digest, False)
    centre.done(job, answer())
    assert ("pager", "raised") in outbox(store)
    centre.models[SECOND.digest] = WORDS
    arrive(3)
    jobs = [centre.claim(), centre.claim()]
    assert {(job.model, job.shadow) for job in jobs} == {(FIRST.digest, True), (SECOND.digest, False)}


def test_a_model_that_was_retired_meanwhile_ends_no_thread(centre, arrive, store, monkeypatch):
    arrive(1, 2)
    job = centre.claim()
    centre.models.clear()
    moved = SimpleNamespace(model=FIRST.digest, studies=250, moved=(), persists=True)
    moved.moved = (SimpleNamespace(stream="image.mean", p=0.0, shift=1.0),)
    monkeypatch.setattr(centre.drifting, "observed", lambda *_: moved)
    centre.done(job, answer())
    assert ("pager", "drift") in outbox(store)


def test_images_of_another_patient_under_the_same_study_are_not_looked_at(centre, arrive, store):
    study = arrive(1, 2)
    centre.done(centre.claim(), answer(0.1, called=False))
    arrive(1, 2, series="1.2.3.9", patient_id="ANOTHER")
    assert centre.claim() is None
    row = store.database.row("SELECT reason FROM routing WHERE series = '1.2.3.9'")
    assert row["reason"] == "images of another patient than the study's first ones"
    assert store.database.row("SELECT state FROM study WHERE key = ?", (study,))["state"] == "analysed"
    arrive(3, series="1.2.3.9", patient_id="")
    assert centre.claim() is None


def test_what_comes_back_in_part_after_its_files_were_removed_takes_no_alert_back(centre, arrive, store):
    study = arrive(1, 2, 3)
    centre.done(centre.claim(), answer())
    assert store.studies.remove_files(time.time() + 1) == 3
    assert list((centre.root / "studies" / study).iterdir()) == []
    arrive(1, 2)
    assert centre.claim() is None
    arrive(3)
    assert centre.claim() is None, "the very images that it was looked at with"
    arrive(4)
    assert len(centre.claim().files) == 4
    assert store.database.row("SELECT state FROM alert")["state"] == "raised"


def test_a_study_of_many_images_takes_time_in_proportion(centre, store, arrival):
    def seconds(count, study):
        begun = time.process_time()
        with store.database.change():
            for number in range(count):
                store.studies.received(
                    study, arrival(number, study=f"1.{count}"), Path(f"/f/{number}"), "scp", 1.0
                )
        return time.process_time() - begun

    seconds(200, "aa" * 16)
    assert seconds(8000, "bb" * 16) < 3 * 16 * seconds(500, "cc" * 16)


def full_store():
    fault = sqlite3.OperationalError("database or disk is full")
    fault.sqlite_errorcode = sqlite3.SQLITE_FULL
    return fault


@pytest.mark.parametrize("fault", [full_store(), OSError(errno.ENOSPC, "no room")], ids=["store", "disk"])
def test_a_full_disk_holds_up_and_loses_nothing(centre, store, arrival, monkeypatch, fault):
    told, left, whole = [], [2], store.studies.received

    def received(*said):
        if left[0]:
            left[0] -= 1
            raise fault
        return whole(*said)

    monkeypatch.setattr("sites.watch.room._AGAIN_S", 0.01)
    monkeypatch.setattr(store.studies, "received", received)
    centre.held_up = told.append
    one = arrival(1)
    path = centre.root / "incoming" / f"{one.sha256[:16]}.dcm"
    path.write_bytes(b"dicom")
    centre.received(Received(path, one, "scp", time.time()))
    ending = threading.Event()
    ending.set()
    assert not written(lambda: centre._take([Received(path, one, "scp", 1.0)]), ending, told.append)
    assert path.exists(), "a start finds it again"
    ending.clear()
    thread = threading.Thread(target=centre.run, args=(ending,))
    thread.start()
    wait_for(lambda: bool(store.database.rows("SELECT 1 FROM study")), 10, "the study")
    ending.set()
    thread.join()
    assert told == ["no room on the disk"] * 2 + [""]
    assert store.database.row("SELECT images FROM study")["images"] == 1
    assert not path.exists()


def test_another_fault_than_no_room_is_not_waited_for():
    def broken():
        raise OSError(errno.EIO, "the disk is broken")

    with pytest.raises(OSError, match="broken"):
        written(broken, threading.Event(), lambda _: None)
