"""A made-up watcher's store: studies in every state, results, alerts, deliveries, drift, labels. No process, no patient."""

import hashlib
import json
import sqlite3
import time
import zlib
from contextlib import closing
from dataclasses import dataclass, field

import pytest

from fedimg.errors import DataError
from sites.watch.console.serving import TOKEN_FILE, Console
from sites.watch.console.values import Running, Worker
from sites.watch.store.schema import writer
from tests.server.conftest import Visitor as Browserless

NODULE, STROKE, SHADOW = (
    hashlib.sha256(name.encode()).hexdigest() for name in ("nodule", "stroke", "shadow")
)
POINT = {
    "threshold": 0.62,
    "target": 0.95,
    "confidence": 0.95,
    "positives": 118,
    "negatives": 640,
    "sensitivity": {"value": 0.983, "low": 0.94, "high": 0.998},
    "specificity": {"value": 0.871, "low": 0.843, "high": 0.896},
}
NODULE_CODE, STROKE_CODE = ["27925004", "SCT", "Nodule"], ["50960005", "SCT", "Hemorrhage"]
ROOT_UID = "1.2.826.0.1.3680043.10.1"
DAY_S = 86400.0


def key_of(number):
    return hashlib.sha256(f"study {number}".encode()).hexdigest()[:32]


def uid(*numbers):
    return ".".join([ROOT_UID, *map(str, numbers)])


@dataclass
class Store:
    """The store's folder and a connection that fills it. `now`: when everything is looked at."""

    root: object
    now: float = field(default_factory=time.time)

    def __post_init__(self):
        self.connection = writer(self.root)
        self.jobs = 0

    def insert(self, table, **values):
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        self.connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))

    def model(self, digest, name, version, role, code, classes=("normal", "nodule"), **said):
        own = {
            "task": "classification",
            "classes": list(classes),
            "modalities": ["CT"],
            "body_parts": ["CHEST"],
            "threshold": 0.62,
            "operating_point": POINT,
            "findings": [{"class": classes[1], "code": code, "site": None}],
        }
        self.insert(
            "model",
            digest=digest,
            name=name,
            version=version,
            kind="tumour",
            folder="/srv/models/x",
            metadata=json.dumps(own | said),
            role=role,
            since=self.now - 30 * DAY_S,
        )

    def study(self, number, state="analysed", *, stat=False, priority=0, minutes=10.0, images=30, **other):
        key, at = key_of(number), self.now - 60 * minutes
        values = {
            "key": key,
            "study_uid": uid(number),
            "patient_id": f"PID-{number:06d}",
            "patient_name": f"Family{number}^Given{number}",
            "accession": f"ACC{number:05d}",
            "study_date": "20260131",
            "description": "CT chest, native",
            "modalities": "CT",
            "body_parts": "CHEST",
            "stat": int(stat),
            "images": images,
            "first_at": at,
            "last_at": at + 8,
            "state": state,
            "completeness": "" if state == "arriving" else "complete",
            "revision": int(state != "arriving"),
            "completed_at": None if state == "arriving" else at + 10,
            "priority": priority,
        }
        self.insert("study", **(values | other))
        self.series(number, 1, min(images, 3), at)
        return key

    def series(self, number, series, images, at, description="Lung 1.0"):
        for image in range(images):
            arrival = {
                "modality": "CT",
                "body_part": "CHEST",
                "description": description,
                "patient_name": "PLANTED",
            }
            self.insert(
                "instance",
                study=key_of(number),
                sop_uid=uid(number, series, image),
                sha256="00" * 32,
                series_uid=uid(number, series),
                path="",
                arrival=json.dumps(arrival),
                source="pacs",
                received_at=at + image,
            )

    def job(self, number, model=NODULE, state="done", *, shadow=False, series=1, reason="", minutes=9.0):
        self.jobs += 1
        at = self.now - 60 * minutes
        started = None if state == "queued" else at + 0.4
        self.insert(
            "job",
            id=self.jobs,
            study=key_of(number),
            model=model,
            images=f"{self.jobs:064d}",
            series=uid(number, series),
            shadow=int(shadow),
            revision=1,
            state=state,
            attempts=int(state != "queued"),
            queued_at=at,
            started_at=started,
            finished_at=at + 1.7 if state in ("done", "failed", "superseded") else None,
            reason=reason,
        )
        return self.jobs

    def result(
        self, number, job, score, model=NODULE, finding="nodule", threshold=0.62, minutes=9.0, **outputs
    ):
        at, called = self.now - 60 * minutes + 1.7, threshold is not None and score >= threshold
        place = {
            "finding": finding,
            "code": {"value": "27925004", "scheme": "SCT", "meaning": "Nodule"},
            "site": ["39607008", "SCT", "Lung"],
            "score": score,
            "where": "right lung, upper third, slice 12 of 30",
            "size_mm": 9.4,
            "image": uid(number, 1, 1),
            "centre_mm": [1, 2, 3],
        }
        said = {"scores": {"normal": 1 - score, finding: score}, "found": [place] if called else []}
        self.insert(
            "result",
            job=job,
            study=key_of(number),
            model=model,
            prediction=json.dumps(said),
            outputs=json.dumps(outputs),
            score=score,
            threshold=threshold,
            called=int(called),
            seconds=1.3,
            finished_at=at,
        )
        numbers = {
            "image.mean": -420 + 30 * score + job,
            "image.noise": 18 + (7 * job) % 5,
            "score.value": score,
        }
        self.connection.execute(
            "INSERT INTO measure (study, model, at, numbers, embedding) VALUES (?, ?, ?, ?, '[]') "
            "ON CONFLICT (model, study) DO UPDATE SET numbers = excluded.numbers",
            (key_of(number), model, at, json.dumps(numbers)),
        )

    def alert(
        self, number, job, score, state="raised", *, finding="nodule", code=NODULE_CODE, minutes=9.0, **other
    ):
        key, at = hashlib.sha256(f"{number} {finding}".encode()).hexdigest(), self.now - 60 * minutes + 1.8
        values = {
            "key": key,
            "study": key_of(number),
            "job": job,
            "finding": finding,
            "code": json.dumps(code),
            "kind": "tumour",
            "location": "right lung, upper third, slice 12 of 30",
            "size_mm": 9.4,
            "score": score,
            "threshold": 0.62,
            "model_name": "Pulmonary nodule",
            "model_version": "1.2.0",
            "model": NODULE,
            "state": state,
            "raised_at": at,
            "changed_at": at,
        }
        self.insert("alert", **(values | other))
        self.insert("alert_event", alert=key, at=at, event="raised", who="watcher")
        if state != "raised":
            self.insert("alert_event", alert=key, at=at + 1, event="delivered", who="watcher")
        if state not in ("raised", "delivered"):
            reason = other.get("reason", "")
            self.insert(
                "alert_event", alert=key, at=at + 60, event=state, who="Dr. Ash [c0ffee00]", reason=reason
            )
        return key

    def found(self, number, score, state="delivered", **other):
        """A study with a result and an alert."""
        priority = 1 if state in ("raised", "delivered", "acknowledged") else 0
        study = {name: other.pop(name) for name in ("stat", "minutes", "read_at") if name in other}
        self.study(number, priority=priority, **study)
        job = self.job(number, minutes=study.get("minutes", 10.0) - 0.5)
        self.result(number, job, score, minutes=study.get("minutes", 10.0) - 0.5)
        return self.alert(number, job, score, state, minutes=study.get("minutes", 10.0) - 0.5, **other)

    def looked(self, number, score, **study):
        """A study with a result and no call."""
        self.study(number, **study)
        minutes = study.get("minutes", 10.0) - 0.5
        job = self.job(number, minutes=minutes)
        self.result(number, job, score, minutes=minutes)
        return job

    def delivery(self, number, target, state, *, kind="webhook", attempts=1, why=""):
        self.insert(
            "delivery",
            study=key_of(number),
            target=target,
            kind=kind,
            key=f"{number}-{target}",
            body=b"{}",
            paths="[]",
            state=state,
            attempts=attempts,
            next_at=self.now + 30,
            why=why,
            made_at=self.now - 500,
            done_at=self.now - 490 if state == "done" else None,
        )

    def close(self):
        self.connection.close()


class Centre:
    """What the watcher's centre does of a console's wishes, as far as a page can see it; over its own connection."""

    def __init__(self, connection, clock=time.time):
        self.connection, self.clock, self.broken, self.done = connection, clock, False, []

    def _move(self, alert, before, state, who, reason=""):
        changed = self.connection.execute(
            f"UPDATE alert SET state = ?, reason = ?, changed_at = ? WHERE key = ? AND state IN ({before})",
            (state, reason, self.clock(), alert),
        )
        if not changed.rowcount:
            raise DataError("an alert that is open", "one that was settled", "load the page again")
        self.connection.execute(
            "INSERT INTO alert_event (alert, at, event, who, reason) VALUES (?, ?, ?, ?, ?)",
            (alert, self.clock(), state, who, reason),
        )
        self.done.append((state, alert, reason, who))

    def acknowledge(self, alert, who):
        self._move(alert, "'raised', 'delivered'", "acknowledged", who)

    def confirm(self, alert, who):
        self._move(alert, "'raised', 'delivered', 'acknowledged'", "confirmed", who)

    def dismiss(self, alert, reason, who):
        self._move(alert, "'raised', 'delivered', 'acknowledged'", "dismissed", who, reason)

    def read(self, study, who):
        self.connection.execute("UPDATE study SET read_at = ? WHERE key = ?", (self.clock(), study))
        self._audit("read", study, who)

    def label(self, study, finding, present, who):
        self.connection.execute(
            "INSERT OR REPLACE INTO label VALUES (?, ?, ?, ?)", (study, finding, int(present), self.clock())
        )
        self.done.append(("label", study, finding, present, who))

    def seen(self, about, what, who):
        if self.broken:
            raise sqlite3.OperationalError("disk full")
        self._audit(what, about, who)

    def again(self, delivery, who):
        changed = self.connection.execute(
            "UPDATE delivery SET state = 'due' WHERE id = ? AND state = 'dead'", (delivery,)
        )
        if not changed.rowcount:
            raise DataError("a delivery that was given up", "another", "load the page again")
        self.done.append(("again", delivery, who))

    def _audit(self, what, about, who):
        self.connection.execute(
            "INSERT INTO audit (at, who, what, about, digest) VALUES (?, ?, ?, ?, ?)",
            (self.clock(), who, what, about, b""),
        )


def png(size=96):
    """A grey ramp with a bright square, as a picture."""
    rows = b"".join(
        b"\0" + bytes(255 if 40 < x < 56 and 40 < y < 56 else 30 + (x + y) // 2 for x in range(size))
        for y in range(size)
    )

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = size.to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def fill(store):
    """Studies 1 to 16, in every state; see each line."""
    store.model(NODULE, "Pulmonary nodule", "1.2.0", "active", NODULE_CODE)
    store.model(
        STROKE,
        "Intracranial haemorrhage",
        "0.9.1",
        "active",
        STROKE_CODE,
        ("negative", "bleeding"),
        body_parts=["HEAD"],
    )
    store.model(
        SHADOW, "Pulmonary nodule", "1.3.0", "shadow", NODULE_CODE, operating_point=None, threshold=None
    )
    store.model("ab" * 32, "Pulmonary nodule", "1.1.0", "retired", NODULE_CODE)
    folder = store.root / "results" / "1"
    folder.mkdir(parents=True)
    for name, data in (
        ("preview.png", png()),
        ("sr.dcm", b"\0" * 128 + b"DICM sr"),
        ("seg.dcm", b"\0" * 128 + b"DICM seg"),
    ):
        (folder / name).write_bytes(data)
    outputs = {name.partition(".")[0]: str(folder / name) for name in ("preview.png", "sr.dcm", "seg.dcm")}
    store.study(1, stat=True, minutes=22)
    job = store.job(1, minutes=21)
    store.result(1, job, 0.914, minutes=21, **outputs)
    store.alert(1, job, 0.914, "delivered", minutes=21)
    store.series(1, 2, 2, store.now - 22 * 60 + 5, "Bone")
    store.insert(
        "routing",
        study=key_of(1),
        model=NODULE,
        series=uid(1, 2),
        reason="a series with 2 images; 8 are needed",
    )
    shadow = store.job(1, SHADOW, shadow=True, minutes=21)
    store.result(1, shadow, 0.71, SHADOW, threshold=None, minutes=21)
    store.found(2, 0.781, "raised", minutes=14)
    store.found(3, 0.655, "raised", minutes=9, suppressed=1)
    store.found(4, 0.88, "acknowledged", minutes=51)
    store.looked(5, 0.12, minutes=35)
    store.looked(6, 0.41, minutes=31)
    store.study(7, "arriving", minutes=0.2, images=17)
    store.study(8, "queued", minutes=2)
    store.job(8, state="queued", minutes=1.8)
    store.study(9, "running", stat=True, minutes=1.2, description="CT head, trauma", body_parts="HEAD")
    store.job(9, STROKE, "running", minutes=1)
    store.study(
        10,
        "not_analysed",
        minutes=75,
        reason="no model is for MR of the KNEE",
        modalities="MR",
        body_parts="KNEE",
        description="MR knee left",
    )
    store.study(11, "failed", minutes=95, reason="its pixels cannot be decoded", completeness="partial")
    store.job(11, state="failed", reason="its pixels cannot be decoded", minutes=94)
    for number in range(12, 15):
        store.found(number, 0.7 + 0.02 * number, "confirmed", minutes=60 * number, read_at=store.now - 400)
        store.insert("label", study=key_of(number), finding="nodule", present=1, at=store.now)
    store.found(15, 0.64, "dismissed", minutes=900, read_at=store.now - 800, reason="artefact")
    store.insert("label", study=key_of(15), finding="nodule", present=0, at=store.now)
    store.looked(16, 0.08, minutes=950, read_at=store.now - 900)
    store.insert("label", study=key_of(16), finding="nodule", present=0, at=store.now)
    deliveries(store)
    looks(store)


def deliveries(store):
    store.delivery(1, "pacs", "done", kind="cstore")
    store.delivery(1, "pager", "done")
    store.delivery(2, "pager", "due", attempts=3, why="the target answered 503")
    store.delivery(4, "dicomweb", "dead", kind="stow", attempts=10, why="no connection could be made")
    store.insert("counter", name="crashed", label="", value=2)
    store.insert("counter", name="received", label="pacs", value=4127)


def looks(store):
    counts = {"positives": 3, "hits": 3, "negatives": 2, "false_alarms": 1}
    store.insert("evaluation", model=NODULE, at=store.now, **counts, target=0.95, kept=1)
    calm = {"p": 0.41, "effect": 0.05, "alarm": False}
    moved = {"p": 3e-7, "effect": 0.83, "alarm": True}
    for number in range(4):
        streams = {
            "image.mean": moved if number == 3 else calm,
            "image.noise": calm,
            "score.value": calm,
            "embedding": calm,
        }
        store.insert(
            "drift_look",
            model=NODULE,
            at=store.now - DAY_S * (4 - number),
            studies=100 + 25 * number,
            streams=json.dumps(streams),
            alarm=int(number == 3),
        )


def process():
    workers = (
        Worker("worker-1", "analysing", 212, time.time() - 7200),
        Worker("worker-2", "waiting", 199, time.time() - 7200),
    )
    return Running(
        workers, 12, 6_500_000, 200 << 30, 20 << 30, {"received": 4127, "refused.no_patient_id": 3}
    )


@dataclass
class Made:
    """A filled store, its console, and what the console was told."""

    store: Store
    told: list = field(default_factory=list)

    def __post_init__(self):
        self.centre = Centre(self.store.connection)

    @property
    def root(self):
        return self.store.root

    def say(self, event, **fields):
        self.told.append((event, fields))

    def console(self, **other):
        return Console(
            self.root, self.centre, self.say, prevalence={"nodule": 0.04}, process=process, **other
        )

    def token(self):
        return (self.root / TOKEN_FILE).read_text().strip()

    def audit(self):
        rows = self.store.connection.execute("SELECT who, what, about FROM audit ORDER BY sequence")
        return [tuple(row) for row in rows]

    def one(self, question, *values):
        return self.store.connection.execute(question, values).fetchone()


class Visitor(Browserless):
    """Says who it is when it logs in."""

    def log_in(self, token, name="Dr. Rowan"):
        return self.press("/login", "/login", token=token, username=name)


@pytest.fixture
def made(tmp_path):
    store = Store(tmp_path)
    fill(store)
    with closing(store):
        yield Made(store)


@pytest.fixture
def visitor(made):
    """Of the console of `made`, served; not logged in."""
    with (
        made.console().serve(port=0) as server,
        Visitor(base_url=f"http://127.0.0.1:{server.port}", timeout=10) as client,
    ):
        yield client


@pytest.fixture
def inside(made, visitor):
    """The same, logged in."""
    assert visitor.log_in(made.token()).status_code == 303
    return visitor
