"""Server-sent events: the parts of a page that have changed, to a bounded number of readers.

A reader that goes away, a session that ends and a server that ends all end the stream. Where there are too many, one
more is told to come back later; its page still loads.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from fedimg.report.markup import Markup
from fedimg.web.changes import Changes

Parts = Callable[[], Mapping[str, Markup]]


@dataclass
class Streams:
    """The open streams of one application.

    Attributes:
        most: at a time. look_s: between two looks at what has changed. beat_s: of silence before a heartbeat.
        changes: what tells of one before that. rest_s: between two looks even then, so that a page of which much
            changes does not keep a processor busy.
    """

    most: int = 16
    look_s: float = 1.0
    beat_s: float = 15.0
    changes: Changes | None = None
    rest_s: float = 0.03
    closing: threading.Event = field(default_factory=threading.Event)
    open: int = field(default=0, init=False)

    def of(self, parts: Parts, alive: Callable[[], bool]) -> Response:
        """A stream of the parts (id → element of that id); it ends when `alive` no longer holds."""
        return _EventStream(self, parts, alive)

    async def pause(self, number: int) -> None:
        """Until the next look is due; `number`: of the changes that the last one has seen for sure."""
        if self.changes is None:
            await asyncio.sleep(self.look_s)
            return
        await asyncio.sleep(self.rest_s)
        await self.changes.after(number, self.look_s)


class _EventStream(Response):
    media_type = "text/event-stream"

    def __init__(self, streams: Streams, parts: Parts, alive: Callable[[], bool]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._streams, self._parts, self._alive = streams, parts, alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        streams = self._streams
        if streams.open >= streams.most:
            detail = {"detail": "Too many readers."}
            await JSONResponse(detail, HTTPStatus.SERVICE_UNAVAILABLE, {"retry-after": "30"})(
                scope, receive, send
            )
            return
        streams.open += 1
        tasks = {asyncio.ensure_future(self._tell(send)), asyncio.ensure_future(_left(receive))}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            streams.open -= 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, send: Send) -> None:
        streams, known, heard = self._streams, dict[str, Markup](), time.monotonic()
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await _write(send, "retry: 5000\n\n")
        while self._alive() and not streams.closing.is_set():
            number = streams.changes.number if streams.changes is not None else 0
            found = await run_in_threadpool(self._parts)
            changed = {name: part for name, part in found.items() if known.get(name) != part}
            known |= changed
            for name, part in changed.items():
                await _write(send, f"event: part\ndata: {json.dumps({'id': name, 'html': part})}\n\n")
            now = time.monotonic()
            if changed:
                heard = now
            elif now - heard >= streams.beat_s:
                heard = now
                await _write(send, ": still here\n\n")
            await streams.pause(number)
        await _write(send, "event: end\ndata: {}\n\n")
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _write(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def _left(receive: Receive) -> None:
    """Until the reader has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
