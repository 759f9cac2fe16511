"""Results become alerts once, what is due goes into the outbox in the same transaction, and nothing takes a study back down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedimg.errors import DataError
from fedimg.monitoring.alerts import Dismissal, TransitionRefused
from fedimg.monitoring.assembly import Completeness
from fedimg.monitoring.pushing import RateLimit, Step
from sites.watch.alerting import Alerting
from sites.watch.store.jobs import Finished
from sites.watch.store.models import Registered
from tests.watch.told_plainly import TARGETS, SaidPlainly, outbox

MODEL = Registered("a" * 64, "bleed", "1.0.0", "stroke", Path("/bundles/bleed"), "active", {})
STUDY = "ab" * 16


@pytest.fixture
def alerting(store):
    store.models.add(MODEL, "test", 0.0)
    steps = (Step(300.0, "chief"),)
    return Alerting(store, TARGETS, steps, RateLimit(2, 600.0), SaidPlainly(), lambda: None)


@pytest.fixture
def look(store, arrival, alerting):
    """One analysis of a study's series: by images and score."""

    def looked(images="1", score=0.9, *, study=STUDY, at=100.0, series="1.2.3.4", called=None, where="left"):
        store.studies.received(
            study,
            arrival(int(images), study=f"1.{int(study, 16) % 997}", series=series),
            Path(f"/f/{study}/{images}"),
            "scp",
            at,
        )
        revision = store.studies.completed(study, Completeness.COMPLETE, at)
        store.jobs.plan(study, MODEL.digest, series, images, shadow=False, revision=revision, at=at)
        job = store.jobs.claim(at)
        called = score >= 0.5 if called is None else called
        found = {
            "finding": "haemorrhage",
            "code": {"value": "1386000", "scheme": "SCT", "meaning": "Intracranial hemorrhage"},
            "site": None,
            "score": score,
            "where": where,
            "size_mm": 12.0,
            "image": "1.2",
            "centre_mm": None,
        }
        said = {
            "model_name": "bleed",
            "model_version": "1.0.0",
            "kind": "stroke",
            "threshold": 0.5,
            "found": [found, found | {"score": score - 0.1, "where": "right"}] if called else [],
        }
        outputs = {"sr": "/r/sr.dcm", "seg": "/r/seg.dcm", "preview": "/r/p.png"}
        finished = Finished(said, outputs, score, 0.5, called, 0.1, {}, ())
        with store.database.change():
            store.jobs.finished(job, finished, at)
            alerting.found(job, finished, at)
            store.studies.settle(study)
        return job

    return looked


def alerts(store):
    return [dict(row) for row in store.database.rows("SELECT * FROM alert ORDER BY raised_at")]


def priority(store, study=STUDY):
    return store.database.row("SELECT priority FROM study WHERE key = ?", (study,))["priority"]


def test_a_called_study_is_raised_told_and_sent_once(store, look):
    look()
    (alert,) = alerts(store)
    assert (alert["state"], alert["location"], alert["score"]) == ("raised", "left", 0.9)
    assert priority(store) == 3
    assert outbox(store) == [("pager", "raised"), ("pacs", "cstore")]
    look("2", 0.904, at=110.0)  # a late image says nothing new
    assert outbox(store) == [("pager", "raised"), ("pacs", "cstore"), ("pacs", "cstore")]
    assert len(alerts(store)) == 1


def test_a_study_that_is_not_called_tells_nobody(store, look):
    look(score=0.4)
    assert (alerts(store), outbox(store), priority(store)) == ([], [], 0)


def test_late_images_change_an_alert_and_may_take_it_back_but_never_the_priority(store, look):
    look()
    look("2", 0.7, at=110.0, where="left, lower third")
    look("3", 0.2, at=120.0)
    (alert,) = alerts(store)
    assert alert["state"] == "superseded"
    assert priority(store) == 3
    assert [kind for target, kind in outbox(store) if target == "pager"] == [
        "raised",
        "updated",
        "superseded",
    ]


def test_another_series_that_is_not_called_takes_nothing_back(store, look):
    look()
    look("9", 0.2, at=110.0, series="1.2.3.5")
    assert [alert["state"] for alert in alerts(store)] == ["raised"]


def test_what_a_person_has_in_hand_no_result_takes_back(store, look, alerting):
    look()
    key = alerts(store)[0]["key"]
    alerting.acknowledge(key, "reader", 105.0)
    look("2", 0.2, at=110.0)
    assert alerts(store)[0]["state"] == "acknowledged"
    alerting.dismiss(key, Dismissal.NOT_PRESENT, "reader", 111.0)
    assert alerts(store)[0]["state"] == "dismissed"
    assert priority(store) == 3
    label = store.database.row("SELECT * FROM label")
    assert (label["finding"], label["present"]) == ("haemorrhage", 0)
    with pytest.raises(TransitionRefused):
        alerting.confirm(key, "reader", 112.0)
    with pytest.raises(DataError, match="alert of this watcher"):
        alerting.acknowledge("0" * 64, "reader", 113.0)


def test_whoever_confirms_has_seen_it(store, look, alerting):
    look()
    alerting.confirm(alerts(store)[0]["key"], "reader", 105.0)
    events = [row["event"] for row in store.database.rows("SELECT event FROM alert_event ORDER BY id")]
    assert events == ["raised", "acknowledged", "confirmed"]
    assert store.database.row("SELECT present FROM label")["present"] == 1


def test_nobody_acknowledges_and_the_next_one_is_told_once(store, look, alerting):
    look()
    alerting.tick(399.0)
    alerting.tick(400.0)
    alerting.tick(401.0)
    assert [one for one in outbox(store) if one[0] == "chief"] == [("chief", "escalated")]
    assert alerts(store)[0]["escalated"] == 1


def test_above_the_limit_alerts_are_shown_and_told_of_together(store, look, alerting):
    for k in range(4):
        look(study=f"{k:032x}", at=100.0 + k)
    assert [alert["suppressed"] for alert in alerts(store)] == [0, 0, 1, 1]
    assert sum(target == "pager" for target, _ in outbox(store)) == 2
    assert sum(target == "pacs" for target, _ in outbox(store)) == 4, "records are not limited"
    alerting.tick(702.0)
    alerting.tick(703.0)
    bodies = [
        json.loads(row["body"])
        for row in store.database.rows("SELECT body FROM delivery WHERE target = 'pager' ORDER BY id")
    ]
    suppressed = [alert["key"] for alert in alerts(store)][2:]
    assert bodies[2:] == [["haemorrhage", suppressed]]


def test_a_delivered_alert_says_so_and_a_crash_between_tells_nothing_twice(store, look, alerting):
    job = look()
    key = alerts(store)[0]["key"]
    alerting.delivered(key, 101.0)
    alerting.delivered(key, 102.0)
    assert alerts(store)[0]["state"] == "delivered"
    count = len(outbox(store))
    # the worker's answer came, the process was killed, the job was run again
    finished = Finished(
        json.loads(store.database.row("SELECT prediction FROM result")["prediction"]),
        {},
        0.9,
        0.5,
        True,
        0.1,
        {},
        (),
    )
    alerting.found(job, finished, 130.0)
    assert len(outbox(store)) == count
    assert alerts(store)[0]["state"] == "delivered"


def test_what_is_wrong_with_a_model_is_noted_and_told_where_it_matters(store, alerting):
    alerting.about_model(MODEL.digest, "drift", {"studies": 200}, 1.0, tell=False)
    assert outbox(store) == []
    alerting.about_model(MODEL.digest, "drift", {"studies": 250}, 2.0, tell=True)
    assert outbox(store) == [("pager", "drift")]
    assert [row["what"] for row in store.database.rows("SELECT what FROM audit WHERE what = 'drift'")] == [
        "drift",
        "drift",
    ]


def test_a_series_that_still_calls_keeps_the_alert_and_gives_it_its_evidence(store, look):
    look("1", 0.9, where="left")
    look("9", 0.95, at=110.0, series="1.2.3.5", where="left, surer")
    look("10", 0.2, at=120.0, series="1.2.3.5")  # late images of the second: not called any more
    (alert,) = alerts(store)
    assert (alert["state"], alert["location"], alert["score"]) == ("raised", "left", 0.9)
    look("2", 0.2, at=130.0)
    assert alerts(store)[0]["state"] == "superseded"


def test_a_weaker_series_says_nothing_new(store, look):
    look("1", 0.9, where="left")
    look("9", 0.6, at=110.0, series="1.2.3.5", where="elsewhere")
    (alert,) = alerts(store)
    assert (alert["location"], alert["score"]) == ("left", 0.9)
    assert [kind for target, kind in outbox(store) if target == "pager"] == ["raised"]


def test_who_acknowledges_during_a_tick_is_not_undone(store, look, alerting, monkeypatch):
    look()
    (alert,) = alerts(store)
    listed = store.alerts.unacknowledged()

    def just_before():
        alerting.acknowledge(alert["key"], "reader", 400.0)
        return listed

    monkeypatch.setattr(store.alerts, "unacknowledged", just_before)
    alerting.tick(401.0)
    assert (alerts(store)[0]["state"], alerts(store)[0]["escalated"]) == ("acknowledged", 0)
    assert "escalated" not in [kind for _, kind in outbox(store)]


def test_what_is_held_back_during_a_tick_is_in_a_summary(store, look, alerting, monkeypatch):
    for k in range(3):
        look(study=f"{k:032x}", at=100.0 + k)
    listed = store.alerts.all_pushes()

    def just_before():
        look(study="a" * 32, at=103.0)
        return listed

    monkeypatch.setattr(store.alerts, "all_pushes", just_before)
    alerting.tick(702.0)
    bodies = [
        json.loads(row["body"])
        for row in store.database.rows("SELECT body FROM delivery WHERE target = 'pager' ORDER BY id")
    ]
    held = [alert["key"] for alert in alerts(store) if alert["suppressed"]]
    assert bodies[2:] == [["haemorrhage", held]]
    assert len(held) == 2
