"""What stands before Flower's code: the members' routes and nothing else, members' keys, bodies of a limited size.

Nothing here believes a key: that the request is signed with it is checked behind the gate. But what no member claims to
have sent is neither read nor parsed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Container

from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
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


class _TooLong(Exception):
    pass


class Gate:
    """ASGI middleware: 404 for other routes, 401 for who is no member, 413 for a body of more than `most_bytes`."""

    def __init__(self, app: ASGIApp, keys: Callable[[], Container[bytes]], most_bytes: int) -> None:
        self._app, self._keys, self._most = app, keys, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if (refused := self._refused(scope)) is not None:
            await refused(scope, receive, send)
            return
        had, over = 0, False

        async def counted() -> Message:
            nonlocal had, over
            message = await receive()
            had += len(message.get("body", b""))
            if had > self._most:
                over = True
                raise _TooLong
            return message

        async def sent(message: Message) -> None:
            if not over:  # what Flower makes of it is not the answer
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
        try:
            key = base64.b64decode(headers.get(FLEET_HTTP_PUBLIC_KEY_HEADER, ""), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if key not in self._keys():
            return _plain("not a member", 401)
        declared = headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared) > self._most:
            return _plain("too long", 413)
        return None


def _plain(text: str, status: int) -> PlainTextResponse:
    """After which the connection is closed: what else was on its way is not read."""
    return PlainTextResponse(text, status_code=status, headers={"connection": "close"})
