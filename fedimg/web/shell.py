"""An application of the shell's own routes (login, health, metrics, style, script) and an application's routes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response

from fedimg.web import frame, refusal
from fedimg.web.access import Session
from fedimg.web.events import Parts, Streams
from fedimg.web.frame import MOST_NAME, Around, Visit
from fedimg.web.guard import Guard, Rules, check_token
from fedimg.web.refusal import LOGIN, Refused

_NAME = re.compile(rf"[^\x00-\x1f\x7f-\x9f]{{1,{MOST_NAME}}}")
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class Shell:
    """One application's.

    Attributes:
        brand: what the bar of every page says. command: what prints the token, for the login form.
        ready: whether the application does its work. metrics: Prometheus' text; None where there is none.
        around: links and notice of every page. named: who logs in says who that is, for an audit trail.
    """

    brand: str
    rules: Rules
    command: str = ""
    ready: Callable[[], bool] = lambda: True
    metrics: Callable[[], bytes] | None = None
    streams: Streams = field(default_factory=Streams)
    around: Around = field(default_factory=Around)
    named: bool = False

    def app(self, *routers: APIRouter) -> Guard:
        """The whole application, guarded."""
        app = FastAPI(
            title=self.brand, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
        )
        for router in (self._routes(), *routers):
            app.include_router(router)

        @app.get("/api/openapi.json", include_in_schema=False)
        def schema() -> JSONResponse:
            return JSONResponse(app.openapi())

        app.add_exception_handler(Refused, _refused)
        app.add_exception_handler(HTTPException, _refused)
        app.add_exception_handler(RequestValidationError, _refused)
        return Guard(app, self.rules)

    def page(
        self, request: Request, title: str, sections: list[Any], events: str = "", here: str = ""
    ) -> HTMLResponse:
        """A page of this application for whoever has logged in; `here`: the link in the bar that it belongs to."""
        session = session_of(request)
        visit = Visit(session.csrf, events, session.who)
        whole = frame.document(
            f"{title} – {self.brand}", sections, brand=self.brand, visit=visit, around=self.around, here=here
        )
        return HTMLResponse(whole)

    def stream(self, request: Request, parts: Parts) -> Response:
        """Events for whoever has logged in, as long as the session lasts."""
        rules, name = self.rules, request.cookies.get(self.rules.session_cookie, "")
        return self.streams.of(parts, lambda: rules.sessions.find(name, rules.token.generation()) is not None)

    def _routes(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        router.add_api_route(LOGIN, self._login_form, methods=["GET"])
        router.add_api_route(LOGIN, self._login, methods=["POST"])
        router.add_api_route("/logout", self._logout, methods=["POST"])
        router.add_api_route("/healthz", _healthy, methods=["GET"])
        router.add_api_route("/readyz", self._readiness, methods=["GET"])
        router.add_api_route("/metrics", self._metrics, methods=["GET"])
        router.add_api_route("/static/page.css", _style, methods=["GET"])
        router.add_api_route("/static/page.js", _script, methods=["GET"])
        return router

    def _login_form(self, fault: str = "", status: int = HTTPStatus.OK) -> Response:
        cookie = self.rules.forms.new_cookie()
        csrf = self.rules.forms.csrf(cookie)
        content = frame.login_page(self.brand, csrf, self.command, fault, named=self.named)
        answer = HTMLResponse(content, status)
        self._set_cookie(answer, self.rules.login_cookie, cookie, 3600)
        return answer

    async def _login(self, request: Request) -> Response:
        """Which form it was, the guard has settled."""
        rules, form = self.rules, request.state.form
        named = " ".join(form.get("username", "").split()) if self.named else ""
        if self.named and not _NAME.fullmatch(named):
            return self._login_form(
                f"Say who you are, in up to {MOST_NAME} characters.", HTTPStatus.BAD_REQUEST
            )
        try:
            check_token(rules, request, form.get("token", "").strip())
        except Refused as refused:
            answer = self._login_form(refused.text, refused.status)
            answer.headers.update(refused.headers)
            return answer
        if former := request.cookies.get(rules.session_cookie):
            rules.sessions.end(former)
        name = rules.sessions.begin(rules.token.generation(), named)
        answer = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        self._set_cookie(answer, rules.session_cookie, name, int(rules.sessions.lifetime_s))
        self._set_cookie(answer, rules.login_cookie, "", 0)
        return answer

    async def _logout(self, request: Request) -> Response:
        self.rules.sessions.end(request.cookies.get(self.rules.session_cookie, ""))
        answer = RedirectResponse(LOGIN, HTTPStatus.SEE_OTHER)
        self._set_cookie(answer, self.rules.session_cookie, "", 0)
        return answer

    def _set_cookie(self, answer: Response, name: str, value: str, seconds: int) -> None:
        answer.set_cookie(
            name, value, max_age=seconds, path="/", secure=self.rules.secure, httponly=True, samesite="strict"
        )

    def _readiness(self) -> Response:
        ready = self.ready()
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return PlainTextResponse("ready\n" if ready else "not ready\n", status)

    def _metrics(self) -> Response:
        if self.metrics is None:
            raise Refused(HTTPStatus.NOT_FOUND, "There are no metrics here.")
        return Response(self.metrics(), headers={"content-type": METRICS_TYPE})


def metrics_app(rules: Rules, metrics: Callable[[], bytes]) -> Guard:
    """An application of /metrics and /healthz alone, for a process that has no pages."""

    def found() -> Response:
        return Response(metrics(), headers={"content-type": METRICS_TYPE})

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_api_route("/metrics", found, methods=["GET"], response_class=Response)
    app.add_api_route("/healthz", _healthy, methods=["GET"], response_class=Response)
    app.add_exception_handler(HTTPException, _refused)
    return Guard(app, rules)


def session_of(request: Request) -> Session:
    """Raises Refused where a program asks for a page."""
    session = request.state.session
    if not isinstance(session, Session):
        raise Refused(HTTPStatus.UNAUTHORIZED, "Log in first.")
    return session


def _healthy() -> Response:
    return PlainTextResponse("ok\n")


def _style() -> Response:
    return Response(frame.style_sheet(), media_type="text/css")


def _script() -> Response:
    return Response(frame.script(), media_type="text/javascript")


async def _refused(request: Request, fault: Exception) -> Response:
    """What a route or the framework refuses, without quoting the request."""
    if isinstance(fault, HTTPException):
        text = {404: "There is nothing here.", 405: "Not a way to ask."}.get(fault.status_code, "Refused.")
        fault = Refused(fault.status_code, text, fault.headers or {})
    if not isinstance(fault, Refused):
        fault = Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "Not of the form that /api/openapi.json describes.")
    return refusal.answer(fault, request.scope["path"])
