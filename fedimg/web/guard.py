"""The gate before an application: host, size, time, login, origin and CSRF are settled before a route sees a request.

Guarantee: a route behind it runs only for a request that names one of this page's own hosts; with a session, unless
its path is one of the few open ones; and, where it changes anything (POST), with that session's CSRF token in a form
that was sent from this page's own origin. Whatever a route does, the answer has the strict headers, and of a fault
nothing but its status is told.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fedimg.errors import FedimgError
from fedimg.web import refusal
from fedimg.web.access import AccessToken, LoginForms, Session, Sessions, WrongTries, same
from fedimg.web.headers import hardened
from fedimg.web.refusal import LOGIN, Refused

MOST_BYTES, MOST_FIELDS, BODY_S = 8192, 16, 10.0
MOST_AT_ONCE = 64
_OPEN = frozenset({LOGIN, "/healthz", "/readyz", "/static/page.css", "/static/page.js"})
# A v6 address in brackets or a name, and a port: nothing that could pass for the beginning of a path.
_HOST = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::[0-9]{1,5})?")
_FORM = "application/x-www-form-urlencoded"


@dataclass
class Rules:
    """What a guard goes by.

    Attributes:
        hosts: names under which this page is asked for, without a port. secure: served over TLS.
        cookie: its name; `__Host-` stands before it over TLS.
        open_metrics: /metrics answers without the token.
        fault: hears the kind of a fault in a route.
    """

    token: AccessToken
    hosts: frozenset[str]
    secure: bool = False
    cookie: str = "fedimg"
    open_metrics: bool = False
    fault: Callable[[str], None] = lambda _kind: None
    sessions: Sessions = field(default_factory=Sessions)
    tries: WrongTries = field(default_factory=WrongTries)
    forms: LoginForms = field(default_factory=LoginForms)

    @property
    def session_cookie(self) -> str:
        return f"{'__Host-' if self.secure else ''}{self.cookie}"

    @property
    def login_cookie(self) -> str:
        return f"{self.session_cookie}-login"


class Guard:
    """An ASGI application that lets through to another what the rules allow."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app, self._rules, self._within = app, rules, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        begun = False

        async def strict(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message = {**message, "headers": hardened(message.get("headers", []))}
            await send(message)

        self._within += 1
        try:
            await self._answer(scope, receive, strict)
        except Exception as fault:  # noqa: BLE001 - its text may quote anything; the kind is told, nothing else
            self._rules.fault(type(fault).__name__)
            if not begun:
                broken = Refused(
                    HTTPStatus.INTERNAL_SERVER_ERROR, "A fault of the program; its log says where."
                )
                await refusal.answer(broken, scope["path"])(scope, receive, strict)
        finally:
            self._within -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            if self._within > MOST_AT_ONCE:
                raise Refused(
                    HTTPStatus.SERVICE_UNAVAILABLE, "Too many requests at once.", {"retry-after": "5"}
                )
            check_host(request, self._rules.hosts)
            session = self._session(request)
            form: Mapping[str, str] = {}
            if request.method == "POST":
                form = await self._form(request, session)
                receive = _nothing_more(receive)
            elif request.method not in ("GET", "HEAD"):
                raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "Not a way to ask.", {"allow": "GET, POST"})
        except Refused as refused:
            await refusal.answer(refused, scope["path"])(scope, receive, send)
            return
        except FedimgError:
            away = Refused(
                HTTPStatus.SERVICE_UNAVAILABLE, "The token's file cannot be read; nobody can log in."
            )
            await refusal.answer(away, scope["path"])(scope, receive, send)
            return
        state = {**scope.get("state", {}), "session": session, "form": form}
        await self._app({**scope, "state": state}, receive, send)

    def _session(self, request: Request) -> Session | None:
        """Who asks; None only for what is open, and for a program with the token. Raises Refused."""
        rules, path = (
            self._rules,
            str(request.scope["path"]),
        )  # a URL would be put together with what Host says
        name = request.cookies.get(rules.session_cookie, "")
        session = rules.sessions.find(name, rules.token.generation()) if name else None
        if session is not None or path in _OPEN or (path == "/metrics" and rules.open_metrics):
            return session
        said = request.headers.get("authorization", "")
        by_program = path.startswith("/api/") or path == "/metrics"
        if by_program and request.method == "GET" and said[:7].lower() == "bearer ":
            check_token(rules, request, said[7:].strip())
            return None
        raise Refused(HTTPStatus.UNAUTHORIZED, "Log in first.", {"www-authenticate": "Bearer"})

    async def _form(self, request: Request, session: Session | None) -> Mapping[str, str]:
        """A form's fields, once it is known to come from this page. Raises Refused."""
        rules = self._rules
        check_origin(request, secure=rules.secure)
        form = await read_form(request)
        if request.scope["path"] == LOGIN:
            cookie = request.cookies.get(rules.login_cookie, "")
            expected = rules.forms.csrf(cookie) if cookie else None
        else:
            expected = session.csrf if session is not None else None
        if expected is None or not same(form.get("csrf", ""), expected):
            raise Refused(
                HTTPStatus.FORBIDDEN, "This form is not of your login, or too old. Open the page again."
            )
        return form


def check_host(request: Request, hosts: frozenset[str]) -> None:
    """Raises Refused for another host's name: someone may have pointed it at this machine. Ports may be forwarded.

    The address at which the request arrived is a name too: nobody can point that elsewhere.
    """
    said = request.headers.getlist("host")
    found = _HOST.fullmatch(said[0].lower()) if len(said) == 1 else None
    name = (found["six"] or found["name"]).removesuffix(".") if found is not None else ""
    arrived = (request.scope.get("server") or ("",))[0]
    if not name or name not in {*hosts, arrived}:
        raise Refused(HTTPStatus.MISDIRECTED_REQUEST, "This server is not known under that name.")


def check_origin(request: Request, *, secure: bool) -> None:
    """Raises Refused for a form that was not sent by a page of this very origin.

    Under `Referrer-Policy: no-referrer` browsers call the origin of a form "null"; then `Sec-Fetch-Site` tells.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    own = f"{'https' if secure else 'http'}://{request.headers.get('host', '')}".lower()
    from_here = site == "same-origin" if site is not None else origin is not None
    if (
        not from_here
        or (origin not in (None, "null") and origin.lower() != own)
        or (site is None and origin == "null")
    ):
        raise Refused(HTTPStatus.FORBIDDEN, "This form was sent from elsewhere.")


def check_token(rules: Rules, request: Request, said: str) -> None:
    """Raises Refused for a wrong token, and for any while there were too many wrong ones."""
    address = request.client.host if request.client is not None else ""
    if wait := rules.tries.wait_s(address):
        raise Refused(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"Too many wrong tokens. Try again in {wait} s.",
            {"retry-after": str(wait)},
        )
    if not rules.token.matches(said):
        rules.tries.note(address)
        raise Refused(HTTPStatus.UNAUTHORIZED, "This is not the token.", {"www-authenticate": "Bearer"})
    rules.tries.forget(address)


async def read_form(request: Request) -> Mapping[str, str]:
    """The fields of a short form. Raises Refused for a long, slow or other one."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Not a form.")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > MOST_BYTES:
                    raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The form is too long.")
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except TimeoutError:
        raise Refused(HTTPStatus.REQUEST_TIMEOUT, "The form did not arrive.") from None
    except ValueError:
        raise Refused(HTTPStatus.BAD_REQUEST, "The form cannot be read.") from None
    if len({name for name, _ in fields}) < len(fields):
        raise Refused(HTTPStatus.BAD_REQUEST, "The form says something twice.")
    return dict(fields)


def _nothing_more(receive: Receive) -> Receive:
    """The form was read: a route sees an empty body, then whatever comes."""
    given = False

    async def rest() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": b"", "more_body": False}
        return await receive()

    return rest
