"""What a person does at the console reaches the centre, with a name, and what cannot be is refused."""

import json
import time

import pytest

from sites.watch.console.actions import REASONS
from tests.server.test_page import data
from tests.watch.console.conftest import key_of
from tests.watch.console.test_console_pages import seen

STUDY = f"/studies/{key_of(1)}"


@pytest.fixture
def alert(made):
    return made.one("SELECT key FROM alert WHERE study = ?", key_of(1))[0]


def state(made, alert):
    return made.one("SELECT state, reason FROM alert WHERE key = ?", alert)


def test_an_alert_is_acknowledged_then_confirmed(inside, made, alert):
    answer = inside.press(STUDY, f"/alerts/{alert}/acknowledge")
    assert (answer.status_code, answer.headers["location"]) == (303, STUDY)
    assert state(made, alert) == ("acknowledged", "")
    page = inside.get(STUDY).text
    assert "/acknowledge" not in page
    inside.press(STUDY, f"/alerts/{alert}/confirm")
    assert state(made, alert) == ("confirmed", "")
    (kind, _, _, who) = made.centre.done[-1]
    assert kind == "confirmed" and who.startswith("Dr. Rowan [")
    page = inside.get(STUDY).text
    assert f"/alerts/{alert}" not in page
    assert "alert confirmed, nodule by Dr. Rowan [" in seen(page)


@pytest.mark.parametrize("reason", REASONS)
def test_an_alert_is_dismissed_for_a_reason_of_the_list(inside, made, alert, reason):
    inside.press(STUDY, f"/alerts/{alert}/dismiss", reason=reason)
    assert state(made, alert) == ("dismissed", reason)
    assert f"dismissed as {reason.replace('-', ' ')}" in seen(inside.get(STUDY).text)


@pytest.mark.parametrize("reason", ["", "Mr Smith says no", "artefact "])
def test_another_reason_is_refused(inside, made, alert, reason):
    assert inside.press(STUDY, f"/alerts/{alert}/dismiss", reason=reason).status_code == 400
    assert state(made, alert)[0] == "delivered"


def test_a_study_is_read_and_leaves_the_list(inside, made):
    inside.press(STUDY, f"{STUDY}/read")
    assert made.one("SELECT read_at FROM study WHERE key = ?", key_of(1))[0] is not None
    assert key_of(1) not in inside.get("/").text
    assert key_of(1) in inside.get("/?show=read").text
    assert f"{STUDY}/read" not in inside.get(STUDY).text
    assert "read by Dr. Rowan" in seen(inside.get(STUDY).text)


def test_a_finding_is_labelled_in_a_study_without_an_alert(inside, made):
    where = f"/studies/{key_of(5)}"
    csrf = inside.form(inside.get(where).text, "/logout")
    own = {"origin": inside.origin}
    for word, present in (("present", 1), ("absent", 0)):
        answer = inside.post(
            f"{where}/label", data=csrf | {"finding": "nodule", "present": word}, headers=own
        )
        assert answer.status_code == 303
        assert made.one("SELECT present FROM label WHERE study = ?", key_of(5))[0] == present
    for wrong in (
        {"finding": "another", "present": "present"},
        {"finding": "nodule", "present": "maybe"},
        {},
    ):
        assert inside.post(f"{where}/label", data=csrf | wrong, headers=own).status_code == 400


def test_a_dead_delivery_is_tried_again(inside, made):
    (number,) = made.one("SELECT id FROM delivery WHERE state = 'dead'")
    answer = inside.press("/queue", f"/deliveries/{number}/again")
    assert (answer.status_code, answer.headers["location"]) == (303, "/queue")
    assert made.one("SELECT state FROM delivery WHERE id = ?", number)[0] == "due"


def test_what_is_not_there_is_404_and_what_cannot_be_is_409(inside, made, alert):
    csrf = inside.form(inside.get("/").text, "/logout")
    own = {"origin": inside.origin}

    def ask(path, **fields):
        return inside.post(path, data=csrf | fields, headers=own).status_code

    for path in ("/alerts/none/confirm", "/alerts/none/acknowledge", "/studies/none/read", "/studies/none/label",
                 "/deliveries/999/again"):  # fmt: skip
        assert ask(path, reason="artefact", finding="nodule", present="present") == 404
    assert ask("/alerts/none/dismiss", reason="artefact") == 404
    (settled,) = made.one("SELECT key FROM alert WHERE state = 'confirmed'")
    for path in (f"/alerts/{settled}/confirm", f"/alerts/{settled}/acknowledge", "/deliveries/1/again"):
        assert ask(path) == 409
    assert ask(f"/alerts/{settled}/dismiss", reason="artefact") == 409
    assert made.centre.done == []


def test_buttons_do_nothing_without_a_login_or_its_token(visitor, made):
    (alert,) = made.one("SELECT key FROM alert WHERE state = 'raised'")
    own = {"origin": visitor.origin}
    paths = (f"/alerts/{alert}/confirm", f"{STUDY}/read", "/deliveries/1/again")
    for path in paths:
        assert visitor.post(path, data={"csrf": ""}, headers=own).status_code == 303
    visitor.log_in(made.token())
    for path in paths:
        assert visitor.post(path, data={"csrf": "0" * 43}, headers=own).status_code == 403
    assert made.centre.done == []


# ------------------------------------------------------------------------------------------ events


def parts(lines):
    return ((told["id"], told["html"]) for told in (json.loads(line[6:]) for line in data(lines)))


def test_a_new_study_is_told_at_once_and_noted_first(inside, made):
    with inside.stream("GET", "/events") as stream:
        found = parts(stream.iter_lines())
        assert [next(found)[0], next(found)[0]] == ["now", "list"]
        assert made.audit()[-1][1:] == ("follows it, 11 studies", "worklist")
        begun = time.monotonic()
        made.store.study(77, "arriving", minutes=0, images=1)
        while key_of(77) not in (told := next(found))[1]:
            pass
        assert time.monotonic() - begun < 1
        assert told[0] == "list"
        assert made.audit()[-1][1:] == ("came to the worklist", key_of(77))


def test_of_a_list_of_which_a_row_has_changed_the_row_is_told(inside, made):
    with inside.stream("GET", "/events") as stream:
        found = parts(stream.iter_lines())
        whole = len(dict([next(found), next(found)])["list"])
        made.store.connection.execute("UPDATE study SET images = 18 WHERE key = ?", (key_of(7),))
        name, row = next(found)
        assert name == f"study-{key_of(7)}"
        assert len(row) < whole / 5
        assert '<td class="number" data-head="images">18</td>' in row
        # a study that rises in the list is told with the list
        made.store.connection.execute("UPDATE study SET priority = 1 WHERE key = ?", (key_of(7),))
        assert next(found)[0] == "list"


def test_an_alert_is_told_on_its_own_page_at_once(inside, made):
    with inside.stream("GET", "/alerts/events") as stream:
        found = parts(stream.iter_lines())
        next(found)
        begun = time.monotonic()
        job = made.store.job(6)
        made.store.alert(6, job, 0.97, minutes=0)
        name, told = next(found)
        assert time.monotonic() - begun < 1
        assert name == "alerts" and "Family6, Given6" in told
        assert made.audit()[-1][1:] == ("came to the alerts", key_of(6))


def test_a_studys_page_follows_what_others_do(inside, made, alert):
    with inside.stream("GET", f"{STUDY}/events") as stream:
        found = parts(stream.iter_lines())
        assert [next(found)[0] for _ in range(6)] == [
            "study",
            "findings",
            "series",
            "results",
            "labels",
            "timeline",
        ]
        made.centre.acknowledge(alert, "Dr. Birch")
        changed = dict([next(found), next(found)])
        assert set(changed) == {"findings", "timeline"}
        assert "by Dr. Birch" in changed["timeline"]
