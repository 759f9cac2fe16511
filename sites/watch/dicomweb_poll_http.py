"""Questions to an archive (QIDO-RS, PS3.18 10.6) and images from it (WADO-RS, PS3.18 10.4), each within a time and a size.

https with verified certificates, plain http to this machine only; no redirection, no proxy, no cookie, nothing of the
environment. A body must come at a least rate: who sends a byte a second is left after `answer_s`. Neither an address nor
a word of what was answered is repeated in an error: what went wrong has a name of this program.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx

from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine
from sites.watch.counts import Counts
from sites.watch.dicomweb_poll_answers import Level, Page, Row, page_of
from sites.watch.dicomweb_poll_trouble import Trouble, Unanswered, refuse_unless_answered
from sites.watch.multipart import MultipartError, MultipartParser, boundary_of
from sites.watch.posting import Endpoint
from sites.watch.spool import Full, Received, Spool
from sites.watch.stow_body import DICOM, Body, RefusedRequest, StowLimits

SOURCE: Final = "poll"
_JSON: Final = "application/dicom+json"
_RELATED: Final = f'multipart/related; type="{DICOM}"; transfer-syntax=*'
_FRAME: Final = 1 << 16  # bytes that may stand around the one part of an answer
_BARREN: Final = 10  # pages without a row that can be used, before the list is taken to end


class Fetched(StrEnum):
    """What became of an image that was asked for: on the disk, or refused for good; both are counted."""

    TAKEN = "taken"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class AskLimits:
    """Attributes:

    answer_s: for status and headers; a body has as long again, and a second more for each `least_bytes_s` of it.
    longest_s: for one image, or one list of all its pages, whatever their rate.
    page: rows that are asked for at once. page_bytes: of an answer to a search. rows: of a list.
    at_once: images under way.
    """

    answer_s: float = 60.0
    least_bytes_s: int = 1 << 16
    longest_s: float = 900.0
    page: int = 100
    page_bytes: int = 16 << 20
    rows: int = 50_000
    at_once: int = 4


class Session:
    """One round's connections to an archive. Every question is counted, and every one without an answer by its trouble."""

    def __init__(self, client: httpx.AsyncClient, url: str, limits: AskLimits, counts: Counts) -> None:
        self._client, self._base, self._limits, self._counts = client, url.rstrip("/"), limits, counts

    async def search(
        self, level: Level, parents: tuple[str, ...], query: Mapping[str, str], holds: int = -1
    ) -> list[Row]:
        """All rows, page by page, each UID once. Archives that ignore limit or offset, or send less than was asked for
        without a word, are read to their end as well. Raises Unanswered.

        Args:
            parents: UIDs of study and series; checked ones. holds: how many there should be, where that is known.
        """
        path, found, offset, barren = _path(parents, level), dict[str, Row](), 0, 0
        end = time.monotonic() + self._limits.longest_s
        while True:
            asked = {**query, "limit": str(self._limits.page), "offset": str(offset)}
            page = await self._page(path, asked, level, parents)
            if page.misnamed:
                self._counts.add("poll.misnamed", page.misnamed)
            fresh = {row.uid: row for row in page.rows if row.uid not in found}
            found |= fresh
            offset += page.said
            barren = 0 if fresh else barren + 1
            if len(found) > self._limits.rows or time.monotonic() > end:
                trouble = Trouble.TOO_LARGE if len(found) > self._limits.rows else Trouble.SLOW
                self._counts.add(f"poll.failed.{trouble}")
                raise Unanswered(trouble)
            repeated = not fresh and (not page.misnamed or barren >= _BARREN)
            if repeated or (page.said < self._limits.page and 0 <= holds <= len(found)):
                return list(found.values())

    async def fetch(
        self, uids: tuple[str, str, str], spool: Spool, on_received: Callable[[Received], None]
    ) -> Fetched:
        """An image into the spool as it comes. Raises Unanswered, Full.

        Args:
            uids: of study, series and instance; checked ones. Another object than this one is refused.
        """
        limits = StowLimits(request_bytes=spool.limits.arrival.file_bytes + _FRAME, instances=1)
        path = _path(uids[:2], Level.INSTANCE) + f"/{uids[2]}"
        body: Body | None = None
        try:
            async with self._asked(path, None, _RELATED) as answer:
                if answer.length() > limits.request_bytes:
                    what = f"more than the limit of {spool.limits.arrival.file_bytes} bytes"
                    spool.refuse(Quarantined(Quarantine.UNSAFE_STRUCTURE, what))
                    return Fetched.REFUSED
                body = Body(spool, answer.parser(), uids[0], limits, on_received, SOURCE, uids[2])
                await _fill(body, answer)
        except Unanswered:
            if body is None or not body.stored:  # what is on the disk is there, however the answer ends
                raise
        if body.stored:
            return Fetched.TAKEN
        for refusal in body.failed:
            if isinstance(refusal, Full):
                raise refusal
        return Fetched.REFUSED

    async def _page(
        self, path: str, query: Mapping[str, str], level: Level, parents: tuple[str, ...]
    ) -> Page:
        async with self._asked(path, query, _JSON) as answer:
            if answer.status == 204:
                return Page((), 0, 0)
            if answer.media() not in (_JSON, "application/json"):
                raise Unanswered(Trouble.MALFORMED)
            body = bytearray()
            async with aclosing(answer.pieces(self._limits.page_bytes)) as pieces:
                async for piece in pieces:
                    body += piece
            try:
                return page_of(bytes(body), level, parents)
            except ValueError:
                raise Unanswered(Trouble.MALFORMED) from None

    @asynccontextmanager
    async def _asked(
        self, path: str, query: Mapping[str, str] | None, accept: str
    ) -> AsyncIterator[_Answering]:
        """Raises Unanswered for all that comes between, by the answer's reader too."""
        self._counts.add("poll.asked")
        try:
            async with asyncio.timeout(self._limits.answer_s) as end:
                asked = self._client.stream(
                    "GET", self._base + path, params=query, headers={"accept": accept}
                )
                async with asked as response:
                    said = response.headers
                    refuse_unless_answered(response.status_code, said.get("retry-after", ""))
                    if said.get("content-encoding", "identity").lower() != "identity":
                        raise Unanswered(Trouble.MALFORMED)
                    yield _Answering(response, end, self._limits)
        except Unanswered as fault:
            self._counts.add(f"poll.failed.{fault.trouble}")
            raise
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:  # TimeoutError is an OSError
            trouble = _trouble_of(error)
            self._counts.add(f"poll.failed.{trouble}")
            raise Unanswered(trouble) from None


@asynccontextmanager
async def session(
    endpoint: Endpoint, context: ssl.SSLContext, headers: Mapping[str, str], limits: AskLimits, counts: Counts
) -> AsyncIterator[Session]:
    """Args:

    headers: with the authorization. context: of `Endpoint.context`, made once.
    """
    sent = {"accept-encoding": "identity", "user-agent": "fedimg"} | dict(headers)
    kept = httpx.Limits(
        max_connections=limits.at_once, max_keepalive_connections=limits.at_once, keepalive_expiry=0.5
    )  # archives close what is idle for a second or more
    async with httpx.AsyncClient(
        verify=context,
        headers=sent,
        timeout=endpoint.timeout_s,
        limits=kept,
        follow_redirects=False,
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    ) as client:
        yield Session(client, endpoint.url, limits, counts)


class _Answering:
    """An answer whose status was 200 or 204. end: when it is given up."""

    def __init__(self, response: httpx.Response, end: asyncio.Timeout, limits: AskLimits) -> None:
        self._response, self._end, self._limits = response, end, limits
        self.status = response.status_code

    def media(self) -> str:
        """Raises Unanswered for one that is none."""
        return self._typed()[0]

    def parser(self) -> MultipartParser:
        """Raises Unanswered for another media type than was asked for."""
        media, inner, boundary = self._typed()
        if self.status != 200 or media != "multipart/related" or inner != DICOM:
            raise Unanswered(Trouble.MALFORMED)
        return MultipartParser(boundary)

    def length(self) -> int:
        """As it says itself; 0 where it does not."""
        said = self._response.headers.get("content-length", "")
        return int(said[:20]) if said.isascii() and said.isdigit() else 0

    async def pieces(self, most: int) -> AsyncGenerator[bytes, None]:
        """Raises Unanswered beyond `most` bytes."""
        begun, size = asyncio.get_running_loop().time(), 0
        self._end.reschedule(begun + self._limits.answer_s)
        async for piece in self._response.aiter_raw():
            size += len(piece)
            if size > most:
                raise Unanswered(Trouble.TOO_LARGE)
            longest = min(self._limits.answer_s + size / self._limits.least_bytes_s, self._limits.longest_s)
            self._end.reschedule(begun + longest)
            yield piece

    def _typed(self) -> tuple[str, str, bytes]:
        try:
            return boundary_of(self._response.headers.get("content-type", ""))
        except MultipartError:
            raise Unanswered(Trouble.MALFORMED) from None


async def _fill(body: Body, answer: _Answering) -> None:
    """Until the one part is stored or refused. Raises Unanswered for a body without one."""
    try:
        async with aclosing(answer.pieces(body.limits.request_bytes)) as pieces:
            behind = 0
            async for piece in pieces:
                if body.stored:  # a few bytes to the end, so that the connection can be used again
                    behind += len(piece)
                    if behind > _FRAME:
                        return
                    continue
                body.feed(piece)
                if body.failed:
                    return
    except (MultipartError, RefusedRequest):
        if not body.stored:
            raise Unanswered(Trouble.MALFORMED) from None
    finally:
        body.end()
    if not body.stored:
        raise Unanswered(Trouble.MALFORMED)


def _path(parents: tuple[str, ...], level: Level) -> str:
    names = ("studies", "series", "instances")
    above = "".join(f"/{name}/{uid}" for name, uid in zip(names, parents, strict=False))
    return f"{above}/{names[list(Level).index(level)]}"


def _trouble_of(error: BaseException) -> Trouble:
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLError):
                return Trouble.CERTIFICATE
            cause = cause.__cause__ or cause.__context__
        return Trouble.NO_CONNECTION
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return Trouble.SLOW
    return Trouble.BROKEN
