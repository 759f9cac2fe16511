"""STOW-RS: instances over HTTP, each into the spool as it comes (PS3.18 10.5).

POST /dicom-web/studies[/{study}], multipart/related of application/dicom parts, with a bearer token. The answer is the
standard's: 200 where all were stored, 202 where some were, 409 where none was; 400, 401, 413 and 415 for requests that
are none of these; 503 where the disk has no room or too many send at once. An instance that is refused does not
hold up the others; one that cannot be named is told under OtherFailuresSequence.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fedimg.dicom.arrival import Arrival, is_uid
from fedimg.dicom.refusal import Quarantined
from fedimg.errors import ConfigError, FedimgError
from fedimg.web.access import AccessToken, WrongTries
from fedimg.web.headers import hardened
from fedimg.web.serving import PageServer, is_loopback
from sites.watch.multipart import MultipartError, MultipartParser, boundary_of
from sites.watch.spool import Full, OfAnotherStudy, Received, Spool
from sites.watch.statuses import OUT_OF_RESOURCES, status_of
from sites.watch.stow_body import DICOM, Body, RefusedRequest, StowLimits

STUDIES: Final = "/dicom-web/studies"
_JSON: Final = "application/dicom+json"


class StowApp:
    """The ASGI application. Raises nothing into its server; of a fault nothing but its status is told."""

    def __init__(
        self,
        token: AccessToken,
        spool: Spool,
        on_received: Callable[[Received], None],
        on_released: Callable[[frozenset[str]], None],
        limits: StowLimits | None = None,
    ) -> None:
        self._token, self._spool, self._limits = token, spool, limits or StowLimits()
        self._on_received, self._on_released = on_received, on_released
        self._tries, self._within = WrongTries(), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": hardened(message.get("headers", []))}
            await send(message)

        self._within += 1
        try:
            response = await self._answer(Request(scope, receive))
        except RefusedRequest as refused:
            response = Response(status_code=refused.status, headers={"connection": "close"} | refused.headers)
        except (ClientDisconnect, asyncio.CancelledError):
            return
        except Exception:  # noqa: BLE001 - its text may quote anything
            self._spool.counts.add("faults")
            response = Response(status_code=HTTPStatus.INTERNAL_SERVER_ERROR, headers={"connection": "close"})
        finally:
            self._within -= 1
        await response(scope, receive, strict)

    async def _answer(self, request: Request) -> Response:
        if self._within > self._limits.at_once:
            raise RefusedRequest(HTTPStatus.SERVICE_UNAVAILABLE, {"retry-after": "5"})
        self._check_token(request)
        study = _study_of(request)
        body = Body(self._spool, self._parser(request), study, self._limits, self._on_received)
        try:
            stream = aiter(request.stream())
            while (piece := await self._piece(stream)) is not None:
                await run_in_threadpool(body.feed, piece)
            if not body.parser.ended or not body.parts:
                raise MultipartError("a body without an end")
        except MultipartError:
            raise RefusedRequest(HTTPStatus.BAD_REQUEST) from None
        finally:
            body.end()
        if body.stored:
            studies = frozenset(received.arrival.study_uid for received in body.stored)
            await run_in_threadpool(self._on_released, studies)
        return _response(body)

    async def _piece(self, stream: AsyncIterator[bytes]) -> bytes | None:
        try:
            async with asyncio.timeout(self._limits.silent_s):
                return await anext(stream, None)
        except TimeoutError:
            raise RefusedRequest(HTTPStatus.REQUEST_TIMEOUT) from None

    def _check_token(self, request: Request) -> None:
        """Before anything of the body is read."""
        address = request.client.host if request.client is not None else ""
        if wait := self._tries.wait_s(address):
            raise RefusedRequest(HTTPStatus.TOO_MANY_REQUESTS, {"retry-after": str(wait)})
        kind, _, said = request.headers.get("authorization", "").partition(" ")
        try:
            matches = kind.lower() == "bearer" and self._token.matches(said.strip())
        except FedimgError:  # the token's file cannot be read: nobody may send
            raise RefusedRequest(HTTPStatus.SERVICE_UNAVAILABLE) from None
        if not matches:
            self._tries.note(address)
            raise RefusedRequest(HTTPStatus.UNAUTHORIZED, {"www-authenticate": "Bearer"})
        self._tries.forget(address)

    def _parser(self, request: Request) -> MultipartParser:
        """By the headers; nothing packed, nothing too long by its own account."""
        try:
            media, inner, boundary = boundary_of(request.headers.get("content-type", ""))
        except MultipartError:
            raise RefusedRequest(HTTPStatus.BAD_REQUEST) from None
        packed = request.headers.get("content-encoding", "identity").lower() != "identity"
        if media != "multipart/related" or inner != DICOM or packed:
            raise RefusedRequest(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        said = request.headers.get("content-length", "0")
        if not (said.isascii() and said.isdigit()) or int(said[:20]) > self._limits.request_bytes:
            raise RefusedRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return MultipartParser(boundary)


def _study_of(request: Request) -> str | None:
    """The study that the path names. Raises RefusedRequest for another path or way to ask."""
    path = str(request.scope["path"])
    study = path.removeprefix(STUDIES).removeprefix("/")
    if not path.startswith(STUDIES) or path not in (STUDIES, f"{STUDIES}/{study}"):
        raise RefusedRequest(HTTPStatus.NOT_FOUND)
    if study and not is_uid(study):
        raise RefusedRequest(HTTPStatus.BAD_REQUEST)
    if request.method != "POST":
        raise RefusedRequest(HTTPStatus.METHOD_NOT_ALLOWED, {"allow": "POST"})
    return study or None


def _response(body: Body) -> Response:
    """The Store Instances Response Module (PS3.18 table I.1-1)."""
    document: dict[str, Any] = {}
    named = [refusal for refusal in body.failed if isinstance(refusal, OfAnotherStudy)]
    others = [refusal for refusal in body.failed if not isinstance(refusal, OfAnotherStudy)]
    for tag, items in (
        ("00081198", [_reference(one.arrival) | _reason(one) for one in named]),  # FailedSOPSequence
        ("00081199", [_reference(one.arrival) for one in body.stored]),  # ReferencedSOPSequence
        ("0008119A", [_reason(one) for one in others]),  # OtherFailuresSequence
    ):
        if items:
            document[tag] = {"vr": "SQ", "Value": items}
    status = HTTPStatus.ACCEPTED if body.failed else HTTPStatus.OK
    if not body.stored:
        full = any(status_of(refusal) == OUT_OF_RESOURCES for refusal in body.failed)
        status = HTTPStatus.SERVICE_UNAVAILABLE if full else HTTPStatus.CONFLICT
    return Response(json.dumps(document), status, media_type=_JSON)


def _reference(arrival: Arrival) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [arrival.sop_class]},
        "00081155": {"vr": "UI", "Value": [arrival.sop_uid]},
    }


def _reason(refusal: Quarantined | Full) -> dict[str, Any]:
    return {"00081197": {"vr": "US", "Value": [status_of(refusal)]}}


@dataclass(frozen=True, slots=True)
class StowSettings:
    """Attributes: host, port: to listen on; port 0 takes a free one. token: file of the bearer token, made where there
    is none. tls: key and certificate; without, this machine's own address only.
    """

    host: str
    port: int
    token: Path
    tls: tuple[Path, Path] | None = None
    limits: StowLimits = field(default_factory=StowLimits)

    def __post_init__(self) -> None:
        """Raises ConfigError where a token and images would go over a network in the clear."""
        if self.tls is None and not is_loopback(self.host):
            remedy = "name a certificate under stow.tls, or 127.0.0.1"
            raise ConfigError("TLS beyond this machine", "none", remedy)


class StowServer:
    """Serves while it is entered; the arguments are those of `DicomScp`."""

    def __init__(
        self,
        settings: StowSettings,
        spool: Spool,
        on_received: Callable[[Received], None],
        on_released: Callable[[frozenset[str]], None],
    ) -> None:
        app: ASGIApp = StowApp(AccessToken(settings.token), spool, on_received, on_released, settings.limits)
        remedy = "name another address under stow.address"
        self._server = PageServer(app, settings.host, settings.port, tls=settings.tls, remedy=remedy)

    @property
    def port(self) -> int:
        """That it listens on, once it is entered."""
        return self._server.port

    def __enter__(self) -> Self:
        """Raises ConfigError, DataError as `PageServer` does."""
        self._server.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._server.__exit__(*reason)
