"""What stands before Flower's code: the members' routes and nothing else, members' keys, bodies of a limited size.

Flower checks that a request is signed after it has read and parsed all of it. Here that comes first, by Flower's own
rules (the signature is of the time in the header): what no member has signed is neither read nor parsed, nor counted as a
member's. What Flower leaves out is that an answer comes from who signed the request (`own_answers`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Container
from datetime import datetime

from fastapi import HTTPException
from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_HEADER, TIMESTAMP_TOLERANCE
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, verify_signature
from starlette.datastructures import Headers
from starlette.middleware.base import RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ROUTES = frozenset(
    f"/v1/fleet/{name}"
    for name in (
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "push-object",
        "pull-object",
        "confirm-message-received",
    )
)
# On which a message's parts travel: what else a member asks says that it is there, not that it gets on.
_PARTS = frozenset({"/v1/fleet/push-object", "/v1/fleet/pull-object"})
_PIECE, _MOST_ELSE = 1 << 18, 1 << 20


class _TooLong(Exception):
    pass


class Gate:
    """ASGI middleware: 404 for other routes, 401 for who is no member or did not sign, 413 for a body that is too long.

    `most_bytes` is of a part of a message; whatever else is asked has at most 1 MiB.

    `moved` hears of a member's key with each piece of a message's parts that came from it or went to it.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Callable[[], Container[bytes]],
        most_bytes: int,
        moved: Callable[[bytes], None] = lambda _key: None,
    ) -> None:
        self._app, self._keys, self._most, self._moved = app, keys, most_bytes, moved

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if (refused := self._refused(scope)) is not None:
            await refused(scope, receive, send)
            return
        had, over, most = 0, False, self._most_of(scope)
        key = _key_in(scope) if scope["path"] in _PARTS else b""

        async def counted() -> Message:
            nonlocal had, over
            message = await receive()
            had += len(message.get("body", b""))
            if key:
                self._moved(key)
            if had > most:
                over = True
                raise _TooLong
            return message

        async def sent(message: Message) -> None:
            if over:  # what Flower makes of it is not the answer
                return
            if not key or message["type"] != "http.response.body":
                await send(message)
                return
            # in pieces, each of which waits for the line: so it shows that a large one is on its way
            body, more = message.get("body", b""), message.get("more_body", False)
            for start in range(0, len(body), _PIECE):
                last = start + _PIECE >= len(body)
                await send({**message, "body": body[start : start + _PIECE], "more_body": more or not last})
                self._moved(key)
            if not body:
                await send(message)

        try:
            await self._app(scope, counted, sent)
        except _TooLong:
            over = True
        if over:
            await _plain("too long", 413)(scope, receive, send)

    def _refused(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        if scope["path"] not in ROUTES or scope["method"] != "POST":
            return _plain("not here", 404)
        if (key := _key_in(scope)) not in self._keys() or not _signed(headers, key):
            return _plain("not a member", 401)
        declared = headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared) > self._most_of(scope):
            return _plain("too long", 413)
        return None

    def _most_of(self, scope: Scope) -> int:
        return self._most if scope["path"] in _PARTS else min(self._most, _MOST_ELSE)


def _key_in(scope: Scope) -> bytes:
    """The key that a request names; empty for none."""
    try:
        named = Headers(scope=scope).get(FLEET_HTTP_PUBLIC_KEY_HEADER, "")
        return base64.b64decode(named, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _signed(headers: Headers, key: bytes) -> bool:
    """Whether the member of that key has signed the time of this request, and that is now."""
    try:
        signature = base64.b64decode(headers.get(FLEET_HTTP_SIGNATURE_HEADER, ""), validate=True)
        stamp = headers.get(TIMESTAMP_HEADER, "")
        age = (now() - datetime.fromisoformat(stamp)).total_seconds()
        fresh = -SYSTEM_TIME_TOLERANCE < age < TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE
        return fresh and verify_signature(bytes_to_public_key(key), stamp.encode("ascii"), signature)
    except (binascii.Error, ValueError, TypeError):
        return False


async def own_answers(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """403 for an answer in another member's name: Flower compares it with who was asked, not with who signed."""
    pushed = getattr(request.state, "protobuf_request", None)
    if isinstance(pushed, PushMessagesRequest):
        senders = [message.metadata.src_node_id for message in pushed.messages_list]
        if senders != [pushed.node.node_id]:
            raise HTTPException(403, "another member's answer")
    return await call_next(request)


def _plain(text: str, status: int) -> PlainTextResponse:
    """After which the connection is closed: what else was on its way is not read."""
    return PlainTextResponse(text, status_code=status, headers={"connection": "close"})
