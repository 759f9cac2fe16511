"""The console's pages: what they show of a made-up store, to whom, what is noted first, and what is never said."""

import html
import json
import re
import stat
from contextlib import suppress
from xml.etree import ElementTree as ET

import httpx
import pytest

from fedimg.errors import ConfigError, DataError
from sites.watch.console.serving import TOKEN_FILE, Console
from tests.watch.console.conftest import Visitor, key_of, uid
from tests.web.headers import strict

STUDY = f"/studies/{key_of(1)}"
PATIENT_PAGES = ("/", "/?show=read", "/?show=all", STUDY, "/alerts", "/alerts?state=all", "/results/1/sr.dcm")
API = ("/api/worklist", f"/api{STUDY}", "/api/alerts", "/api/queue")
NUMBER_PAGES = ("/drift", "/calibration", "/models", "/ledger")
PAGES = (*PATIENT_PAGES, "/queue", *NUMBER_PAGES)
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202e"


def seen(page):
    """The text of a page, tags left out."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))


# ------------------------------------------------------------------------------------------ content


def test_the_worklist_is_in_the_order_of_urgency(inside):
    rows = inside.get("/api/worklist").json()["rows"]
    order = [row["patient"]["id"][-2:] for row in rows]
    # ordered as urgent by arrival, raised by a model by arrival, then the others by arrival
    assert order == ["01", "09", "04", "02", "03", "11", "10", "05", "06", "08", "07"]
    page = inside.get("/").text
    places = [page.index(f"PID-0000{number}") for number in order]
    assert places == sorted(places)


def test_a_row_says_all_that_it_has_to(inside):
    text = seen(inside.get("/").text)
    assert "Research only. Not for diagnostic use." in text
    assert (
        "● STAT Family1, Given1 PID-000001 ACC00001 2026-01-31 CT CHEST CT chest, native 30 22 min analysed "
        "Nodule 0.91 ≥ 0.62 looked at: Pulmonary nodule 1.2.0" in text
    )
    assert "▲ raised Family3, Given3" in text
    assert "Nodule 0.66 ≥ 0.62 suppressed" in text
    assert "suppressed 1: above the rate limit" in text
    assert "not analysed no model is for MR of the KNEE" in text
    assert "failed images missing its pixels cannot be decoded" in text
    assert "in queue" in text and "arriving" in text and "being analysed" in text


@pytest.mark.parametrize(
    "path", ["/?show=all", f"/studies/{key_of(5)}", f"/studies/{key_of(16)}", "/alerts?finding=x"]
)
def test_a_study_without_a_call_is_looked_at_and_nothing_else(inside, path):
    text = seen(inside.get(path).text).lower()
    assert not re.search(r"\b(negative|normal|healthy|clear of|no findings?)\b", text)
    assert not re.search(r"normal|negative", json.dumps(inside.get("/api" + f"/studies/{key_of(5)}").json()))
    if "studies" in path:
        assert (
            "looked at by pulmonary nodule 1.2.0: nothing was called. that is no reading of the study."
            in text
        )


def test_a_studys_page_shows_what_came_what_was_done_and_what_became_of_it(inside):
    page = inside.get(STUDY).text
    text = seen(page)
    for part in (
        "0.91 ≥ 0.62, calibrated probability and threshold",
        "right lung, upper third, slice 12 of 30",
        "9 mm across",
        "SCT 27925004 Nodule",
        "Bone "
        + uid(1, 2)
        + " CT CHEST 2 pacs Pulmonary nodule 1.2.0 not analysed a series with 2 images; 8 are needed",
        "Pulmonary nodule 1.3.0 (shadow) analysed",
        "nodule 0.914",
        "preview, not for diagnostic use",
        "took 1.3 s",
    ):
        assert part in text, part
    course = re.findall(r"<li><time[^>]*>[^<]*</time><span>(.*?)</span></li>", page)
    told = [seen(one).strip() for one in course]
    assert told[:3] == [
        "first image arrived, 30 images so far",
        "study complete",
        "queued, Pulmonary nodule 1.2.0",
    ]
    assert told.index("analysed, Pulmonary nodule 1.2.0") < told.index("alert raised, nodule")
    assert told.index("alert raised, nodule") < told.index("alert delivered, nodule")
    assert "sent, cstore to pacs" in told
    assert 'href="/results/1/sr.dcm"' in page
    assert 'src="/results/1/preview.png"' in page
    assert "sc.dcm" not in page


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        ("owed", "", "the picture of what the score rests on follows."),
        ("making", "", "the picture of what the score rests on is being made."),
        (
            "failed",
            "no room",
            "the picture of what the score rests on could not be made; what was called stands (no room).",
        ),
    ],
)
def test_before_the_picture_is_there_a_page_says_where_it_is(inside, made, state, reason, said):
    job = made.one("SELECT job FROM alert WHERE study = ?", key_of(3))[0]
    assert f"/results/{job}/preview.png" not in inside.get(f"/studies/{key_of(3)}").text
    made.store.insert("attention", job=job, image=0, inputs="ab", state=state, owed_at=1.0, reason=reason)
    text = seen(inside.get(f"/studies/{key_of(3)}").text)
    assert f"Pulmonary nodule 1.2.0: {said}" in text
    assert "Nodule" in text and "called" in text, "the finding waits for no picture"
    (result,) = inside.get(f"/api/studies/{key_of(3)}").json()["results"]
    assert (result["picture"], result["why"]) == (state, reason)
    queue = seen(inside.get("/queue").text)
    assert f"Pictures that {'could not be made' if state == 'failed' else 'follow their alerts'}: 1." in queue
    assert inside.get("/api/queue").json()["pictures"] == {state: 1}


def test_a_picture_that_was_made_is_in_the_course_of_its_study(inside, made):
    at = made.store.now - 5
    made.store.insert("attention", job=1, image=0, inputs="ab", state="made", owed_at=at - 5, finished_at=at)
    page = inside.get(STUDY).text
    assert 'src="/results/1/preview.png"' in page
    assert "picture made" in seen(page)
    assert "follows" not in seen(page)


def test_alerts_are_filtered_and_the_open_ones_stand_first(inside):
    def states(path):
        return [row["state"] for row in inside.get(f"/api/alerts{path}").json()["rows"]]

    assert states("") == ["raised", "raised", "delivered", "acknowledged"]
    everything = ["raised", "raised", "delivered", "acknowledged", *["confirmed"] * 3, "dismissed"]
    assert states("?state=all") == everything
    assert states("?state=dismissed") == ["dismissed"]
    assert states("?state=all&finding=nodule") == everything
    assert states("?state=all&finding=bleeding") == []
    page = inside.get("/alerts?state=dismissed&finding=nodule").text
    assert '<option value="dismissed" selected="">' in page
    assert '<option value="nodule" selected="">' in page
    assert "Family15" in page and "Family2," not in page


def test_drift_shows_streams_alarms_and_looks(inside):
    page = inside.get("/drift").text
    text = seen(page)
    assert "⚠ drift in 1 stream" in text
    assert "image.mean ⚠ alarm 3e-07 +0.83" in text
    assert "image.noise none 0.41 +0.05" in text
    assert "4 looks" in text
    assert page.count('class="spark"') == 3  # of numbers; an embedding has none
    assert "Intracranial haemorrhage 0.9.1 not looked yet" in text


def test_calibration_shows_what_is_promised_and_what_it_is_worth_here(inside):
    text = seen(inside.get("/calibration").text)
    assert "sensitivity of 95% or more, with confidence 95%" in text
    assert "118 studies with the finding, 640 without" in text
    # PPV = π·Se / (π·Se + (1 − π)(1 − Sp)) = 0.04·0.983 / (0.04·0.983 + 0.96·0.129) = 24.1 %
    assert "(PPV) 24.1 20.0 to 28.6" in text
    # 100·(0.04·0.983 + 0.96·0.129) = 16.3
    assert "alerts in 100 studies 16.3" in text
    assert (
        "Of 4 alerts that a person settled, 3 were confirmed and 1 dismissed: 75% [30%, 95%] confirmed."
        in text
    )
    assert "Of 3 labelled studies with the finding 3 were called, of 2 without it 1." in text
    assert "agrees with the promised sensitivity of 95%" in text
    assert "Reliability for nodule, 5 labelled studies" in text
    assert "No prevalence is stated for it" in text  # of the other model
    assert "no sensitivity: the release held too few positives for one" in text


def test_the_queue_shows_jobs_letters_workers_and_waits(inside):
    text = seen(inside.get("/queue").text)
    assert "dicomweb stow" in text and "no connection could be made Try again" in text
    assert "pager webhook" in text and "the target answered 503" in text
    assert "its pixels cannot be decoded" in text
    assert "worker-1 analysing 212" in text
    assert "12 files, 6.2 MiB; 200.0 GiB free. Nothing is taken any more at 20.0 GiB." in text
    assert "analysis by the models" in text
    assert "Family" not in text


def test_the_models_and_their_roles(inside):
    text = seen(inside.get("/models").text)
    assert re.search(r"Pulmonary nodule 1\.2\.0 tumour classification active Nodule CT CHEST 0\.62", text)
    assert [text.index(role) for role in (" active ", " shadow ", " retired ")] == sorted(
        text.index(role) for role in (" active ", " shadow ", " retired ")
    )


def test_a_long_worklist_has_pages_and_nothing_is_left_out(made, inside):
    for number in range(100, 330):
        made.store.study(number, "queued", minutes=1000 + number, images=1)
    found, first = [], 0
    while len(rows := inside.get(f"/api/worklist?first={first}").json()["rows"]):
        found += [row["study"] for row in rows]
        first += len(rows)
    assert len(found) == len(set(found)) == 241
    assert 'rel="next"' in inside.get("/").text
    assert "101–200 of 241" in seen(inside.get("/?first=100").text)


def test_an_empty_store_is_shown(tmp_path):
    from contextlib import closing

    from tests.watch.console.conftest import Made, Store

    with closing(Store(tmp_path)) as store:
        made = Made(store)
        with (
            made.console().serve(port=0) as server,
            Visitor(base_url=f"http://127.0.0.1:{server.port}") as visitor,
        ):
            visitor.log_in(made.token())
            for path in ("/", "/?show=all", "/alerts", "/queue", *NUMBER_PAGES, *API[::2], "/metrics"):
                assert visitor.get(path).status_code in (200, 404), path
            assert "No study here." in visitor.get("/").text
            assert "No model is active." in visitor.get("/drift").text


# ------------------------------------------------------------------------------------- what is noted


@pytest.mark.parametrize("path", [*PATIENT_PAGES, "/queue", *API, "/results/1/preview.png"])
def test_a_view_is_in_the_audit_trail_with_who_it_was(inside, made, path):
    before = len(made.audit())
    assert inside.get(path).status_code == 200
    ((who, _, about),) = made.audit()[before:]
    assert re.fullmatch(r"Dr\. Rowan \[[0-9a-f]{8}\]", who)
    assert about in (key_of(1), "worklist", "alerts", "queue")
    if STUDY in path or "results" in path:
        assert about == key_of(1)


@pytest.mark.parametrize("path", [*PATIENT_PAGES, "/queue", *API, "/results/1/preview.png"])
def test_without_the_entry_nothing_is_shown(inside, made, path):
    made.centre.broken = True
    answer = inside.get(path)
    assert answer.status_code == 503
    for word in ("Family", "PID-", "ACC0", "DICM", "PNG", key_of(1)):
        assert word not in answer.text
    if not path.startswith("/api/"):
        assert "could not be written; nothing is shown" in answer.text


@pytest.mark.parametrize("path", ["/events", "/alerts/events", f"{STUDY}/events", "/queue/events"])
def test_without_the_entry_no_stream_tells_anything(inside, made, path):
    made.centre.broken = True
    told = b""
    # the server cuts it off
    with suppress(httpx.RemoteProtocolError), inside.stream("GET", path) as stream:
        for piece in stream.iter_raw():
            told += piece
    assert told.decode() in ("", "retry: 5000\n\n")


def test_the_entry_is_on_the_disk_before_the_page_is_sent(inside, made):
    """When the first byte of the page is here, the entry has been committed."""
    for path in (STUDY, "/", "/alerts"):
        before = len(made.audit())
        with inside.stream("GET", path) as answer:
            next(answer.iter_raw())
            assert len(made.audit()) == before + 1


def test_a_program_is_named_as_one(visitor, made):
    bearer = {"authorization": f"Bearer {made.token()}"}
    assert visitor.get("/api/worklist", headers=bearer).status_code == 200
    assert made.audit()[-1][::2] == ("api", "worklist")


def test_who_gives_no_name_is_not_let_in(visitor, made):
    for name in ("", " \t ", "x" * 65, "a\x00b"):
        assert visitor.log_in(made.token(), name).status_code == 400
        assert visitor.get("/").status_code == 303


# --------------------------------------------------------------------------------------- escaping


def test_hostile_texts_are_text_on_every_page(inside, made):
    made.store.model(
        "cd" * 32, HOSTILE, HOSTILE, "active", [HOSTILE] * 3, (HOSTILE, HOSTILE), body_parts=[HOSTILE]
    )
    names = (
        "patient_id",
        "patient_name",
        "accession",
        "study_date",
        "description",
        "modalities",
        "body_parts",
        "reason",
    )
    made.store.study(50, "failed", minutes=3, **dict.fromkeys(names, HOSTILE))
    job = made.store.job(50, "cd" * 32, "failed", reason=HOSTILE)
    made.store.result(50, job, 0.9, "cd" * 32, HOSTILE)
    made.store.alert(50, job, 0.9, finding=HOSTILE, code=[HOSTILE] * 3, location=HOSTILE, model_name=HOSTILE)
    made.store.delivery(50, HOSTILE, "dead", why=HOSTILE)
    made.store.insert("routing", study=key_of(50), model=HOSTILE, series=uid(50, 1), reason=HOSTILE)
    for path in ("/", f"/studies/{key_of(50)}", "/alerts", "/queue", "/drift", "/calibration", "/models"):
        page = inside.get(path).text
        assert "alert(1)" in page, path
        check_markup(page)


def check_markup(page):
    assert re.findall(r"<script[^>]*>([^<]*)</script>", page) in ([""], [])
    tree = ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    for one in tree.iter():
        assert not [name for name in one.attrib if name.startswith("on") or name == "style"]
        if one.tag in ("a", "img", "form"):
            where = one.get("href") or one.get("src") or one.get("action")
            assert where.startswith(("/", "#"))
            assert not where.startswith("//")


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_well_formed_and_holds_to_the_policy(inside, path):
    answer = inside.get(path)
    assert strict(answer.headers)
    if "text/html" in answer.headers["content-type"]:
        check_markup(answer.text)
        assert answer.text.count("Research only. Not for diagnostic use.") == 1


# ------------------------------------------------------------------------------------------ access


@pytest.mark.parametrize("path", [*PAGES, *API, "/events", f"{STUDY}/events", "/alerts/events", "/queue/events",
                                  "/results/1/preview.png", "/api/openapi.json"])  # fmt: skip
def test_nothing_is_shown_without_a_login_and_nothing_noted(visitor, made, path):
    answer = visitor.get(path)
    assert answer.status_code in (303, 401)
    for word in ("Family", "PID-", "ACC0", uid(1), made.token()):
        assert word not in answer.text
    assert made.audit() == []


def test_a_console_that_others_can_reach_needs_tls(made):
    with (
        pytest.raises(ConfigError, match="a TLS key and certificate") as told,
        made.console().serve("0.0.0.0", 0),
    ):
        pass
    assert told.value.exit_code == 2
    assert not (made.root / TOKEN_FILE).exists()


def test_a_console_without_a_store_is_refused(tmp_path):
    with pytest.raises(DataError, match="a watcher's store"), Console(tmp_path, None, print).serve(port=0):
        pass


def test_where_the_token_is_is_told_and_the_token_is_not(made, inside):
    ((event, fields),) = made.told
    assert (event, fields["token_file"]) == ("console", str(made.root / TOKEN_FILE))
    assert made.token() not in json.dumps(made.told)
    assert stat.S_IMODE((made.root / TOKEN_FILE).stat().st_mode) == 0o600


# ------------------------------------------------------------------------------------------- files


def test_files_of_a_result_are_given_by_name(inside):
    report = inside.get("/results/1/sr.dcm")
    assert report.content == b"\0" * 128 + b"DICM sr"
    assert report.headers["content-disposition"] == 'attachment; filename="1-sr.dcm"'
    picture = inside.get("/results/1/preview.png")
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")
    assert int(picture.headers["content-length"]) == len(picture.content)


@pytest.mark.parametrize("path", ["/results/1/sc.dcm", "/results/1/x", "/results/2/sr.dcm", "/results/999/sr.dcm",
                                  "/results/1/..%2fsr.dcm", "/results/1/console.token"])  # fmt: skip
def test_no_other_file_is_given(inside, path):
    assert inside.get(path).status_code == 404


def test_a_file_outside_the_results_or_behind_a_link_is_not_given(inside, made):
    secret = made.root / "secret"
    secret.write_bytes(b"SECRET")
    folder = made.root / "results" / "1"
    inner = made.root / "results-of-another"
    inner.mkdir()
    (inner / "x").write_bytes(b"SECRET")
    (folder / "link").symlink_to(secret)
    (folder / "folder").symlink_to(made.root)
    for path in (secret, folder / "link", folder / "folder" / "secret", f"{folder}/../../secret", "/etc/hostname",
                 inner / "x", folder, made.root / "results", "", "x\0y", "/dev/zero"):  # fmt: skip
        made.store.connection.execute(
            "UPDATE result SET outputs = ? WHERE job = 1", (json.dumps({"sr": str(path)}),)
        )
        answer = inside.get("/results/1/sr.dcm")
        assert answer.status_code == 404, path
        assert "SECRET" not in answer.text


# ---------------------------------------------------------------------------------------- robustness


@pytest.mark.parametrize("text", ["", "null", "[]", "{", "3", '"x"', "[[", '{"scores": 3, "found": {"a": 1}}',
                                  '{"scores": {"a": "x", "b": 1e999}, "found": [null, {"code": 3, "score": "x"}]}'])  # fmt: skip
def test_whatever_json_stands_in_the_store_the_pages_are_drawn(inside, made, text):
    connection = made.store.connection
    for table, column in (("result", "prediction"), ("result", "outputs"), ("alert", "code"), ("measure", "numbers"),
                          ("drift_look", "streams"), ("model", "metadata"), ("instance", "arrival")):  # fmt: skip
        connection.execute(f"UPDATE {table} SET {column} = ?", (text,))
    for path in ("/", STUDY, "/alerts", "/queue", "/drift", "/calibration", "/models", *API, "/metrics"):
        assert inside.get(path).status_code == 200, path


def test_the_sites_ledger_is_shown_and_why_where_there_is_none(made, tmp_path):
    from fedimg.privacy.ledger import Ledger, LedgerTerms
    from tests.sites.conftest import site

    def page(home):
        with (
            made.console(home=home).serve(port=0) as server,
            Visitor(base_url=f"http://127.0.0.1:{server.port}") as visitor,
        ):
            visitor.log_in(made.token())
            return seen(visitor.get("/ledger").text)

    home = site(tmp_path / "site").home
    if home.ledger.exists():
        home.ledger.unlink()
    assert "no site's home" in page(None)
    assert "no ledger yet" in page(home.root)
    Ledger.create(home.ledger, home.signing_key, LedgerTerms(10.0, 1e-5, 32)).disconnect()
    text = page(home.root)
    assert "ε spent or reserved 0 at δ = 1e-5" in text
    assert "ε left 10.000 of 10 that the ledger promises" in text
    home.ledger.write_bytes(b"no ledger")
    assert "cannot be read" in page(home.root)
    assert "cannot be read" in page(tmp_path / "nothing")
