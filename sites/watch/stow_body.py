"""The body of one STOW-RS request: each part grows in the spool and is taken when it is whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine
from sites.watch.multipart import MultipartParser, PartBegin, PartData, boundary_of
from sites.watch.spool import Draft, Full, Received, Spool

DICOM: Final = "application/dicom"
_SOURCE: Final = "stow"


@dataclass(frozen=True, slots=True)
class StowLimits:
    """Attributes: request_bytes, instances: of one request. at_once: requests. silent_s: between two pieces of a body."""

    request_bytes: int = 8 << 30
    instances: int = 20_000
    at_once: int = 4
    silent_s: float = 60.0


class RefusedRequest(Exception):
    """A request that gets nothing but this."""

    def __init__(self, status: HTTPStatus, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.headers = status, headers or {}


@dataclass(slots=True)
class Body:
    """One request's, or one answer's, part by part; worked off by threads, one at a time.

    Attributes:
        source: who brought it. study, instance: UIDs that every part must have, where they were named.
    """

    spool: Spool
    parser: MultipartParser
    study: str | None
    limits: StowLimits
    on_received: Callable[[Received], None]
    source: str = _SOURCE
    instance: str | None = None
    stored: list[Received] = field(default_factory=list)
    failed: list[Quarantined | Full] = field(default_factory=list)
    size: int = 0
    parts: int = 0
    draft: Draft | None = None

    def feed(self, data: bytes) -> None:
        """Raises MultipartError, RefusedRequest."""
        self.size += len(data)
        if self.size > self.limits.request_bytes:
            raise RefusedRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        for event in self.parser.feed(data):
            if isinstance(event, PartBegin):
                self._begin(event)
            elif isinstance(event, PartData):
                self._write(event.content)
            else:
                self._take()

    def end(self) -> None:
        """What is not whole goes."""
        if self.draft is not None:
            self.draft.discard()
            self.draft = None

    def _begin(self, part: PartBegin) -> None:
        self.parts += 1
        if self.parts > self.limits.instances:
            raise RefusedRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        media, _, _ = boundary_of(part.headers.get("content-type", DICOM))
        coded = part.headers.get("content-transfer-encoding", "binary").lower()
        try:
            if media != DICOM or coded not in ("binary", "8bit"):
                raise Quarantined(Quarantine.NOT_AN_IMAGE, "a part that is not application/dicom")
            self.draft = self.spool.draft()
        except (Quarantined, Full) as refusal:
            self.spool.refuse(refusal)
            self.failed.append(refusal)

    def _write(self, content: bytes) -> None:
        try:
            if self.draft is not None:
                self.draft.write(content)
        except (Quarantined, Full) as refusal:
            self.draft = None
            self.spool.refuse(refusal)
            self.failed.append(refusal)

    def _take(self) -> None:
        draft, self.draft = self.draft, None
        if draft is None:
            return
        try:
            received = self.spool.take(draft, self.source, self.study, self.instance)
        except (Quarantined, Full) as refusal:
            self.failed.append(refusal)
            return
        self.stored.append(received)
        self.on_received(received)
