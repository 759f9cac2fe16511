"""A small application on the shell, served on the loopback."""

import re
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from fedimg.report.markup import element
from fedimg.web import frame
from fedimg.web.access import AccessToken
from fedimg.web.guard import Rules
from fedimg.web.serving import PageServer, own_names
from fedimg.web.shell import Shell, session_of


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@dataclass
class Application:
    """What the tests hold of it. `text`: what its page shows. `changed`: how often its button was pressed."""

    shell: Shell
    clock: Clock
    text: str = "first"
    changed: int = 0
    faults: list = field(default_factory=list)
    server: PageServer | None = None

    @property
    def rules(self):
        return self.shell.rules

    @property
    def origin(self):
        return f"http://127.0.0.1:{self.server.port}"

    def routes(self):
        router = APIRouter()

        def parts():
            return {"text": frame.part("text", element("p", self.text))}

        @router.get("/")
        def first(request: Request):
            button = frame.button("/change", "Change", session_of(request).csrf)
            return self.shell.page(request, "First", [*parts().values(), button], "/events")

        @router.get("/events")
        def events(request: Request):
            return self.shell.stream(request, parts)

        @router.post("/change")
        def change():
            self.changed += 1
            return PlainTextResponse("changed")

        @router.get("/broken")
        def broken():
            raise RuntimeError("SECRET VALUE")

        @router.get("/number/{number}")
        def number(number: int):
            return number

        @router.get("/api/thing")
        def thing() -> list[int]:
            return [1, 2]

        return router


@contextmanager
def served(folder, *, secure=False, open_metrics=True, **streams):
    clock = Clock()
    token = AccessToken(folder / "page.token")
    rules = Rules(token, own_names("127.0.0.1"), secure=secure, cookie="shell", open_metrics=open_metrics)
    rules.sessions.clock = rules.tries.clock = clock
    shell = Shell("Tests", rules, "print-token", metrics=lambda: b"one 1\n")
    for name, value in streams.items():
        setattr(shell.streams, name, value)
    application = Application(shell, clock)
    rules.fault = application.faults.append
    with PageServer(
        shell.app(application.routes()), "127.0.0.1", 0, ending=shell.streams.closing.set
    ) as server:
        application.server = server
        yield application


@pytest.fixture
def application(tmp_path):
    with served(tmp_path) as found:
        yield found


def client(application):
    return httpx.Client(base_url=application.origin, timeout=10)


@pytest.fixture
def visitor(application):
    """Not logged in."""
    with client(application) as found:
        yield found


def csrf_of(answer):
    return re.search(r'name="csrf" value="([^"]*)"', answer.text).group(1)


def send(visitor, path, fields, **headers):
    """A form, as a browser sends it from the page's own origin."""
    return visitor.post(
        path, data=fields, headers={"sec-fetch-site": "same-origin", "origin": "null"} | headers
    )


def log_in(visitor, application):
    form = csrf_of(visitor.get("/login"))
    return send(visitor, "/login", {"csrf": form, "token": application.rules.token.read()})


@pytest.fixture
def inside(visitor, application):
    assert log_in(visitor, application).status_code == 303
    return visitor
