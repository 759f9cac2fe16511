"""Metrics count what the store holds, and have no label that tells of a patient."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sites.watch.metrics import WatchMetrics, word
from tests.watch.console.conftest import key_of, made, process, uid

__all__ = ["made"]


def read(made, process=lambda: None):
    text = WatchMetrics(made.root, process).text().decode()
    return text, dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def test_what_is_there_is_counted(made):
    _, found = read(made, process)
    expected = {
        'fedimg_watch_studies{state="analysed"}': 11,
        'fedimg_watch_studies{state="failed"}': 1,
        "fedimg_watch_studies_unread": 11,
        'fedimg_watch_jobs{state="queued"}': 1,
        'fedimg_watch_alerts{finding="nodule",state="raised"}': 2,
        'fedimg_watch_alerts{finding="nodule",state="confirmed"}': 3,
        "fedimg_watch_alerts_suppressed": 1,
        'fedimg_watch_deliveries{state="dead",target="dicomweb"}': 1,
        'fedimg_watch_refused_total{reason="no_patient_id"}': 3,
        'fedimg_watch_received_total{source="pacs"}': 4127,
        'fedimg_watch_events_total{event="crashed"}': 2,
        'fedimg_watch_spool_total{what="received"}': 4127,
        'fedimg_watch_drift{model="Pulmonary nodule"}': 1,
        'fedimg_watch_drift_looks_total{model="Pulmonary nodule"}': 4,
        'fedimg_watch_drift_alarms_total{model="Pulmonary nodule"}': 1,
        "fedimg_watch_workers": 2,
        "fedimg_watch_spool_files": 12,
    }
    assert {name: float(found[name]) for name in expected} == expected


def test_the_histograms_are_of_the_times_in_the_store(made):
    text, found = read(made)
    count = made.one("SELECT count(*) FROM result")[0]
    assert float(found["fedimg_watch_result_seconds_count"]) == count
    assert float(found['fedimg_watch_result_seconds_bucket{le="1.0"}']) == 0
    assert float(found['fedimg_watch_result_seconds_bucket{le="2.0"}']) == count  # each took 1.7 s
    assert float(found['fedimg_watch_result_seconds_bucket{le="+Inf"}']) == count
    assert float(found["fedimg_watch_result_seconds_sum"]) == pytest.approx(1.7 * count, rel=1e-4)
    made.store.connection.execute("UPDATE result SET finished_at = finished_at + 40 WHERE job = 1")
    _, found = read(made)
    assert float(found['fedimg_watch_result_seconds_bucket{le="30.0"}']) == count - 1
    assert "fedimg_watch_alert_seconds_bucket" in text


def test_pictures_are_counted_by_state_and_timed(made):
    for job, state, took in ((1, "made", 7.0), (2, "failed", 1.0), (3, "owed", None)):
        made.store.insert(
            "attention",
            job=job,
            image=0,
            inputs="ab",
            state=state,
            owed_at=100.0,
            finished_at=None if took is None else 100.0 + took,
        )
    _, found = read(made)
    for state in ("made", "failed", "owed"):
        assert float(found[f'fedimg_watch_pictures{{state="{state}"}}']) == 1
    assert float(found["fedimg_watch_picture_seconds_sum"]) == 7.0
    assert float(found["fedimg_watch_picture_seconds_count"]) == 1


def test_no_metric_has_anything_of_a_patient(made):
    """Identifiers planted wherever a store may hold one are in no line."""
    planted = ["PLANTED^1", "DOE^JANE", uid(99), key_of(99), "1234567"]
    connection = made.store.connection
    connection.execute("UPDATE study SET patient_name = 'PLANTED^1', patient_id = 'PLANTED^1', accession = 'PLANTED^1', "
                       "description = 'PLANTED^1', reason = 'PLANTED^1', body_parts = 'PLANTED^1'")  # fmt: skip
    connection.execute("UPDATE alert SET location = 'PLANTED^1', reason = 'PLANTED^1', code = 'PLANTED^1'")
    connection.execute("UPDATE job SET reason = 'PLANTED^1'")
    connection.execute("UPDATE delivery SET why = 'PLANTED^1'")
    # and where labels come from, what looks like an identifier is called "other"
    for number, text in enumerate(planted[1:]):
        made.store.insert("counter", name="received", label=text, value=1)
        made.store.insert("counter", name=text, label="x", value=1)
        made.store.delivery(number + 1, text, "due")
        connection.execute(
            "UPDATE alert SET finding = ? WHERE key = (SELECT key FROM alert LIMIT 1 OFFSET ?)",
            (text, number),
        )
    text, found = read(
        made, lambda: replace(process(), counts=dict.fromkeys((f"refused.{one}" for one in planted), 1))
    )
    for word_ in (*planted, "Family", "PID-", "ACC0"):
        assert word_ not in text, word_
    assert not re.search(r"\d+(\.\d+){3,}|[0-9a-f]{20,}", text)
    assert float(found['fedimg_watch_received_total{source="other"}']) == 4
    assert json.dumps(text)


@given(st.text(max_size=80))
def test_a_label_is_a_word_or_other(text):
    found = word(text)
    assert found in (text, "other")
    assert re.fullmatch(r"[A-Za-z0-9 ._:/+-]{1,64}", found)
    assert not re.search(r"\d{5,}|\d+(\.\d+){3,}", found)
