"""multipart/related as it comes (RFC 2046 5.1, RFC 2387): parts' headers and contents, with nothing held but a window.

Strict: a delimiter line that goes on with anything but blanks, a header that is no header, an end that never comes are
refused. What is before the first and behind the last delimiter is not looked at, within limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Final

_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046 5.1.1
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):[ \t]*([\x20-\x7e\t]*)")
_LONGEST_HEAD, _LONGEST_PREAMBLE, _LONGEST_PADDING, _MOST_FIELDS = 8192, 4096, 256, 32


class MultipartError(Exception):
    """Bytes that are no multipart body; the request is refused as a whole. Its text quotes nothing."""


@dataclass(frozen=True, slots=True)
class PartBegin:
    """headers: by lower-case name."""

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PartData:
    """A piece of the part that began last."""

    content: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part that began last is whole."""


Event = PartBegin | PartData | PartEnd


def boundary_of(content_type: str) -> tuple[str, str, bytes]:
    """(media type, its `type` parameter, boundary) of a Content-Type; lower case but for the boundary.

    Raises MultipartError for a multipart type without a boundary of RFC 2046.
    """
    message = Message()
    message["content-type"] = content_type
    media, inner, boundary = (
        message.get_content_type(),
        message.get_param("type", ""),
        message.get_boundary(""),
    )
    if not isinstance(inner, str) or (media.startswith("multipart/") and not _BOUNDARY.fullmatch(boundary)):
        raise MultipartError("a multipart body without a boundary")
    return media, inner.lower(), boundary.encode("ascii", "replace")


class MultipartParser:
    """Fed with pieces of any size; what it says does not depend on where the pieces end, but for how data are cut."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        # The first delimiter may be the body's first bytes: the line break before it is ours then.
        self._window, self._skipped = bytearray(b"\r\n"), 0
        self._state = "preamble"

    @property
    def ended(self) -> bool:
        """Whether the last delimiter was there."""
        return self._state == "epilogue"

    def feed(self, data: bytes) -> Iterator[Event]:
        """Raises MultipartError; nothing can be fed after that."""
        step = {
            "preamble": self._preamble,
            "delimiter": self._behind_delimiter,
            "head": self._head,
            "content": self._content,
            "epilogue": self._epilogue,
        }
        self._window += data
        before = None
        while before != (before := (self._state, len(self._window))):
            yield from step[self._state]()

    def _preamble(self) -> list[Event]:
        at = self._window.find(self._delimiter)
        gone = at if at >= 0 else self._beyond_doubt()
        self._skipped += gone
        if self._skipped > _LONGEST_PREAMBLE:
            raise MultipartError("no part where the first one begins")
        del self._window[:gone]
        self._pass_delimiter(at)
        return []

    def _behind_delimiter(self) -> list[Event]:
        """Two hyphens end the body; blanks and a line break begin a part."""
        if self._window[:2] == b"--":
            self._state = "epilogue"
            return []
        end = self._window.find(b"\r\n")
        padding = bytes(self._window[:end]) if end >= 0 else bytes(self._window).removesuffix(b"\r")
        may_end = end < 0 and padding == b"-"
        if len(padding) > _LONGEST_PADDING or (padding.strip(b" \t") and not may_end):
            raise MultipartError("a delimiter that goes on")
        if end >= 0:
            del self._window[:end]  # the line break stays: a head without fields is two of them
            self._state = "head"
        return []

    def _head(self) -> list[Event]:
        end = self._window.find(b"\r\n\r\n")
        if (end if end >= 0 else len(self._window)) > _LONGEST_HEAD:
            raise MultipartError("headers of a part that are too long")
        if end < 0:
            return []
        lines = bytes(self._window[2:end]).split(b"\r\n") if end else []
        del self._window[: end + 4]
        self._state = "content"
        return [PartBegin(_fields(lines))]

    def _content(self) -> list[Event]:
        at = self._window.find(self._delimiter)
        ready = at if at >= 0 else self._beyond_doubt()
        events: list[Event] = [PartData(bytes(self._window[:ready]))] if ready else []
        del self._window[:ready]
        return [*events, PartEnd()] if self._pass_delimiter(at) else events

    def _epilogue(self) -> list[Event]:
        self._window.clear()
        return []

    def _pass_delimiter(self, at: int) -> bool:
        """Step over the delimiter that begins the window now, if there was one."""
        if at >= 0:
            del self._window[: len(self._delimiter)]
            self._state = "delimiter"
        return at >= 0

    def _beyond_doubt(self) -> int:
        """How much of the window cannot be the beginning of a delimiter."""
        return max(len(self._window) - len(self._delimiter) + 1, 0)


def _fields(lines: list[bytes]) -> dict[str, str]:
    """Header fields, each on one line and there once."""
    if len(lines) > _MOST_FIELDS:
        raise MultipartError("too many headers of a part")
    fields: dict[str, str] = {}
    for line in lines:
        found = _FIELD.fullmatch(line)
        name = found[1].decode().lower() if found is not None else ""
        if found is None or name in fields:
            raise MultipartError("headers of a part that are none")
        fields[name] = found[2].decode().strip()
    return fields
