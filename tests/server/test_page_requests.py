"""Requests made from the page's own OpenAPI schema: whatever is asked, nothing answers with a fault (5xx)."""

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.openapi.checks import response_schema_conformance, status_code_conformance

from server.registry import Registry, Stage
from tests.server.conftest import FINISHED, QUEUED, RUNNING, STOPPED
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


def walked(schema, check, runs=_RUNS):
    """Each route with generated requests and, where it takes a run, with real ones; how many requests."""
    count = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        def ask(case, operation=operation):
            nonlocal count
            for run in (None, *runs):
                if run is not None:
                    if "{run}" not in operation.path:
                        break
                    case.path_parameters = {"run": run}
                check(case)
                count += 1

        from hypothesis import given

        _AS_OFTEN(given(case=operation.as_strategy())(lambda case, ask=ask: ask(case)))()
    return count


def test_no_request_of_somebody_who_is_logged_in_finds_a_fault(inside, made, capsys):
    cookies = "; ".join(f"{name}={value}" for name, value in inside.cookies.items())
    own = {"cookie": cookies, "sec-fetch-site": "same-origin"}
    csrf = inside.form(inside.get("/").text, "/logout")
    schema = schemathesis.openapi.from_dict(inside.get("/api/openapi.json").json())
    schema.config.update(base_url=inside.origin)
    paths = {found.ok().label for found in schema.get_all_operations()}
    assert paths == {
        "GET /", "GET /runs/{run}", "GET /runs/{run}/report.html", "POST /runs/{run}/stop", "POST /runs/{run}/resume",
        "GET /api/federation", "GET /api/sites", "GET /api/runs", "GET /api/runs/{run}",
    }  # fmt: skip

    def check(case):
        form = {"data": csrf} if case.method == "POST" else {}
        answer = case.call(headers=own, allow_redirects=False, **form)
        assert strict(answer.headers)
        json_ = case.path.startswith("/api/")
        checks = [not_a_server_error] + (
            [response_schema_conformance, status_code_conformance] if json_ else []
        )
        case.validate_response(answer, checks=checks)

    count = walked(schema, check)
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
        assert strict(answer.headers)
        assert answer.status_code in (303, 401)
        assert RUNNING not in answer.text

    walked(schema, check, (RUNNING,))


def openapi(made):
    import httpx

    with made.page().serve("127.0.0.1", 0) as server:
        own = {"authorization": f"Bearer {made.token()}"}
        return httpx.get(f"http://127.0.0.1:{server.port}/api/openapi.json", headers=own).json()


@pytest.mark.parametrize(
    "path", ["/%00", "/runs/%00", "/api/runs/%ff", "/runs/..%2f..%2fetc", "//", "/runs/" + "a" * 9000, "/?a=%00", "/api/runs/%F0%9F%92%A9"]
)  # fmt: skip
def test_odd_paths_are_not_found(inside, path):
    answer = inside.get(path)
    assert answer.status_code in (200, 404, 414, 431)
    assert strict(answer.headers)
    assert json.dumps(answer.text)
