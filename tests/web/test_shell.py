"""What the shell promises of every page: headers, login, forms, hosts, and what it says of faults."""

import hashlib
import re
import socket
import stat

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.errors import ConfigError, DataError
from fedimg.web.access import AccessToken, LoginForms, Sessions, WrongTries
from fedimg.web.frame import Around
from fedimg.web.guard import MOST_BYTES
from fedimg.web.headers import CONTENT_SECURITY_POLICY, hardened
from fedimg.web.serving import PageServer, is_loopback
from tests.web.conftest import Clock, client, csrf_of, log_in, send, served
from tests.web.headers import strict

ROUTES = (
    ("GET", "/"),
    ("GET", "/login"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/static/page.css"),
    ("GET", "/static/page.js"),
    ("GET", "/nothing"),
    ("GET", "/broken"),
    ("GET", "/number/x"),
    ("GET", "/api/thing"),
    ("GET", "/api/nothing"),
    ("GET", "/api/openapi.json"),
    ("POST", "/login"),
    ("POST", "/logout"),
    ("POST", "/change"),
    ("POST", "/"),
    ("PUT", "/"),
    ("DELETE", "/api/thing"),
    ("HEAD", "/"),
    ("OPTIONS", "/"),
)


# -------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_answer_has_every_header_before_and_after_login(application, method, path):
    with client(application) as visitor:
        outside = visitor.request(method, path)
        log_in(visitor, application)
        inside = visitor.request(method, path)
        elsewhere = visitor.request(method, path, headers={"host": "evil.example"})
    assert strict(outside.headers)
    assert strict(inside.headers)
    assert strict(elsewhere.headers)
    assert outside.status_code < 500
    assert (inside.status_code == 500) == (path == "/broken")


def test_the_policy_is_the_one_that_is_promised():
    assert CONTENT_SECURITY_POLICY == (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )


def test_a_route_cannot_loosen_a_header():
    raw = [
        (b"Content-Security-Policy", b"default-src *"),
        (b"Server", b"x"),
        (b"content-type", b"text/plain"),
    ]
    names = [name for name, _ in hardened(raw)]
    assert names.count(b"content-security-policy") == 1
    assert dict(hardened(raw))[b"content-security-policy"].decode() == CONTENT_SECURITY_POLICY
    assert b"Server" not in names
    assert b"content-type" in names


def test_a_page_has_nothing_within_it_that_the_policy_forbids(inside):
    page = inside.get("/").text
    assert "style=" not in page
    assert "<style" not in page
    assert not re.search(r"\son\w+=", page)
    assert re.findall(r"<script[^>]*>([^<]*)</script>", page) == [""]
    assert not re.search(r'(?:src|href|action)="(?:https?:)?//', page)


def test_a_fault_of_a_route_tells_its_kind_to_the_log_and_nothing_to_the_browser(inside, application):
    answer = inside.get("/broken")
    assert answer.status_code == 500
    assert "SECRET" not in answer.text
    assert application.faults == ["RuntimeError"]


# ---------------------------------------------------------------------------------------- login


@pytest.mark.parametrize("path", ["/", "/nothing", "/broken", "/number/1"])
def test_without_a_login_every_page_leads_to_the_form(visitor, path):
    answer = visitor.get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert answer.text == ""


@pytest.mark.parametrize("path", ["/api/thing", "/api/nothing", "/api/openapi.json", "/events"])
def test_without_a_login_programs_are_told_so(visitor, path):
    answer = visitor.get(path)
    assert (answer.status_code, answer.json()) == (401, {"detail": "Log in first."})


def test_the_right_token_lets_in_and_logging_out_ends_it(visitor, application):
    answer = log_in(visitor, application)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    page = visitor.get("/")
    assert page.status_code == 200
    held = dict(visitor.cookies)
    assert send(visitor, "/logout", {"csrf": csrf_of(page)}).status_code == 303
    # the cookie is worth nothing any more, even where somebody has kept it
    assert httpx.get(application.origin + "/", cookies=held).status_code == 303


def test_a_wrong_token_does_not_and_after_five_the_right_one_waits(visitor, application):
    for _ in range(5):
        form = csrf_of(visitor.get("/login"))
        answer = send(visitor, "/login", {"csrf": form, "token": "0" * 64})
        assert answer.status_code == 401
        assert "This is not the token." in answer.text
    answer = log_in(visitor, application)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert visitor.get("/").status_code == 303
    bearer = {"authorization": f"Bearer {application.rules.token.read()}"}
    assert visitor.get("/api/thing", headers=bearer).status_code == 429
    application.clock.now += 61
    assert log_in(visitor, application).status_code == 303


def test_cookies_are_out_of_reach_of_scripts_and_other_sites(application, visitor):
    form = visitor.get("/login")
    answer = log_in(visitor, application)
    for one in (*form.headers.get_list("set-cookie"), *answer.headers.get_list("set-cookie")):
        assert "HttpOnly" in one
        assert "SameSite=strict" in one
        assert "Path=/" in one
        assert "Domain" not in one


def test_over_tls_cookies_stay_there_and_belong_to_this_host(tmp_path):
    # the flags follow the rules; TLS itself is the network tests' matter
    with served(tmp_path, secure=True) as application, client(application) as visitor:
        (one,) = visitor.get("/login").headers.get_list("set-cookie")
        assert one.startswith("__Host-shell-login=")
        assert "Secure" in one


def test_a_new_session_begins_with_each_login_and_the_former_one_ends(inside, application):
    former = dict(inside.cookies)
    log_in(inside, application)
    assert inside.cookies["shell"] != former["shell"]
    assert httpx.get(application.origin + "/", cookies=former).status_code == 303


def test_a_session_ends_after_its_time_however_busy_it_was(inside, application):
    for _ in range(11):
        application.clock.now += 3600
        assert inside.get("/").status_code == 200
    application.clock.now += 3601
    assert inside.get("/").status_code == 303


def test_another_token_ends_every_session(inside, application):
    assert inside.get("/").status_code == 200
    application.rules.token.renew()
    assert inside.get("/").status_code == 303


def test_the_number_of_sessions_is_bounded_and_the_oldest_makes_room():
    sessions = Sessions(most=3, clock=Clock())
    names = [sessions.begin(b"g") for _ in range(5)]
    assert [sessions.find(name, b"g") is not None for name in names] == [False, False, True, True, True]
    assert all(sessions.find(name, b"another") is None for name in names)


def test_a_process_keeps_no_cookie_in_the_clear():
    sessions = Sessions()
    name = sessions.begin(b"g")
    assert hashlib.sha256(name.encode()).digest() in sessions._table
    assert name not in repr(vars(sessions))


def test_wrong_tries_are_counted_by_address_and_forgotten_in_time():
    clock = Clock()
    tries = WrongTries(clock=clock)
    for _ in range(5):
        assert tries.wait_s("a") == 0
        tries.note("a")
    assert (tries.wait_s("a"), tries.wait_s("b")) == (60, 0)
    clock.now += 60
    assert tries.wait_s("a") == 0
    for number in range(5000):
        tries.note(f"{number}")
    assert len(tries._tries) <= 1024


def test_where_a_name_is_asked_for_the_session_has_it_and_nobody_gets_in_without(application, visitor):
    application.shell.named = True
    assert 'name="username"' in visitor.get("/login").text
    for name, status in (("", 400), ("  ", 400), ("x" * 65, 400), ("a\x1bb", 400), (" Dr.  Ash ", 303)):
        form = csrf_of(visitor.get("/login"))
        fields = {"csrf": form, "token": application.rules.token.read(), "username": name}
        assert send(visitor, "/login", fields).status_code == status, name
    sessions = application.rules.sessions
    (one,) = sessions._table.values()
    assert re.fullmatch(r"Dr\. Ash \[[0-9a-f]{8}\]", one.who)
    # two of one name are told apart
    names = {sessions.find(sessions.begin(b"g", "Dr. Ash"), b"g").who for _ in range(3)}
    assert len(names) == 3
    assert sessions.find(sessions.begin(b"g"), b"g").who == ""


def test_links_and_notice_stand_on_every_page_and_say_where_one_is(inside, application):
    application.shell.around = Around({"One": "/", "Two": "/two"}, "Mind the <gap>.", wide=True)
    page = inside.get("/").text
    assert 'class="banner" role="note">Mind the &lt;gap&gt;.</p>' in page
    assert '<a href="/two">Two</a>' in page
    assert '<body data-events="/events" class="wide">' in page
    assert page.index('href="#content"') < page.index('<main id="content" tabindex="-1">')


# ----------------------------------------------------------------------------------------- token


def test_the_token_is_a_file_of_ones_own_and_256_bits(tmp_path):
    token = AccessToken(tmp_path / "token")
    assert stat.S_IMODE(token.path.stat().st_mode) == 0o600
    assert re.fullmatch("[0-9a-f]{64}", token.read())
    assert AccessToken(token.path).read() == token.read()
    before = token.read()
    assert token.renew() != before
    assert stat.S_IMODE(token.path.stat().st_mode) == 0o600
    assert not token.matches(before)
    assert token.matches(token.read())


def test_a_token_that_others_can_read_or_that_is_none_is_refused(tmp_path):
    token = AccessToken(tmp_path / "token")
    token.path.chmod(0o640)
    for read in (token.read, lambda: AccessToken(token.path)):
        with pytest.raises(DataError, match="expected a key file of mode 0600; found mode 0640"):
            read()
    token.path.chmod(0o600)
    token.path.write_text("secret\n")
    with pytest.raises(DataError, match="64 hexadecimal digits"):
        token.matches("secret")


def test_without_the_tokens_file_nobody_is_let_in_any_more(inside, application):
    application.rules.token.path.unlink()
    for path in ("/", "/api/thing"):
        answer = inside.get(path)
        assert answer.status_code == 503
        assert "The token&#x27;s file cannot be read" in answer.text or answer.json()
    assert application.faults == []


@given(st.text(max_size=80))
@settings(max_examples=200)
def test_no_other_text_is_the_token(tmp_path_factory, said):
    token = AccessToken(tmp_path_factory.mktemp("token") / "token")
    assert not token.matches(said)


# ----------------------------------------------------------------------------------------- forms


def test_a_form_with_its_sessions_token_is_taken(inside, application):
    assert send(inside, "/change", {"csrf": csrf_of(inside.get("/"))}).text == "changed"
    assert application.changed == 1


@pytest.mark.parametrize("fields", [{}, {"csrf": ""}, {"csrf": "0" * 43}, {"token": "x"}])
def test_a_form_without_it_is_refused(inside, application, fields):
    assert send(inside, "/change", fields | {"other": "x"}).status_code == 403
    assert application.changed == 0


def test_a_form_with_another_sessions_token_is_refused(inside, application):
    with client(application) as other:
        log_in(other, application)
        theirs = csrf_of(other.get("/"))
    assert send(inside, "/change", {"csrf": theirs}).status_code == 403
    assert application.changed == 0


def test_a_form_without_a_session_changes_nothing(visitor, application):
    assert send(visitor, "/change", {"csrf": csrf_of(visitor.get("/login"))}).status_code == 303
    assert application.changed == 0


def test_a_login_form_of_another_browser_is_refused(visitor, application):
    with client(application) as other:
        theirs = csrf_of(other.get("/login"))
    visitor.get("/login")
    answer = send(visitor, "/login", {"csrf": theirs, "token": application.rules.token.read()})
    assert answer.status_code == 403
    forms = LoginForms()
    assert forms.csrf("a") != forms.csrf("b") != LoginForms().csrf("b")


@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        ({"sec-fetch-site": "same-origin", "origin": "null"}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"origin": "OWN"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "OWN"}, True),
        ({}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://127.0.0.1:1"}, False),
        ({"origin": "https://OWN-HOST"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "OWN"}, False),
        # a page of another port of this machine is of the same site, and of another origin
        ({"sec-fetch-site": "same-site", "origin": "OWN"}, False),
        ({"sec-fetch-site": "none", "origin": "OWN"}, False),
        ({"sec-fetch-site": "same-origin", "origin": "http://evil.example"}, False),
    ],
)
def test_a_form_comes_from_this_very_origin(inside, application, headers, taken):
    own = {"OWN": application.origin, "https://OWN-HOST": application.origin.replace("http", "https")}
    form = {"csrf": csrf_of(inside.get("/"))}
    answer = inside.post("/change", data=form, headers={k: own.get(v, v) for k, v in headers.items()})
    assert answer.status_code == (200 if taken else 403)
    assert application.changed == taken


def test_a_body_that_is_too_long_or_no_form_is_refused(inside, application):
    form = {"csrf": csrf_of(inside.get("/"))}
    assert send(inside, "/change", form | {"x": "y" * MOST_BYTES}).status_code == 413
    assert send(inside, "/change", form | {f"x{n}": "y" for n in range(20)}).status_code == 400
    own = {"sec-fetch-site": "same-origin", "content-type": "application/x-www-form-urlencoded"}
    twice = f"csrf={form['csrf']}&csrf={form['csrf']}"
    assert inside.post("/change", content=twice, headers=own).status_code == 400
    assert inside.post("/change", content=b"csrf=\xff", headers=own).status_code == 400
    assert inside.post("/change", json=form, headers={"sec-fetch-site": "same-origin"}).status_code == 415
    assert application.changed == 0


def test_a_form_that_does_not_arrive_is_given_up(inside, application, monkeypatch):
    monkeypatch.setattr("fedimg.web.guard.BODY_S", 0.2)
    cookies = "; ".join(f"{name}={value}" for name, value in inside.cookies.items())
    head = (
        f"POST /change HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookies}\r\nSec-Fetch-Site: same-origin\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ncsrf="
    )
    with socket.create_connection(("127.0.0.1", application.server.port), timeout=10) as line:
        line.sendall(head.encode())
        assert line.recv(4096).startswith(b"HTTP/1.1 408")


# --------------------------------------------------------------------------- hosts, tokens, serving


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("127.0.0.1", True),
        ("localhost:8450", True),
        ("LOCALHOST", True),
        ("[::1]:99", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example:8450", False),
        ("", False),
        ("@127.0.0.1", False),
        ("localhost:x", False),
        ("localhost:1:2", False),
        ("[::1", False),
    ],
)
def test_only_own_names_are_answered(visitor, host, taken):
    assert visitor.get("/healthz", headers={"host": host}).status_code == (200 if taken else 421)


@pytest.mark.parametrize(
    "rest", ["/healthz?", "/login#", ":1/healthz?", ":1/login#", "\\healthz?", ":1?/healthz"]
)
def test_a_host_cannot_pass_for_the_path_that_is_asked_for(visitor, application, rest):
    """A URL that is put together of Host and path would say /healthz where /change is asked for."""
    host = {"host": f"127.0.0.1{rest}"}
    for path in ("/", "/api/thing", "/number/1"):
        assert visitor.get(path, headers=host).status_code == 421
    own = host | {"sec-fetch-site": "same-origin"}
    assert visitor.post("/change", data={"csrf": ""}, headers=own).status_code == 421
    assert application.changed == 0


def test_programs_may_read_with_the_token_and_do_nothing_else(visitor, application):
    bearer = {"authorization": f"Bearer {application.rules.token.read()}"}
    assert visitor.get("/api/thing", headers=bearer).json() == [1, 2]
    assert visitor.get("/", headers=bearer).status_code == 303
    assert visitor.get("/events", headers=bearer).status_code == 401
    own = bearer | {"sec-fetch-site": "same-origin"}
    assert visitor.post("/change", data={"csrf": ""}, headers=own).status_code == 303
    assert application.changed == 0


def test_metrics_are_open_on_the_loopback_and_need_the_token_beyond(tmp_path, visitor, application):
    assert visitor.get("/metrics").text == "one 1\n"
    (tmp_path / "closed").mkdir()
    with served(tmp_path / "closed", open_metrics=False) as closed, client(closed) as other:
        assert other.get("/metrics").status_code == 401
        bearer = {"authorization": f"Bearer {closed.rules.token.read()}"}
        assert other.get("/metrics", headers=bearer).text == "one 1\n"
        assert other.get("/metrics", headers={"authorization": "Bearer x"}).status_code == 401


def test_health_and_readiness_are_open(visitor, application):
    assert visitor.get("/healthz").text == "ok\n"
    assert visitor.get("/readyz").text == "ready\n"
    application.shell.ready = lambda: False
    assert visitor.get("/readyz").status_code == 503


def test_a_taken_address_is_refused_with_what_to_do(application):
    server = PageServer(None, "127.0.0.1", application.server.port, remedy="name another with --page")
    with (
        pytest.raises(
            ConfigError, match=r"expected a free address of this machine; found 127\.0\.0\.1, port"
        ) as told,
        server,
    ):
        pass
    assert told.value.remedy == "name another with --page"


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("192.0.2.7", False), ("localhost.example", False)],
)  # fmt: skip
def test_what_only_this_machine_reaches(host, local):
    assert is_loopback(host) is local
