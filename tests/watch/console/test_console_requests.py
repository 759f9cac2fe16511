"""Requests made from the console's own OpenAPI schema: whatever is asked, nothing answers with a fault (5xx)."""

from contextlib import closing

import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.server.test_page_requests import _AS_OFTEN, first_of_each
from tests.watch.console.conftest import Made, Store, Visitor, fill, key_of
from tests.web.headers import strict

_OFTEN = settings(_AS_OFTEN, max_examples=25)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with closing(Store(tmp_path_factory.mktemp("served"))) as store:
        fill(store)
        made = Made(store)
        with (
            made.console().serve(port=0) as server,
            Visitor(base_url=f"http://127.0.0.1:{server.port}", timeout=10) as visitor,
        ):
            visitor.log_in(made.token())
            yield made, visitor


def walk(schema, check, real):
    asked = []

    def walk_one(operation):
        @_OFTEN
        @given(case=operation.as_strategy())
        def ask(case):
            check(case)
            asked.append(1)
            for name, value in real.items():
                if f"{{{name}}}" in operation.path:
                    case.path_parameters = {**case.path_parameters, name: value}
                    check(case)
                    asked.append(1)

        ask()

    for found in schema.get_all_operations():
        walk_one(found.ok())
    return len(asked)


def test_no_request_of_somebody_who_is_logged_in_finds_a_fault(served, capsys):
    made, inside = served
    cookies = "; ".join(f"{name}={value}" for name, value in inside.cookies.items())
    own = {"cookie": cookies, "sec-fetch-site": "same-origin"}
    csrf = inside.form(inside.get("/").text, "/logout")
    schema = schemathesis.openapi.from_dict(inside.get("/api/openapi.json").json())
    schema.config.update(base_url=inside.origin)
    paths = {found.ok().label for found in schema.get_all_operations()}
    assert paths == {
        "GET /", "GET /studies/{study}", "GET /alerts", "GET /results/{job}/{name}", "GET /queue", "GET /drift",
        "GET /calibration", "GET /models", "GET /ledger", "POST /alerts/{alert}/acknowledge",
        "POST /alerts/{alert}/confirm", "POST /alerts/{alert}/dismiss", "POST /studies/{study}/read",
        "POST /studies/{study}/label", "POST /deliveries/{delivery}/again",
        "GET /api/worklist", "GET /api/studies/{study}", "GET /api/alerts", "GET /api/queue",
    }  # fmt: skip
    alert = made.one("SELECT key FROM alert WHERE state = 'raised'")[0]

    def check(case):
        form = {"data": csrf | {"reason": "artefact"}} if case.method == "POST" else {}
        answer = case.call(headers=own, allow_redirects=False, **form)
        assert strict(first_of_each(answer.headers))
        json_ = case.path.startswith("/api/")
        checks = [not_a_server_error] + (
            [response_schema_conformance, status_code_conformance] if json_ else []
        )
        case.validate_response(answer, checks=checks)

    real = {"study": key_of(2), "alert": alert, "delivery": 3, "job": 1, "name": "preview.png"}
    count = walk(schema, check, real)
    assert [one for one, _ in made.told if one == "console fault"] == []
    with capsys.disabled():
        print(f"\n{count} requests by schema, no fault")


@settings(_AS_OFTEN, max_examples=200)
@given(st.data())
def test_no_other_request_finds_a_fault_either(served, data):
    from urllib.parse import quote

    _, visitor = served
    parts = st.sampled_from(
        ["studies", "alerts", "api", "results", "1", "sr.dcm", "read", key_of(1), "..", "%00", "%ff"]
    )
    path = "/" + "/".join(data.draw(st.lists(parts | st.text(max_size=8).map(quote), max_size=4)))
    names = st.sampled_from(["show", "first", "state", "finding", "x"])
    query = data.draw(st.dictionaries(names, st.text(max_size=20), max_size=3))
    answer = visitor.get(path, params=query, follow_redirects=False)
    assert answer.status_code < 500
    assert strict(answer.headers)
