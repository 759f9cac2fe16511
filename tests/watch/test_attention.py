"""A picture is owed with the alert and made after it, once: not for what later images void, nor for who speaks no more."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedimg.errors import DataError
from fedimg.monitoring.alerts import Dismissal
from fedimg.monitoring.assembly import AssemblyConfig, Completeness
from fedimg.monitoring.pushing import RateLimit
from sites.watch.alerting import Alerting
from sites.watch.centre import Centre
from sites.watch.drifting import Drifting
from sites.watch.naming import Names
from sites.watch.settings import Target
from sites.watch.spool import Received
from sites.watch.store.database import Database
from sites.watch.store.jobs import MOST_ATTEMPTS
from sites.watch.store.whole import Store
from tests.watch.conftest import made_arrival
from tests.watch.told_plainly import FIRST, SECOND, TARGETS, WORDS, SaidPlainly, outbox

ALONE, LEFT = "a score without a place, highest in slice 1 of 2", "attention, not an outline: left side"


def begun(root):
    """The centre of a watcher that was started over a folder, as after a kill."""
    for name in ("studies", "results", "incoming"):
        (root / name).mkdir(exist_ok=True)
    store = Store(Database(root))
    store.models.add(FIRST, "test", 0.0)
    targets = (*TARGETS, Target("out", "folder", path="/out"))
    alerting = Alerting(store, targets, (), RateLimit(2, 600.0), SaidPlainly(), lambda: None)
    centre = Centre(
        *(root, store, Names(root), {FIRST.digest: WORDS}, alerting, Drifting(store.database, 50, None)),
        *(AssemblyConfig(), lambda path: path.unlink(missing_ok=True), lambda: None),
    )
    centre.recover(())
    return centre


@pytest.fixture
def centre(tmp_path):
    one = begun(tmp_path)
    yield one
    one.store.database.close()


def take(centre, *numbers, **said):
    events = []
    for number in numbers:
        one = made_arrival(number, **said)
        path = centre.root / "incoming" / f"{one.sha256[:16]}.dcm"
        path.write_bytes(b"dicom")
        events.append(Received(path, one, "scp", time.time()))
    centre._take(events)
    return centre.names.study(events[0].arrival.study_uid)


def arrive(centre, *numbers, **said):
    study = take(centre, *numbers, **said)
    centre._complete(study, Completeness.COMPLETE)
    return study


def found(score=0.9, where=ALONE):
    code = {"value": "27925004", "scheme": "SCT", "meaning": "Nodule"}
    return {"finding": "nodule", "code": code, "score": score, "where": where, "size_mm": None}


def answer(score=0.9, *, owed=True):
    said = {"model_name": "nodule", "model_version": "1.0.0", "kind": "tumour", "threshold": 0.5}
    said |= {"score": score, "called": score >= 0.5, "found": [found(score)] if score >= 0.5 else []}
    said |= {"seconds": 0.1, "measures": {}, "embedding": []}
    owes = {"image": 0, "inputs": "ab"} if owed and score >= 0.5 else None
    return {"prediction": said, "outputs": {"sr": "/r/sr.dcm"}, "owed": owes}


def picture(centre, job, where=LEFT):
    """As a worker makes it."""
    folder = centre.folder(job)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sc.dcm").write_bytes(b"sc")
    score = job.owed.prediction["score"]
    return {"found": [found(score, where)], "outputs": {"sc": str(folder / "sc.dcm")}}


def looked(centre, score=0.9):
    """The next study, by a model that speaks."""
    job = centre.claim()
    assert job.owed is None
    centre.done(job, answer(score))
    return job


def shown(centre):
    """The next picture."""
    job = centre.claim()
    assert job.owed is not None
    centre.done(job, picture(centre, job))
    return job


def rows(centre, query):
    return [dict(row) for row in centre.store.database.rows(query)]


def states(centre):
    return [row["state"] for row in rows(centre, "SELECT state FROM attention ORDER BY job")]


def sent(centre, what):
    """Files that went out under a key of this kind, one for each target."""
    found = rows(centre, f"SELECT target, paths FROM delivery WHERE key LIKE '{what}-%' ORDER BY id")
    return [(row["target"], [Path(path).name for path in json.loads(row["paths"])]) for row in found]


def pushed(centre):
    return [kind for target, kind in outbox(centre.store) if target == "pager"]


def alert(centre):
    (one,) = rows(centre, "SELECT * FROM alert")
    return one


def test_the_alert_goes_out_without_a_picture_and_the_picture_follows(centre):
    study = arrive(centre, 1, 2)
    job = looked(centre)
    assert (alert(centre)["location"], alert(centre)["revision"]) == (ALONE, 0)
    assert pushed(centre) == ["raised"]
    assert sent(centre, "result") == [("pacs", ["sr.dcm"]), ("out", ["sr.dcm"])]
    assert sent(centre, "picture") == []
    (row,) = rows(centre, f"SELECT state FROM study WHERE key = '{study}'")
    assert row["state"] == "analysed", "it waits for nothing"

    owed = shown(centre)
    assert (owed.id, owed.files, owed.owed.image, owed.owed.inputs) == (job.id, job.files, 0, "ab")
    assert owed.owed.prediction == answer()["prediction"]
    assert (alert(centre)["location"], alert(centre)["state"]) == (LEFT, "raised")
    assert pushed(centre) == ["raised", "updated"]
    assert sent(centre, "picture") == [("pacs", ["sc.dcm"]), ("out", ["sc.dcm"])]
    (result,) = rows(centre, "SELECT prediction, outputs FROM result")
    assert json.loads(result["prediction"])["found"][0]["where"] == LEFT
    assert set(json.loads(result["outputs"])) == {"sr", "sc"}
    assert centre.claim() is None
    assert states(centre) == ["made"]
    assert [row["event"] for row in rows(centre, "SELECT event FROM alert_event")] == ["raised", "updated"]


def test_what_is_outlined_or_not_called_owes_nothing(centre):
    arrive(centre, 1, 2)
    centre.done(centre.claim(), answer(owed=False))
    arrive(centre, 1, 2, study="1.2.4")
    looked(centre, 0.2)
    assert centre.claim() is None
    assert states(centre) == []


@pytest.mark.parametrize("moment", ["owed", "making"])
def test_after_a_kill_the_picture_is_made_once_and_nothing_is_told_twice(tmp_path, moment):
    first = begun(tmp_path)
    arrive(first, 1, 2)
    looked(first)
    if moment == "making":
        assert first.claim().owed is not None
    before = outbox(first.store)
    first.store.database.close()  # what a kill leaves
    again = begun(tmp_path)
    assert outbox(again.store) == before
    shown(again)
    assert again.claim() is None
    assert pushed(again) == ["raised", "updated"]
    assert len(sent(again, "picture")) == 2
    again.store.database.close()
    last = begun(tmp_path)
    assert last.claim() is None
    assert len(sent(last, "picture")) == 2
    last.store.database.close()


def test_studies_come_first_then_pictures_then_shadows(centre):
    centre.store.models.add(SECOND, "operator", 1.0)
    centre.models[SECOND.digest] = WORDS
    arrive(centre, 1, 2)
    looked(centre)
    arrive(centre, 1, 2, study="1.2.4", series="1.2.4.1")
    assert centre.urgent()
    looked(centre, 0.1)
    assert not centre.urgent(), "a shadow waits, for which no picture is left"
    shown(centre)
    assert {centre.claim().shadow, centre.claim().shadow} == {True}


def test_a_late_image_holds_the_picture_back_and_its_result_voids_it(centre):
    arrive(centre, 1, 2)
    looked(centre)
    study = take(centre, 3)
    assert centre.claim() is None, "nobody knows yet what the late image says"
    centre._complete(study, Completeness.COMPLETE)
    looked(centre)
    job = centre.claim()
    assert [row["reason"] for row in rows(centre, "SELECT reason FROM attention ORDER BY job")] == [
        "later images were looked at",
        "",
    ]
    centre.done(job, picture(centre, job))
    assert states(centre) == ["not_wanted", "made"]
    assert sent(centre, "picture") == [("pacs", ["sc.dcm"]), ("out", ["sc.dcm"])]
    assert pushed(centre) == ["raised", "updated"], (
        "that it was run again says nothing new until a place is known"
    )


@pytest.mark.parametrize("score", [0.9, 0.1])
def test_a_late_image_while_the_picture_is_made_sends_none_of_it(centre, score):
    arrive(centre, 1, 2)
    looked(centre)
    job = centre.claim()
    made = picture(centre, job)
    arrive(centre, 3)
    centre.done(job, made)
    assert sent(centre, "picture") == []
    assert not Path(made["outputs"]["sc"]).exists()
    assert states(centre) == ["owed"]
    looked(centre, score)
    assert alert(centre)["state"] == ("raised" if score > 0.5 else "superseded")
    if score > 0.5:
        shown(centre)
    assert centre.claim() is None
    assert states(centre) == (["not_wanted", "made"] if score > 0.5 else ["not_wanted"])
    assert len(sent(centre, "picture")) == (2 if score > 0.5 else 0)
    assert alert(centre)["state"] == ("raised" if score > 0.5 else "superseded"), (
        "no picture raises an alert again"
    )


def test_a_late_image_that_cannot_be_looked_at_leaves_the_picture_wanted(centre):
    arrive(centre, 1, 2)
    looked(centre)
    arrive(centre, 3)
    late = centre.claim()
    assert late.owed is None
    centre.crashed(late, "a worker that ended", for_good=True)
    shown(centre)
    assert states(centre) == ["made"]


def test_images_that_came_between_are_no_fault_of_the_picture(centre):
    arrive(centre, 1, 2)
    looked(centre)
    job = centre.claim()
    take(centre, 3)
    centre.refused(job, "others by now")
    assert states(centre) == ["owed"]


@pytest.mark.parametrize("role", ["retired", "shadow"])
def test_of_a_model_that_speaks_no_more_nothing_is_made_or_told(centre, role):
    arrive(centre, 1, 2)
    looked(centre)
    centre.store.models.set_role(FIRST.digest, role, "operator", 2.0)
    assert centre.claim() is None
    assert states(centre) == ["not_wanted"]
    assert alert(centre)["state"] == "raised", "what it has called stands"
    arrive(centre, 1, 2, study="1.2.4", series="1.2.4.1")
    centre.store.models.set_role(FIRST.digest, "active", "operator", 3.0)


def test_of_a_model_that_was_rolled_back_while_its_picture_was_made_nothing_is_told(centre):
    arrive(centre, 1, 2)
    looked(centre)
    job = centre.claim()
    centre.store.models.add(SECOND, "operator", 1.0)
    centre.models[SECOND.digest] = WORDS
    centre.store.models.set_role(SECOND.digest, "active", "operator", 2.0)
    before = outbox(centre.store)
    centre.done(job, picture(centre, job))
    assert outbox(centre.store) == before
    assert (states(centre), alert(centre)["location"]) == (["not_wanted"], ALONE)


def test_while_a_new_model_is_not_loaded_the_former_one_shows_what_it_called(centre):
    arrive(centre, 1, 2)
    looked(centre)
    centre.store.models.add(SECOND, "operator", 1.0)
    centre.store.models.set_role(SECOND.digest, "active", "operator", 2.0)
    shown(centre)
    assert states(centre) == ["made"]


def test_a_picture_that_fails_is_counted_and_the_alert_stays_as_it_is(centre):
    arrive(centre, 1, 2)
    looked(centre)
    before, told = alert(centre), outbox(centre.store)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        job = centre.claim()
        assert job.attempts == attempt
        centre.crashed(job, "a worker that took too long")
    assert centre.claim() is None
    assert states(centre) == ["failed"]
    assert (alert(centre), outbox(centre.store)) == (before, told)
    (count,) = rows(centre, "SELECT value FROM counter WHERE name = 'attention_failed'")
    assert count["value"] == 1
    assert rows(centre, "SELECT state FROM study")[0]["state"] == "analysed"
    assert rows(centre, "SELECT state FROM job")[0]["state"] == "done"


def test_a_picture_that_cannot_be_made_is_not_tried_again(centre):
    arrive(centre, 1, 2)
    looked(centre)
    centre.refused(centre.claim(), "no file of the series can be used")
    assert centre.claim() is None
    (row,) = rows(centre, "SELECT state, reason FROM attention")
    assert row == {"state": "failed", "reason": "no file of the series can be used"}
    assert rows(centre, "SELECT * FROM routing") == [], "the series was looked at"


def test_what_gave_way_has_lost_no_attempt(centre):
    arrive(centre, 1, 2)
    looked(centre)
    for _ in range(2 * MOST_ATTEMPTS):
        job = centre.claim()
        assert job.attempts == 1
        centre.put_back(job)
    shown(centre)


def test_places_do_not_use_up_the_rate_limit_and_are_told_to_who_knows_of_the_alert(centre):
    for k in range(3):
        arrive(centre, 1, 2, study=f"1.2.{k}", series=f"1.2.{k}.1")
        looked(centre)
        if k == 0:
            shown(centre)
    shown(centre), shown(centre)
    assert pushed(centre) == ["raised", "updated", "raised", "updated"]
    assert [row["suppressed"] for row in rows(centre, "SELECT suppressed FROM alert ORDER BY raised_at")] == [
        *(0, 0, 1)
    ]
    assert [row["location"] for row in rows(centre, "SELECT location FROM alert")] == [LEFT] * 3
    assert len(sent(centre, "picture")) == 6, "records are not limited"


def test_a_person_s_decision_stands_and_learns_the_place(centre):
    arrive(centre, 1, 2)
    looked(centre)
    centre.alerting.dismiss(alert(centre)["key"], Dismissal.NOT_PRESENT, "reader", 5.0)
    shown(centre)
    assert (alert(centre)["state"], alert(centre)["location"]) == ("dismissed", LEFT)


def test_of_two_series_the_surer_one_says_where(centre):
    arrive(centre, 1, 2)
    looked(centre, 0.95)
    arrive(centre, 1, 2, series="1.2.3.9")
    looked(centre, 0.7)
    places = {0.95: "left", 0.7: "right"}
    for _ in range(2):
        job = centre.claim()
        centre.done(job, picture(centre, job, places[job.owed.prediction["score"]]))
    assert (alert(centre)["location"], alert(centre)["score"]) == ("left", 0.95)
    assert pushed(centre) == ["raised", "updated"]
    assert len(sent(centre, "picture")) == 4, "each series has its picture"


def test_what_waits_for_a_retired_model_is_not_wanted_and_no_failure(centre):
    study = arrive(centre, 1, 2)
    centre.store.models.set_role(FIRST.digest, "retired", "operator", 2.0)
    assert centre.claim() is None
    assert rows(centre, "SELECT * FROM job") == []
    (row,) = rows(centre, f"SELECT state, reason FROM study WHERE key = '{study}'")
    assert row == {"state": "not_analysed", "reason": "its model was retired before it was looked at"}
    assert rows(centre, "SELECT * FROM counter WHERE name IN ('failed', 'crashed')") == []


@pytest.mark.parametrize(
    "change",
    [{"measures": {"image.mean": float("nan")}}, {"embedding": [float("inf")]}, {"score": float("nan")}],
)
def test_what_is_no_finite_number_is_not_stored(centre, change):
    arrive(centre, 1, 2)
    job, said = centre.claim(), answer()
    said["prediction"] |= change
    with pytest.raises((ValueError, DataError)):
        centre.done(job, said)
    assert rows(centre, "SELECT * FROM result") == rows(centre, "SELECT * FROM alert") == []
    centre.crashed(job, "a score or measure that is no finite number", for_good=True)
    (row,) = rows(centre, "SELECT state, reason FROM study")
    assert row == {"state": "failed", "reason": "a score or measure that is no finite number"}


EVENTS = st.lists(
    st.sampled_from(["late", "look", "look clear", "picture", "kill", "crash", "dismiss"]), max_size=14
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS)
def test_whatever_happens_a_picture_is_sent_once_and_of_a_result_that_holds(tmp_path_factory, events):
    root, number = tmp_path_factory.mktemp("w"), 3
    centre, held = begun(root), None
    study = arrive(centre, 1, 2)
    for event in events:
        if event == "late":
            take(centre, number)
            centre._complete(study, Completeness.COMPLETE)
            number += 1
        elif event == "kill":
            centre.store.database.close()
            centre, held = begun(root), None
        elif event == "dismiss":
            for one in rows(centre, "SELECT key FROM alert WHERE state IN ('raised', 'delivered')"):
                centre.alerting.dismiss(one["key"], Dismissal.ARTEFACT, "reader", 5.0)
        elif (held := held or centre.claim()) is not None:
            if event == "crash":
                centre.crashed(held, "a worker that ended")
            elif held.owed is not None and event == "picture":
                latest = rows(centre, "SELECT MAX(job) AS job FROM result")[0]["job"]
                before = len(sent(centre, "picture"))
                centre.done(held, picture(centre, held))
                assert len(sent(centre, "picture")) == before or held.id == latest
            elif held.owed is None:
                centre.done(held, answer(0.1 if event == "look clear" else 0.9))
            else:
                continue
            held = None
    raised = rows(centre, "SELECT COUNT(*) AS n FROM alert")[0]["n"]
    assert raised <= 1
    keys = rows(centre, "SELECT target, key FROM delivery")
    assert len(keys) == len({(row["target"], row["key"]) for row in keys})
    assert len(sent(centre, "picture")) == 2 * states(centre).count("made")
    centre.store.database.close()
