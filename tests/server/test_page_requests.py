"""Requests made from the page's own OpenAPI schema: whatever is asked, nothing answers with a fault (5xx)."""

import json
import shutil
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from server.membership import Federation
from server.model_registry import ModelRegistry
from server.registry import Registry, Stage
from tests.server.conftest import FINISHED, QUEUED, RUNNING, STOPPED, Made, Visitor
from tests.web.headers import strict

_CASES = 60  # of each route
_RUNS = (RUNNING, FINISHED, STOPPED, QUEUED)
_AS_OFTEN = settings(
    max_examples=_CASES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def walked(schema, check, runs=_RUNS, digests=()):
    """Each route with generated requests and, where it takes a run or a model, with real ones; how many requests."""
    real = {"run": runs, "digest": digests}
    return sum(walk(found.ok(), check, real) for found in schema.get_all_operations())


def first_of_each(headers):
    return {name: values[0] for name, values in headers.items()}


def walk(operation, check, real):
    asked = []

    @_AS_OFTEN
    @given(case=operation.as_strategy())
    def ask(case):
        check(case)
        asked.append(1)
        for name, known in real.items():
            for one in known if f"{{{name}}}" in operation.path else ():
                case.path_parameters = {name: one}
                check(case)
                asked.append(1)

    ask()
    return len(asked)


def test_no_request_of_somebody_who_is_logged_in_finds_a_fault(inside, made, facts_once, capsys):
    with ModelRegistry(made.root) as models:
        models.add(facts_once, "ada")
    cookies = "; ".join(f"{name}={value}" for name, value in inside.cookies.items())
    own = {"cookie": cookies, "sec-fetch-site": "same-origin"}
    csrf = inside.form(inside.get("/").text, "/logout")
    schema = schemathesis.openapi.from_dict(inside.get("/api/openapi.json").json())
    schema.config.update(base_url=inside.origin)
    paths = {found.ok().label for found in schema.get_all_operations()}
    assert paths == {
        "GET /", "GET /runs/{run}", "GET /runs/{run}/report.html", "POST /runs/{run}/stop", "POST /runs/{run}/resume",
        "GET /api/federation", "GET /api/sites", "GET /api/runs", "GET /api/runs/{run}",
        "GET /models", "GET /models/{digest}", "POST /models/{digest}/release", "POST /models/{digest}/withdraw",
        "GET /api/models", "GET /api/models/{digest}",
        "GET /drift", "GET /drift/{name}",
    }  # fmt: skip

    def check(case):
        form = {"data": csrf} if case.method == "POST" else {}
        answer = case.call(headers=own, allow_redirects=False, **form)
        assert strict(first_of_each(answer.headers))
        json_ = case.path.startswith("/api/")
        checks = [not_a_server_error] + (
            [response_schema_conformance, status_code_conformance] if json_ else []
        )
        case.validate_response(answer, checks=checks)

    count = walked(schema, check, digests=(facts_once.digest,))
    assert [one for one, _ in made.told if one == "page fault"] == []
    with capsys.disabled():
        print(f"\n{count} requests by schema, no fault")
    registry = Registry(made.root)
    assert {entry.stage for entry in registry.all()} <= set(Stage)
    registry.close()


def test_no_request_without_a_login_finds_a_fault_or_anything_else(visitor, made):
    schema = schemathesis.openapi.from_dict(openapi(made))
    schema.config.update(base_url=visitor.origin)

    def check(case):
        answer = case.call(allow_redirects=False)
        assert strict(first_of_each(answer.headers))
        assert answer.status_code in (303, 401)
        assert RUNNING not in answer.text

    walked(schema, check, (RUNNING,))


def openapi(made):
    import httpx

    with made.page().serve("127.0.0.1", 0) as server:
        own = {"authorization": f"Bearer {made.token()}"}
        return httpx.get(f"http://127.0.0.1:{server.port}/api/openapi.json", headers=own).json()


@settings(_AS_OFTEN, max_examples=400)
@given(st.data())
def test_no_other_request_finds_a_fault_either(served_once, data):
    """Any method, any text in a path, any query, any form."""
    visitor, csrf = served_once
    parts = st.sampled_from(
        ["runs", "models", "api", "events", "stop", "login", "static", RUNNING, "..", "%00", "%ff"]
    )
    path = "/" + "/".join(data.draw(st.lists(parts | st.text(max_size=8).map(quote), max_size=4)))
    fields = data.draw(
        st.dictionaries(st.sampled_from(["csrf", "token", "x"]), st.text(max_size=8), max_size=3)
    )
    form = fields | ({"csrf": csrf} if data.draw(st.booleans()) else {})
    method = data.draw(st.sampled_from(["GET", "POST", "POST", "PUT", "DELETE", "HEAD", "TRACE", "PATCH"]))
    query = quote(data.draw(st.text(max_size=8)))
    own = {"sec-fetch-site": "same-origin"}
    body = {"data": form} if method == "POST" and path != "/logout" else {}
    if path.endswith("/events"):
        method = "POST"
    answer = visitor.request(
        method, f"{visitor.origin}{path}?x={query}", headers=own, follow_redirects=False, **body
    )
    assert answer.status_code < 500
    assert strict(answer.headers)


@pytest.fixture(scope="module")
def served_once(made_once, tmp_path_factory):
    root = tmp_path_factory.mktemp("served") / "net"
    shutil.copytree(made_once.root, root)
    made = Made(Federation(root))
    with (
        made.page().serve("127.0.0.1", 0) as server,
        Visitor(base_url=f"http://127.0.0.1:{server.port}", timeout=10) as visitor,
    ):
        visitor.log_in(made.token())
        yield visitor, visitor.form(visitor.get("/").text, "/logout")["csrf"]


@pytest.mark.parametrize(
    "path", ["/%00", "/runs/%00", "/api/runs/%ff", "/runs/..%2f..%2fetc", "//", "/runs/" + "a" * 9000, "/?a=%00", "/api/runs/%F0%9F%92%A9"]
)  # fmt: skip
def test_odd_paths_are_not_found(inside, path):
    answer = inside.get(path)
    assert answer.status_code in (200, 404, 414, 431)
    assert strict(answer.headers)
    assert json.dumps(answer.text)
