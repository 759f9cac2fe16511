"""Results to an archive by STOW-RS (PS3.18 10.5): multipart/related (RFC 2387), streamed from the disk."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from fedimg.crypto.keys import read_private
from fedimg.errors import DataError
from sites.watch.deliveries import Delivery, Undelivered
from sites.watch.posting import Answer, Endpoint, Poster, refuse_unless_taken
from sites.watch.storage_status import Verdict, verdict

_PIECE: Final = 1 << 18
_MOST_ANSWER: Final = 1 << 22
_FAILED, _REFERENCED, _REASON = "00081198", "00081199", "00081197"
_LOOK: Final = "look at the archive's log"


class Stow:
    """One archive's `…/studies`. Raises ConfigError for an endpoint whose files cannot be used.

    Args:
        token: sent as `Authorization: Bearer`; "" for none.
    """

    kind = "stow"

    def __init__(self, endpoint: Endpoint, token: str = "") -> None:
        self._poster = Poster(endpoint)
        self._authorization = {"authorization": f"Bearer {token}"} if token else {}

    def deliver(self, delivery: Delivery) -> None:
        """All files in one request. Raises Undelivered unless all were stored, warnings included."""
        boundary = secrets.token_hex(16)
        try:
            sizes = [path.stat().st_size for path in delivery.paths]
        except OSError:
            remedy = "was it deleted after it was written?"
            raise Undelivered("a file that is gone", remedy, permanent=True) from None
        length = sum(sizes) + len(sizes) * (len(_head(boundary)) + 2) + len(_tail(boundary))
        headers = {
            "accept": "application/dicom+json",
            "content-type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "content-length": str(length),
        }
        pieces = _pieces(delivery.paths, sizes, boundary)
        answer = self._poster.post(self._authorization | headers, pieces, _MOST_ANSWER)
        refuse_unless_stored(answer, len(delivery.paths))


def read_token(path: Path) -> str:
    """One line of visible ASCII in a file of mode 0600. Raises DataError."""
    remedy = "write the token alone into a file of mode 0600"
    text = read_private(path, remedy).decode("ascii", "replace").strip()
    if not 0 < len(text) <= 4096 or not all("!" <= letter <= "~" for letter in text):
        raise DataError("a token of visible letters on one line", "another text", remedy)
    return text


def refuse_unless_stored(answer: Answer, files: int) -> None:
    """By PS3.18 table 10.5.3-1: 200 stored, 202 stored with warnings or failures, 409 none stored. Raises Undelivered.

    What failed is judged by its Failure Reason: permanent where each of them is.
    """
    if answer.status not in (200, 202, 409):
        refuse_unless_taken(answer)
        return
    response = _parsed(answer.body)
    if response is None:
        if answer.status == 200 and not answer.body.strip():
            return  # stored, says its status; it says nothing else
        raise Undelivered(f"status {answer.status} with an answer that cannot be read", _LOOK)
    reasons = [_number(item, _REASON) for item in _items(response, _FAILED)]
    failed = [reason for reason in reasons if verdict(reason) is not Verdict.STORED]
    if failed:
        words = ", ".join(sorted({f"0x{reason:04X}" for reason in failed}))
        permanent = all(verdict(reason) is Verdict.REFUSED for reason in failed)
        raise Undelivered(f"{len(failed)} of {files} objects refused: {words}", _LOOK, permanent=permanent)
    stored = len(_items(response, _REFERENCED)) + len(reasons)
    if stored < files or answer.status == 409:
        raise Undelivered(f"{stored} of {files} objects stored, and no reason for the others", _LOOK)


def _head(boundary: str) -> bytes:
    return f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()


def _tail(boundary: str) -> bytes:
    return f"--{boundary}--\r\n".encode()


def _pieces(paths: Sequence[Path], sizes: Sequence[int], boundary: str) -> Iterator[bytes]:
    """The body. Raises Undelivered where a file is not as long as it was said to be: nothing of it counts then."""
    for path, size in zip(paths, sizes, strict=True):
        yield _head(boundary)
        left = size
        with path.open("rb") as file:
            while left >= 0 and (piece := file.read(_PIECE)):
                left -= len(piece)
                if left >= 0:
                    yield piece
        if left:
            raise Undelivered("a file that was changed while it was sent", "who writes there?")
        yield b"\r\n"
    yield _tail(boundary)


def _parsed(body: bytes) -> dict[str, Any] | None:
    """A data set of the DICOM JSON model (PS3.18 annex F), by itself or as an array of one; None for anything else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    return found if isinstance(found, dict) else None


def _items(response: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    element = response.get(tag)
    value = element.get("Value") if isinstance(element, dict) else None
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _number(item: dict[str, Any], tag: str) -> int:
    """0x0110, a processing failure, where there is none."""
    element = item.get(tag)
    value = element.get("Value") if isinstance(element, dict) else None
    first = value[0] if isinstance(value, list) and value else None
    return first if type(first) is int and 0 <= first < 1 << 16 else 0x0110
