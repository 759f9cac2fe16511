"""What is in the store is whole, and what must never happen is refused by the file itself."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedimg.errors import DataError
from fedimg.monitoring.assembly import Completeness, gap_free
from sites.watch.store import audit, schema
from sites.watch.store.alerts import Outgoing
from sites.watch.store.database import Database
from sites.watch.store.jobs import MOST_ATTEMPTS, Finished, images_digest
from sites.watch.store.models import Registered
from sites.watch.store.outbox import StoreOutbox

MODEL = Registered("a" * 64, "nodule", "1.0.0", "tumour", Path("/bundles/nodule"), "active", {})
FOUND = Finished({"score": 0.9}, {"sr": "sr.dcm"}, 0.9, 0.5, True, 0.1, {"image.mean": 0.2}, (0.1, 0.2))


def received(store, arrival, count=3, study="aa", **changed):
    for k in range(1, count + 1):
        assert store.studies.received(study, arrival(k, **changed), Path(f"/f/{k}.dcm"), "scp", float(k))


def planned(store, arrival, *, images="1", shadow=False, study="aa", at=10.0):
    if not store.models.all():
        store.models.add(MODEL, "test", 0.0)
    revision = store.studies.completed(study, Completeness.COMPLETE, at)
    made = store.jobs.plan(study, MODEL.digest, "1.2.3.4", images, shadow=shadow, revision=revision, at=at)
    store.studies.settle(study)
    return made


def state(store, study="aa"):
    return store.database.row("SELECT * FROM study WHERE key = ?", (study,))


def test_a_study_gathers_what_its_images_say(store, arrival):
    received(store, arrival)
    assert not store.studies.received("aa", arrival(2), Path("/f/other.dcm"), "scp", 9.0)
    store.studies.received(
        "aa", arrival(9, modality="SR", body_part="HEAD", patient_name="OTHER"), Path("/f/9"), "x", 9.0
    )
    row = state(store)
    assert (row["images"], row["modalities"], row["body_parts"]) == (4, "CT,SR", "CHEST,HEAD")
    assert row["patient_name"] == "PLANTED^NAME"
    assert [a.number for a, _, _ in store.studies.arrivals("aa")] == [1, 2, 3, 9]
    assert gap_free(list(store.studies.planes("aa"))[:3])


def test_a_job_is_made_once_for_the_same_images_and_again_for_others(store, arrival):
    received(store, arrival)
    assert planned(store, arrival, images="1")
    assert not planned(store, arrival, images="1")
    first = store.jobs.claim(11.0)
    assert planned(store, arrival, images="2")  # a late image, while the first is looked at
    assert planned(store, arrival, images="3")  # supersedes the second, which nobody has begun
    states = [row["state"] for row in store.database.rows("SELECT state FROM job ORDER BY id")]
    assert states == ["running", "superseded", "queued"]
    store.jobs.finished(first, FOUND, 12.0)
    store.studies.settle("aa")
    assert state(store)["state"] == "queued"
    last = store.jobs.claim(13.0)
    store.jobs.finished(last, FOUND, 14.0)
    store.studies.settle("aa")
    assert state(store)["state"] == "analysed"
    (measures,) = store.database.row("SELECT COUNT(*) FROM measure")
    assert measures == 1, "a study counts once in a model's drift"


def test_urgent_studies_come_first_then_raised_ones_then_by_time(store, arrival):
    for k, (study, stat) in enumerate([("aa", False), ("bb", False), ("cc", True), ("dd", False)]):
        store.studies.received(
            study, arrival(1, study=f"1.{k}", stat=stat), Path(f"/f/{study}"), "scp", float(k)
        )
        planned(store, arrival, study=study, at=float(k))
    store.studies.raise_priority("dd", 1)
    order = []
    while (job := store.jobs.claim(20.0)) is not None:
        order.append(job.study)
    assert order == ["cc", "dd", "aa", "bb"]


def test_a_crash_is_tried_again_and_given_up_in_the_end(store, arrival):
    received(store, arrival)
    planned(store, arrival)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        job = store.jobs.claim(20.0)
        assert job.attempts == attempt
        assert store.jobs.crashed(job, "a worker that ended", 21.0) is (attempt == MOST_ATTEMPTS)
        store.studies.settle("aa")
    assert store.jobs.claim(30.0) is None
    assert (state(store)["state"], state(store)["reason"]) == ("failed", "a worker that ended")


def test_what_was_running_waits_again_after_a_restart(store, arrival, tmp_path):
    received(store, arrival)
    planned(store, arrival)
    store.jobs.claim(20.0)
    store.database.close()
    again = type(store)(Database(tmp_path))
    assert again.jobs.recover() == 1
    assert again.jobs.claim(21.0).study == "aa"
    again.database.close()


def test_a_series_that_a_model_refuses_is_not_analysed_and_never_scored(store, arrival):
    received(store, arrival)
    planned(store, arrival)
    store.jobs.refused(store.jobs.claim(20.0), "a stack with a slice missing")
    store.studies.settle("aa")
    assert (state(store)["state"], state(store)["reason"]) == ("not_analysed", "a stack with a slice missing")
    assert store.database.rows("SELECT * FROM result") == []


def test_shadows_come_last_and_decide_nothing(store, arrival):
    received(store, arrival)
    planned(store, arrival, images="1", shadow=True)
    assert state(store)["state"] == "not_analysed"
    assert store.jobs.claim(20.0).shadow


def test_priorities_never_fall_and_nothing_is_dropped(store, arrival):
    received(store, arrival)
    store.studies.raise_priority("aa", 2)
    store.studies.raise_priority("aa", 1)
    assert state(store)["priority"] == 2
    for statement in (
        "UPDATE study SET priority = 0",
        "DELETE FROM study",
        "UPDATE audit SET who = 'nobody'",
        "DELETE FROM audit",
    ):
        audit.note(store.database, "watcher", "test", "aa", 1.0)
        with pytest.raises(sqlite3.IntegrityError, match="never"), store.database.change() as change:
            change.execute(statement)


def test_a_transaction_is_whole_or_absent(store, arrival):
    def cut_off():
        with store.database.change():
            received(store, arrival)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        cut_off()
    assert store.database.rows("SELECT * FROM study") == []
    assert store.database.rows("SELECT * FROM instance") == []


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=2, max_size=6),
    data=st.data(),
)
def test_a_change_or_a_hole_in_the_audit_trail_shows(tmp_path_factory, entries, data):
    root = tmp_path_factory.mktemp("audit")
    database = Database(root)
    for k, (what, about) in enumerate(entries):
        audit.note(database, "console", what, about, float(k))
    reader = schema.reader(root)
    count, head = audit.verify(reader)
    assert count == len(entries)
    reader.close()
    database.close()
    broken = sqlite3.connect(root / schema.FILE)
    broken.executescript("DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_stays")
    place = data.draw(st.integers(1, count))
    if data.draw(st.booleans()):
        broken.execute("UPDATE audit SET who = 'somebody' WHERE sequence = ?", (place,))
    else:
        broken.execute("DELETE FROM audit WHERE sequence = ?", (place,))
    broken.commit()
    if place == count and broken.execute("SELECT COUNT(*) FROM audit").fetchone()[0] < count:
        assert audit.verify(broken)[1] != head  # a cut end shows to whoever wrote the head down
    else:
        with pytest.raises(DataError, match="audit trail"):
            audit.verify(broken)
    broken.close()


def test_readers_change_nothing(store, tmp_path):
    reader = schema.reader(tmp_path)
    with pytest.raises(sqlite3.OperationalError):
        reader.execute("DELETE FROM counter")
    reader.close()
    with pytest.raises(DataError, match="store"):
        schema.reader(tmp_path / "nowhere")


def test_a_file_of_another_kind_or_version_is_refused(tmp_path):
    (tmp_path / schema.FILE).write_bytes(b"not a store" * 100)
    with pytest.raises(DataError, match="none"):
        Database(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    database = Database(other)
    with database.change() as change:
        change.execute("SELECT 1")
    database.close()
    connection = sqlite3.connect(other / schema.FILE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DataError, match="version 99"):
        Database(other)
    assert (other / schema.FILE).stat().st_mode & 0o077 == 0


def test_a_set_of_images_has_one_digest_in_any_order():
    assert images_digest(["a", "b"]) == images_digest(["b", "a"]) != images_digest(["ab"])


def test_of_one_name_one_model_speaks(store):
    second = Registered("b" * 64, "nodule", "2.0.0", "tumour", Path("/b2"), "active", {})
    assert store.models.add(MODEL, "test", 0.0) == "active"
    assert store.models.add(second, "test", 1.0) == "shadow"
    store.models.set_role(second.digest, "active", "test", 2.0)
    assert {one.digest[0]: one.role for one in store.models.all()} == {"a": "shadow", "b": "active"}
    assert store.models.add(MODEL, "test", 3.0) == "shadow", (
        "a restart does not roll back what a person decided"
    )
    with pytest.raises(DataError, match="model of this watcher"):
        store.models.set_role("c" * 64, "active", "test", 4.0)


def test_files_of_studies_that_were_looked_at_may_go(store, arrival):
    received(store, arrival)
    planned(store, arrival)
    assert store.studies.remove_files(100.0) == 0  # still in the queue
    store.jobs.finished(store.jobs.claim(20.0), FOUND, 21.0)
    store.studies.settle("aa")
    assert store.studies.remove_files(100.0) == 3
    assert store.studies.arrivals("aa") == []
    assert state(store)["images"] == 3
    assert store.studies.received("aa", arrival(2), Path("/f/again.dcm"), "scp", 90.0)  # sent once more
    assert [path for _, path, _ in store.studies.arrivals("aa")] == [Path("/f/again.dcm")]
    assert state(store)["images"] == 3


def test_a_commit_that_fails_leaves_the_store_usable(store, arrival):
    def refused_at_the_end():
        with store.database.change() as change:
            received(store, arrival)
            change.execute("PRAGMA defer_foreign_keys = ON")
            change.execute("INSERT INTO label (study, finding, present, at) VALUES ('nobody', 'x', 1, 0)")

    with pytest.raises(sqlite3.IntegrityError):
        refused_at_the_end()
    assert store.database.rows("SELECT * FROM study") == []
    received(store, arrival)
    assert state(store)["images"] == 3


def test_a_series_is_looked_at_by_one_worker_at_a_time_and_the_newest_images_speak_last(store, arrival):
    received(store, arrival)
    planned(store, arrival, images="1", at=10.0)
    first = store.jobs.claim(11.0)
    planned(store, arrival, images="2", at=5.0)  # the clock was set back
    assert store.jobs.claim(12.0) is None, "the first is still looked at"
    assert not store.jobs.crashed(first, "a worker that ended", 13.0)
    assert store.jobs.claim(14.0).images == "2"
    assert store.jobs.claim(15.0) is None
    states = [row["state"] for row in store.database.rows("SELECT state FROM job ORDER BY id")]
    assert states == ["superseded", "running"]


def test_after_a_result_a_job_does_not_crash(store, arrival):
    received(store, arrival)
    planned(store, arrival)
    job = store.jobs.claim(11.0)
    store.jobs.finished(job, FOUND, 12.0)
    assert not store.jobs.crashed(job, "an afterthought", 13.0)
    assert store.jobs.claim(14.0) is None


def test_what_was_put_back_has_lost_no_attempt(store, arrival):
    received(store, arrival)
    planned(store, arrival)
    for _ in range(2 * MOST_ATTEMPTS):
        job = store.jobs.claim(11.0)
        assert job.attempts == 1
        store.jobs.put_back(job)


def test_a_failure_of_fewer_images_is_past_once_all_were_looked_at(store, arrival):
    received(store, arrival)
    planned(store, arrival, images="1")
    for _ in range(MOST_ATTEMPTS):
        store.jobs.crashed(store.jobs.claim(20.0), "a worker that ended", 21.0)
    store.studies.settle("aa")
    assert state(store)["state"] == "failed"
    planned(store, arrival, images="2")
    store.jobs.finished(store.jobs.claim(30.0), FOUND, 31.0)
    store.studies.settle("aa")
    assert state(store)["state"] == "analysed"


def test_what_waits_again_waits_for_the_model_as_it_is_now(store, arrival):
    received(store, arrival)
    planned(store, arrival, images="1", shadow=True)
    planned(store, arrival, images="2", shadow=True)
    assert planned(store, arrival, images="1", shadow=False)
    assert not store.jobs.claim(20.0).shadow


def test_what_a_clock_that_was_set_back_has_put_off_is_due(store):
    outgoing = [Outgoing("pager", "webhook", "k1", b"{}")]
    store.alerts.send("", outgoing, 1_000_000.0)
    outbox = StoreOutbox(store.database, lambda *_: None)
    assert [one.key for one in outbox.due(900_000.0, 10)] == ["k1"]
    outbox.again(1, "no answer", 900_900.0)
    assert outbox.due(900_001.0, 10) == [], "a pause is kept"
    assert len(outbox.due(900_900.0, 10)) == 1


def test_where_images_stand_is_what_their_headers_say(store, arrival):
    for number, place in ((1, 2.5), (2, None), (10**12, -5.0)):
        one = arrival(1, number=number, position_mm=place, sop_uid=f"1.2.{number}", sha256=f"{number}")
        store.studies.received("aa", one, Path(f"/f/{number}"), "scp", 1.0)
    said = {(p.series, p.position_mm, p.number) for p in store.studies.planes("aa")}
    assert said == {("1.2.3.4", 2.5, 1), ("1.2.3.4", None, 2), ("1.2.3.4", -5.0, 10**12)}
