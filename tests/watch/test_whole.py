"""The watcher as a process: a study that is sent ends as alert, report and message; no kill loses or doubles anything."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import urllib.request
from pathlib import Path

import pydicom
import pytest
from known_studies import PLANTED, exported, make_bundle, outlining_bundle, write_study
from loopback_watch import Loopback, receiving, wait_for
from pydicom.uid import SecondaryCaptureImageStorage

from fedimg.crypto.keys import SigningKey
from fedimg.imaging.config import ImagingConfig
from tests.prediction.conftest import Scores

KEY = SigningKey.from_bytes(bytes(range(32)))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return outlining_bundle(tmp_path_factory.mktemp("bundle") / "nodule", KEY)


@pytest.fixture
def watcher(tmp_path, bundle):
    """Not started yet; its webhook's receiver, and a folder into which results go."""
    (tmp_path / "out").mkdir()
    with receiving(tmp_path) as receiver:
        targets = [receiver.target(), {"name": "out", "kind": "folder", "path": str(tmp_path / "out")}]
        one = Loopback(tmp_path / "watcher", [bundle], KEY, {"deliver": targets})
        one.receiver, one.out = receiver, tmp_path / "out"
        yield one
        one.stop()


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    imaging = ImagingConfig(image_size=(48, 48))
    graph = exported(Scores(), imaging.shape)
    return make_bundle(tmp_path_factory.mktemp("bundle") / "score", KEY, graph, "classification", imaging)


@pytest.fixture
def scoring(watcher, classifier):
    """The same with a model that outlines nothing."""
    watcher.bundles = [classifier]
    return watcher


def analysed(watcher, count):
    wait_for(
        lambda: (
            [r["n"] for r in watcher.rows("SELECT COUNT(*) AS n FROM study WHERE state = 'analysed'")]
            == [count]
        ),
        60,
        f"{count} studies to be analysed",
    )


def told(watcher, count):
    wait_for(lambda: len(watcher.receiver.raised()) >= count, 30, f"{count} messages")


def ask(watcher, path):
    token = (watcher.home / "console.token").read_text().strip()
    request = urllib.request.Request(
        f"http://127.0.0.1:{watcher.console}{path}", headers={"authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def test_a_study_with_a_ball_warns_and_one_without_is_looked_at(watcher, tmp_path):
    watcher.start()
    sick = write_study(tmp_path / "in", "sick", ball=True)
    well = write_study(tmp_path / "in", "well", ball=False)
    assert watcher.send(well) == well
    assert watcher.send(sick) == sick
    analysed(watcher, 2)
    told(watcher, 1)
    (alert,) = watcher.rows("SELECT * FROM alert")
    assert (alert["finding"], alert["kind"]) == ("ball", "tumour")
    assert "left" in alert["location"]
    assert alert["size_mm"] == pytest.approx(18.0, abs=4.0)
    studies = {row["key"]: row for row in watcher.rows("SELECT * FROM study")}
    assert {row["completeness"] for row in studies.values()} == {"complete"}
    assert studies[alert["study"]]["priority"] == 1
    assert watcher.receiver.raised() == [alert["key"]]
    wait_for(lambda: len(list((tmp_path / "out").rglob("*.dcm"))) == 3, 30, "report, outline and picture")
    rows = json.loads(ask(watcher, "/api/worklist"))["rows"]
    assert rows[0]["study"] == alert["study"], "what was called stands first"
    wait_for(lambda: watcher.rows("SELECT state FROM alert")[0]["state"] == "delivered", 10, "the receipt")


def test_a_late_image_opens_the_study_again(watcher, tmp_path):
    watcher.start()
    paths = write_study(tmp_path / "in", "sick", ball=True)
    watcher.send(paths[:4])  # the ball is in the middle
    analysed(watcher, 1)
    assert watcher.rows("SELECT * FROM alert") == []
    watcher.send(paths[4:])
    told(watcher, 1)
    analysed(watcher, 1)
    (study,) = watcher.rows("SELECT images, revision FROM study")
    assert (study["images"], study["revision"]) == (12, 2)


def test_what_no_model_looks_at_is_shown_as_not_analysed(watcher, tmp_path):
    watcher.start()
    watcher.send(write_study(tmp_path / "in", "knee", ball=True, BodyPartExamined="KNEE"))
    wait_for(
        lambda: bool(watcher.rows("SELECT 1 FROM study WHERE state = 'not_analysed'")), 30, "the verdict"
    )
    (study,) = watcher.rows("SELECT reason FROM study")
    assert study["reason"] == "another body part than CHEST"
    assert watcher.rows("SELECT * FROM result") == []


def test_a_worker_that_is_killed_costs_its_study_nothing(watcher, tmp_path):
    watcher.start()
    (worker,) = watcher.workers()
    watcher.send(write_study(tmp_path / "in", "sick", ball=True))
    os.kill(worker, signal.SIGKILL)
    told(watcher, 1)
    analysed(watcher, 1)
    assert len(watcher.rows("SELECT * FROM alert")) == 1
    assert watcher.workers() != [worker]


@pytest.mark.parametrize("moment", ["received", "assembled", "looking", "alerted"])
def test_no_kill_loses_a_study_or_tells_twice(watcher, tmp_path, moment):
    watcher.start()
    paths = write_study(tmp_path / "in", "sick", ball=True)
    waits = {
        "received": lambda: True,
        "assembled": lambda: bool(watcher.rows("SELECT 1 FROM job")),
        "looking": lambda: bool(watcher.rows("SELECT 1 FROM job WHERE state IN ('running', 'done')")),
        "alerted": lambda: bool(watcher.rows("SELECT 1 FROM alert")),
    }
    assert watcher.send(paths) == paths
    wait_for(waits[moment], 30, moment)
    watcher.kill()
    watcher.start()
    told(watcher, 1)
    analysed(watcher, 1)
    (study,) = watcher.rows("SELECT images FROM study")
    assert study["images"] == len(paths)
    assert len(watcher.rows("SELECT * FROM alert")) == 1
    assert len(watcher.receiver.raised()) == 1
    assert watcher.receiver.differing == 0


def pictures(watcher):
    """Secondary captures in the folder that results go to, by their SOPInstanceUIDs."""
    files = [pydicom.dcmread(path, stop_before_pixels=True) for path in Path(watcher.out).rglob("*.dcm")]
    return [one.SOPInstanceUID for one in files if one.SOPClassUID == SecondaryCaptureImageStorage]


def shown(watcher):
    """Until the picture has gone out; what was told of the alert, in order."""
    wait_for(lambda: bool(pictures(watcher)), 60, "the picture")
    wait_for(lambda: len(watcher.receiver.messages) >= 2, 30, "its place")
    return [message["type"] for message in watcher.receiver.messages.values()]


def test_an_alert_goes_out_before_its_picture(scoring, tmp_path):
    scoring.start()
    scoring.send(write_study(tmp_path / "in", "sick", ball=True))
    assert shown(scoring) == ["alert.raised", "alert.updated"]
    first, second = (message["data"] for message in scoring.receiver.messages.values())
    assert first["where"].startswith("a score without a place, highest in slice")
    assert second["where"].startswith("attention, not an outline: left side")
    assert (first["alert"], first["score"]) == (second["alert"], second["score"])
    (row,) = scoring.rows(
        "SELECT alert.raised_at, attention.finished_at FROM alert JOIN attention USING (job)"
    )
    assert row["raised_at"] < row["finished_at"]
    page = ask(scoring, "/api/worklist")
    study = json.loads(page)["rows"][0]["study"]
    (result,) = json.loads(ask(scoring, f"/api/studies/{study}"))["results"]
    assert (result["picture"], "preview.png" in result["outputs"]) == ("made", True)


@pytest.mark.parametrize("moment", ["owed", "made"])
def test_a_kill_between_alert_and_picture_tells_and_sends_nothing_twice(scoring, tmp_path, moment):
    scoring.start()
    scoring.send(write_study(tmp_path / "in", "sick", ball=True))
    state = "" if moment == "owed" else " WHERE state = 'made'"
    wait_for(lambda: bool(scoring.rows(f"SELECT 1 FROM attention{state}")), 60, moment)
    scoring.kill()
    scoring.start()
    assert shown(scoring) == ["alert.raised", "alert.updated"]
    assert scoring.receiver.differing == 0
    wait_for(lambda: not scoring.rows("SELECT 1 FROM delivery WHERE state = 'due'"), 30, "all deliveries")
    assert len(pictures(scoring)) == 1
    assert len(scoring.rows("SELECT 1 FROM alert")) == 1
    assert [row["state"] for row in scoring.rows("SELECT state FROM attention")] == ["made"]


def test_a_worker_that_is_killed_at_a_picture_costs_the_alert_nothing(scoring, tmp_path):
    scoring.start()
    scoring.send(write_study(tmp_path / "in", "sick", ball=True))
    wait_for(lambda: bool(scoring.rows("SELECT 1 FROM alert")), 60, "the alert")
    for worker in scoring.workers():
        os.kill(worker, signal.SIGKILL)
    assert shown(scoring) == ["alert.raised", "alert.updated"]
    assert len(pictures(scoring)) == 1
    assert scoring.rows("SELECT state FROM study") == [{"state": "analysed"}]


def test_what_was_acknowledged_before_a_kill_is_there_after_it(watcher, tmp_path):
    watcher.start()
    paths = write_study(tmp_path / "in", "sick", ball=True, slices=40)
    first = watcher.send(paths[:25])
    watcher.kill()
    watcher.start()
    watcher.send(paths[25:])
    wait_for(lambda: watcher.rows("SELECT images FROM study")[0]["images"] == 40, 30, "all images")
    assert len(first) == 25
    analysed(watcher, 1)
    told(watcher, 1)


def test_nothing_of_a_patient_is_in_logs_metrics_messages_or_names(watcher, tmp_path):
    watcher.start()
    watcher.send(write_study(tmp_path / "in", "sick", ball=True))
    told(watcher, 1)
    wait_for(lambda: bool(list((tmp_path / "out").rglob("*.dcm"))), 30, "results")
    uids = [row["study_uid"] for row in watcher.rows("SELECT study_uid FROM study")]
    instances = watcher.rows("SELECT sop_uid, series_uid FROM instance")
    planted = [*PLANTED, *uids, *(row["sop_uid"] for row in instances), instances[0]["series_uid"]]
    names = [
        str(path.relative_to(tmp_path))
        for folder in ("watcher", "out")
        for path in (tmp_path / folder).rglob("*")
    ]
    said = {
        "log": watcher.log.read_text(),
        "metrics": ask(watcher, "/metrics").decode(),
        "messages": json.dumps(watcher.receiver.messages),
        "names": "\n".join(names),
        "argv": Path(f"/proc/{watcher.process.pid}/cmdline").read_text(),
    }
    for where, text in said.items():
        for one in planted:
            assert one.lower() not in text.lower(), f"{where} holds an identifier"
    assert re.search(r"fedimg_watch_alerts\{[^}]*\} 1", said["metrics"])
    modes = {path.stat().st_mode & 0o077 for path in (watcher.home).rglob("*")}
    assert modes == {0}, "everything in the home is its owner's alone"


def test_a_tampered_bundle_is_refused_before_anything_starts(watcher, bundle, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    graph = copy / "models" / "model.pt2"
    graph.chmod(0o600)
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    watcher.bundles = [copy]
    with pytest.raises(RuntimeError, match="every file as it was signed"):
        watcher.start()
