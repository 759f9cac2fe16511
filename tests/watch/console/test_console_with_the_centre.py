"""The console over what the watcher's centre really does: its transactions, its audit trail, its refusals."""

from contextlib import closing

import pytest

from fedimg.monitoring.pushing import RateLimit
from sites.watch.actions import StoreActions
from sites.watch.alerting import Alerting
from sites.watch.store import audit
from sites.watch.store.database import Database
from sites.watch.store.schema import reader
from sites.watch.store.whole import Store as Whole
from tests.watch.console.conftest import Made, Store, Visitor, fill, key_of

STUDY = f"/studies/{key_of(1)}"


@pytest.fixture
def centre(tmp_path):
    with closing(Store(tmp_path)) as store:
        fill(store)
        made = Made(store)
    whole = Whole(Database(tmp_path))
    console = made.console()
    alerting = Alerting(whole, (), (), RateLimit(), None, lambda: None)
    console.actions = StoreActions(whole, alerting, console.wake)
    with (
        closing(whole.database),
        closing(reader(tmp_path)) as rows,
        console.serve(port=0) as server,
        Visitor(base_url=f"http://127.0.0.1:{server.port}", timeout=10) as visitor,
    ):
        visitor.log_in(made.token())
        yield visitor, rows


def test_a_persons_day_is_in_the_audit_trail_and_the_trail_holds(centre):
    visitor, rows = centre
    (alert,) = rows.execute("SELECT key FROM alert WHERE study = ?", (key_of(1),)).fetchone()
    assert visitor.press(STUDY, f"/alerts/{alert}/acknowledge").status_code == 303
    assert visitor.press(STUDY, f"/alerts/{alert}/dismiss", reason="artefact").status_code == 303
    assert visitor.press(STUDY, f"{STUDY}/read").status_code == 303
    assert visitor.press("/queue", "/deliveries/4/again").status_code == 303
    assert visitor.get("/results/1/preview.png").status_code == 200
    told = rows.execute("SELECT who, what FROM audit ORDER BY sequence").fetchall()
    assert {row["who"][:9] for row in told} == {"Dr. Rowan"}
    assert [row["what"] for row in told] == [
        "viewed the study",
        "alert acknowledged",
        "viewed the study",
        "alert dismissed",
        "label absent",
        "viewed the study",
        "read",
        "viewed it",
        "delivery again",
        "viewed preview.png of job 1",
    ]
    assert audit.verify(rows)[0] == len(told)
    page = visitor.get(STUDY).text
    assert "dismissed" in page and "read" in page


def test_what_the_centre_refuses_is_told_and_changes_nothing(centre):
    visitor, rows = centre
    (settled,) = rows.execute("SELECT key FROM alert WHERE state = 'dismissed'").fetchone()
    csrf = visitor.form(visitor.get("/").text, "/logout")
    own = {"origin": visitor.origin}
    for action in ("acknowledge", "confirm"):
        assert visitor.post(f"/alerts/{settled}/{action}", data=csrf, headers=own).status_code == 409
    dismissal = csrf | {"reason": "artefact"}
    assert visitor.post(f"/alerts/{settled}/dismiss", data=dismissal, headers=own).status_code == 409
    assert visitor.post("/deliveries/1/again", data=csrf, headers=own).status_code == 409
    assert rows.execute("SELECT state FROM alert WHERE key = ?", (settled,)).fetchone()[0] == "dismissed"
