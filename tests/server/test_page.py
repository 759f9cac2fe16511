"""The coordinator's page: what it shows of a made-up federation, to whom, and what its buttons do."""

import html
import json
import re
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.cli import main
from fedimg.errors import ConfigError
from server.page import overview, run_page
from server.page.models import RoundInfo, RunDetail, RunInfo, RunSite, SiteInfo
from server.page.run_reading import RunReader
from server.page.serving import token_path
from server.page.watching import Watch, presence_of
from server.registry import Entry, Registry, Stage
from tests.server.conftest import (
    FAILED,
    FINISHED,
    GONE,
    NAMES,
    QUEUED,
    RUNNING,
    STOPPED,
    add,
    config,
    rows,
)

PAGES = ("/", f"/runs/{RUNNING}", f"/runs/{FINISHED}", f"/runs/{FAILED}", f"/runs/{QUEUED}")
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202e"


def seen(page):
    """The text of a page, tags left out."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))


# ------------------------------------------------------------------------------------------ content


def test_the_first_page_shows_sites_runs_and_what_goes_on(inside):
    text = seen(inside.get("/").text)
    assert "4 of 5" in text  # sites connected
    assert "14 of 40" in text
    assert "4.12 of 8" in text  # largest ε: 1.1·√14 = 4.116, rounded up
    assert f"4 of 5 sites that are needed; {NAMES[4]}: not connected" in text
    for name in NAMES:
        assert name in text
    assert "elm-university not connected 2026-01-31 14:41:12 2,000" in text
    assert "alder-clinic connected 2026-01-31 13:05:00 400" in text
    for run, stage in (
        (RUNNING, "waiting"),
        (FINISHED, "finished"),
        (STOPPED, "stopped"),
        (FAILED, "failed"),
    ):
        assert f"{run} {stage}" in text
    assert "0.962" in text  # AUROC of the finished run


def test_a_runs_page_shows_its_course_and_who_was_missing(inside):
    page = inside.get(f"/runs/{RUNNING}").text
    text = seen(page)
    assert "per site: ε ≤ 8, δ = 2e-5" in text
    assert "cedar joined 10 of 14 3, 7-8, 10" in text
    assert "ε so far" in text
    assert "void 2 of 5 sites survived; 3 are needed" in text
    assert page.count('role="img"') == 3
    assert 'class="reference"' in page  # what the run declares


def test_a_finished_run_offers_its_report_as_a_file(inside):
    assert f'href="/runs/{FINISHED}/report.html"' in inside.get(f"/runs/{FINISHED}").text
    answer = inside.get(f"/runs/{FINISHED}/report.html")
    assert answer.headers["content-disposition"] == f'attachment; filename="report-{FINISHED}.html"'
    assert answer.text == "<!DOCTYPE html><title>report</title>"
    assert inside.get(f"/runs/{RUNNING}/report.html").status_code == 404


def test_the_api_says_the_same(inside):
    sites = inside.get("/api/sites").json()
    assert [(one["name"], one["connected"]) for one in sites] == [(name, name not in GONE) for name in NAMES]
    runs = inside.get("/api/runs").json()
    assert [one["run"] for one in runs] == [QUEUED, RUNNING, FINISHED, STOPPED, FAILED]
    detail = inside.get(f"/api/runs/{RUNNING}").json()
    assert [one["round"] for one in detail["rounds"]] == list(range(1, 15))
    assert detail["info"]["epsilon"] == pytest.approx(1.1 * 14**0.5)
    assert inside.get("/api/federation").json()["name"] == "Heart imaging network"
    assert inside.get("/api/runs/none").json() == {
        "detail": "Expected a run of this federation; found another name."
    }


def test_a_run_without_a_promise_says_so(made, inside):
    add(made.root, "seeded", Stage.RUNNING, 3, config=config() | {"insecure_test_mode": True})
    add(made.root, "open", Stage.RUNNING, 3, config=config(mode="none"))
    for run, mode in (("seeded", "insecure test mode"), ("open", "none")):
        info = inside.get(f"/api/runs/{run}").json()["info"]
        assert (info["privacy"], info["epsilon"], info["epsilon_declared"]) == (mode, None, None)
        page = seen(inside.get(f"/runs/{run}").text)
        assert f"privacy: {mode}, no guarantee" in page
        assert "ε ≤" not in page


def test_no_page_has_a_path_of_this_machine(made, inside):
    registry = Registry(made.root)
    registry.move(RUNNING, Stage.WAITING, f"fedimg provision bundle {made.root}; {made.root.resolve()}/x")
    registry.close()
    answers = [inside.get(page).text for page in (*PAGES, "/api/runs", f"/api/runs/{RUNNING}", "/metrics")]
    assert not [text for text in answers if str(made.root) in text or str(made.root.resolve()) in text]
    assert "fedimg provision bundle FOLDER" in seen(answers[0])


def test_a_run_whose_folder_is_damaged_or_gone_is_shown_as_far_as_it_can_be(made, inside):
    (made.root / "runs" / RUNNING / "metrics.jsonl").write_text(
        '{"round": 1, "loss": "x", "epsilon": 3}\n{"rou'
    )
    (made.root / "runs" / RUNNING / "joined.json").write_text("[")
    (made.root / "runs" / RUNNING / "roster.json").write_text('{"identities": 3}')
    registry = Registry(made.root)
    registry.add("without-a-folder", 3)
    registry.close()
    page = inside.get(f"/runs/{RUNNING}")
    assert page.status_code == 200
    assert "metrics.jsonl, line 2, is not the JSON object of a round" in seen(page.text)
    assert "Damaged: the run's folder cannot be read" in seen(inside.get("/runs/without-a-folder").text)
    assert inside.get("/").status_code == 200


def test_a_folder_without_runs_or_bundle_is_shown(made, inside):
    (made.root / "federation.bundle").unlink()
    registry = Registry(made.root)
    registry._connection.execute("DELETE FROM runs")
    registry.close()
    made.connected.clear()
    import time

    time.sleep(0.6)
    text = seen(inside.get("/").text)
    assert "No members yet" in text
    assert "None was asked for yet." in text
    assert "No run is under way." in text


# ----------------------------------------------------------------------------------------- escaping


def hostile_detail():
    info = RunInfo(HOSTILE, HOSTILE, HOSTILE, 1, 3, HOSTILE, HOSTILE, HOSTILE, 1.0, 3.0, HOSTILE, 0.5)
    one = RoundInfo(1, 0.5, 0.5, {HOSTILE: 1.0}, [HOSTILE], [HOSTILE], HOSTILE)
    site = RunSite(
        HOSTILE,
        joined=True,
        epsilon=1.0,
        epsilon_planned=2.0,
        noise_multiplier=1.0,
        answered=1,
        asked=1,
        missing_rounds=[1],
    )
    return RunDetail(info, 1e-5, [(HOSTILE, HOSTILE)], [site], [one], [HOSTILE], has_report=True)


def test_hostile_names_and_reasons_are_text(made):
    from xml.etree import ElementTree as ET

    watch = Watch(made.federation, dict)
    try:
        found = watch.overview()
    finally:
        watch.close()
    from dataclasses import replace

    detail = hostile_detail()
    site = SiteInfo(
        HOSTILE, connected=True, since=HOSTILE, weight=1, certificate_ends=HOSTILE, certificate_days=3
    )
    found = replace(
        found,
        federation=replace(found.federation, name=HOSTILE, id=HOSTILE, version=HOSTILE),
        sites=[site],
        runs=[detail.info, replace(detail.info, stage="running")],
    )
    parts = [overview.heading(found), *overview.parts(found, HOSTILE).values()]
    parts += run_page.parts(detail, HOSTILE).values()
    for part in parts:
        assert "<script" not in part
        assert "<img" not in part
        tree = ET.fromstring(f"<div>{part}</div>")
        assert {one.tag for one in tree.iter()} <= {
            "div", "h1", "h2", "span", "dl", "dt", "dd", "section", "p", "a", "form", "input", "button", "time", "table",
            "thead", "tbody", "tr", "th", "td", "svg", "title", "desc", "rect", "line", "path", "text", "circle",
            "figure", "figcaption", "ul", "li",
        }  # fmt: skip
        assert not [
            name for one in tree.iter() for name in one.attrib if name.startswith("on") or name == "style"
        ]


@given(st.dictionaries(st.sampled_from(["round", "loss", "auroc", "epsilon", "sites", "missing", "void"]),
       st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3))))  # fmt: skip
def test_whatever_a_round_says_the_page_is_drawn(tmp_path_factory, row):
    from tests.server.test_runs import make_run

    root = tmp_path_factory.mktemp("runs")
    make_run(root, "one", config=config(), summary=None, metrics=json.dumps({"round": 1} | row) + "\n")
    entry = Entry("one", Stage.RUNNING, "", 1, 3, "2026-01-31T00:00:00Z", "x")
    assert run_page.parts(RunReader(root).detail(entry), "csrf").keys() == {
        "run",
        "course",
        "run-sites",
        "rounds",
    }


# -------------------------------------------------------------------------------------------- access


@pytest.mark.parametrize(
    "path", [*PAGES, "/events", f"/runs/{RUNNING}/events", f"/runs/{FINISHED}/report.html", "/api/federation",
             "/api/sites", "/api/runs", f"/api/runs/{RUNNING}", "/api/openapi.json"],
)  # fmt: skip
def test_nothing_is_shown_without_a_login(visitor, made, path):
    answer = visitor.get(path)
    assert answer.status_code in (303, 401)
    for word in (*NAMES, RUNNING, made.token()):
        assert word not in answer.text


def test_buttons_do_nothing_without_a_login(visitor, made):
    own = {"origin": visitor.origin}
    assert visitor.post(f"/runs/{RUNNING}/stop", data={"csrf": ""}, headers=own).status_code == 303
    assert visitor.post(f"/runs/{STOPPED}/resume", data={"csrf": ""}, headers=own).status_code == 303
    assert made.entry(STOPPED).stage is Stage.STOPPED
    assert not asked_to_stop(made, RUNNING)


def test_where_the_token_is_is_told_and_the_token_is_not(made, inside):
    ((event, fields),) = made.told
    assert event == "page"
    assert fields["address"] == f"{inside.origin}/"
    assert fields["token_file"] == str(token_path(made.root))
    assert made.token() not in json.dumps(made.told)
    assert stat.S_IMODE(token_path(made.root).stat().st_mode) == 0o600


# -------------------------------------------------------------------------------------------- buttons


def asked_to_stop(made, run):
    registry = Registry(made.root)
    try:
        return registry.is_asked_to_stop(run)
    finally:
        registry.close()


@pytest.mark.parametrize("page", ["/", f"/runs/{RUNNING}"])
def test_a_run_under_way_is_asked_to_stop(inside, made, page):
    answer = inside.press(page, f"/runs/{RUNNING}/stop")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{RUNNING}")
    assert asked_to_stop(made, RUNNING)


def test_a_queued_run_is_stopped_and_a_stopped_one_queued(inside, made):
    inside.press(f"/runs/{QUEUED}", f"/runs/{QUEUED}/stop")
    assert made.entry(QUEUED).stage is Stage.STOPPED
    for run in (QUEUED, STOPPED, FAILED):
        assert inside.press(f"/runs/{run}", f"/runs/{run}/resume").status_code == 303
        assert made.entry(run).stage is Stage.QUEUED


def test_what_a_run_cannot_do_is_not_offered_and_refused(inside, made):
    page = inside.get(f"/runs/{FINISHED}").text
    assert "/stop" not in page
    assert "/resume" not in page
    csrf = inside.form(page, "/logout")
    for action in ("stop", "resume"):
        answer = inside.post(f"/runs/{FINISHED}/{action}", data=csrf, headers={"origin": inside.origin})
        assert answer.status_code == 409
        assert "Expected a run that" in seen(answer.text)
        answer = inside.post(f"/runs/none/{action}", data=csrf, headers={"origin": inside.origin})
        assert answer.status_code == 404
    assert made.entry(FINISHED).stage is Stage.FINISHED


def test_the_events_tell_of_a_round_that_was_finished(inside, made):
    with inside.stream("GET", f"/runs/{RUNNING}/events") as stream:
        lines = stream.iter_lines()
        first = [json.loads(line[6:])["id"] for _, line in zip(range(4), data(lines), strict=False)]
        assert first == ["run", "course", "run-sites", "rounds"]
        (made.root / "runs" / RUNNING / "metrics.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows(15))
        )
        changed = json.loads(next(data(lines))[6:])
        assert changed["id"] == "course"


def data(lines):
    return (line for line in lines if line.startswith("data: "))


# ------------------------------------------------------------------------------------------- metrics


def test_metrics_count_members_runs_and_rounds(made):
    page = made.page()
    with page.serve("127.0.0.1", 0) as server:
        import httpx

        for event, about in (("rounds", "of 40"), ("round", "1"), ("round", "2"), ("no answer", "cedar")):
            page.metrics.heard(event, about)
        page.metrics.carried(100, 30)
        text = httpx.get(f"http://127.0.0.1:{server.port}/metrics").text
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert found["fedimg_members"] == "5.0"
    assert found["fedimg_members_connected"] == "4.0"
    assert found['fedimg_member_connected{site="elm-university"}'] == "0.0"
    assert found['fedimg_runs{stage="waiting"}'] == "1.0"
    assert found["fedimg_current_round"] == "14.0"
    assert found["fedimg_rounds_finished_total"] == "2.0"
    assert found['fedimg_answers_missing_total{site="cedar"}'] == "1.0"
    assert found['fedimg_message_bytes_total{direction="to_sites"}'] == "100.0"
    assert found['fedimg_server_info{code="c0dec0dec0de",version="0.1.0"}'] == "1.0"
    assert RUNNING not in text


def test_two_coordinators_in_one_process_count_by_themselves(made):
    one, other = made.page().metrics, made.page().metrics
    one.heard("round", "1")
    assert b"fedimg_rounds_finished_total 1.0" in one.text()
    assert b"fedimg_rounds_finished_total 0.0" in other.text()


# ------------------------------------------------------------------------------------------- starting


def test_a_taken_port_refuses_the_start_with_what_to_do(made):
    with made.page().serve("127.0.0.1", 0) as server:
        refused = pytest.raises(ConfigError, match="which is taken or not of this machine")
        with refused as told, made.page().serve("127.0.0.1", server.port):
            pass
    assert told.value.remedy == "name another with --page HOST:PORT, or --page off"


def test_beyond_the_loopback_the_page_has_the_federations_tls_and_closed_metrics(made):
    import ssl

    import httpx

    with made.page().serve("0.0.0.0", 0) as server:
        trusted = ssl.create_default_context(cadata=made.federation.certificate)
        own = {"host": "fl.example.org"}
        request = {"sni_hostname": "fl.example.org"}
        with httpx.Client(verify=trusted, headers=own) as client:
            url = f"https://127.0.0.1:{server.port}"
            assert client.get(f"{url}/metrics", extensions=request).status_code == 401
            bearer = {"authorization": f"Bearer {made.token()}"}
            assert client.get(f"{url}/metrics", headers=bearer, extensions=request).status_code == 200
            login = client.get(f"{url}/login", extensions=request)
            assert "__Host-fedimg-0-login=" in login.headers["set-cookie"]
            assert "Secure" in login.headers["set-cookie"]
            other = client.get(f"{url}/login", headers={"host": "evil.example"}, extensions=request)
            assert other.status_code == 421
    assert made.told[-1][1]["address"].startswith("https://")


def test_the_token_is_printed_and_renewed_on_the_command_line(made, capsys):
    root = str(made.root)
    assert main(["server", "token", root]) == 0
    said = capsys.readouterr()
    assert (said.out.strip(), said.err) == (made.token(), "")
    assert re.fullmatch("[0-9a-f]{64}\n", said.out)
    assert main(["server", "token", "--new", root]) == 0
    assert capsys.readouterr().out.strip() == made.token() != said.out.strip()
    assert main(["server", "token", str(made.root / "runs")]) == 4


def test_who_is_connected_stands_before_who_was():
    found = presence_of({"a": "1"}, {"a": "0", "b": "2"})
    assert {name: (one.connected, one.since) for name, one in found.items()} == {
        "a": (True, "1"),
        "b": (False, "2"),
    }
