"""The byte layout of every message: fixed, versioned, checked before use, never pickled.

magic 4 | version u16 | kind 4 | header length u32 | header JSON | values, float32 little endian
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedimg.errors import MessageError

Vector = npt.NDArray[np.float64]
# Many rounds of such updates still fit a float32, in which models travel.
_LARGEST = 1e15


def pack(kind: bytes, header: Mapping[str, Any], vector: npt.NDArray[Any]) -> bytes:
    """Fixed layout: magic 4 | version u16 | kind 4 | header length u32 | header JSON | float32 LE."""
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    body = np.ascontiguousarray(vector, dtype="<f4").tobytes()
    return b"FIMG" + struct.pack("<H4sI", 1, kind, len(text)) + text + body


def unpack(kind: bytes, data: bytes, size: int | None) -> tuple[dict[str, Any], Vector]:
    """Inverse of `pack`: the header and (P,) finite values. `size` is the agreed P, None where any will do.

    Raises:
        MessageError: anything else than a whole message of this kind and version.
    """

    def refuse(found: str) -> MessageError:
        return MessageError(f"a {kind.decode()} message of version 1", found, "the message was discarded")

    if len(data) < 14 or data[:4] != b"FIMG":
        raise refuse("bytes that are not a fedimg message")
    version, found_kind, length = struct.unpack("<H4sI", data[4:14])
    if version != 1 or found_kind != kind:
        raise refuse(f"version {version}, kind {found_kind!r}")
    if length > min(len(data) - 14, 1 << 20):
        raise refuse("a header longer than the message or 1 MiB")
    try:
        header = json.loads(data[14 : 14 + length])
    except (ValueError, RecursionError):  # a deeply nested header exhausts the parser
        raise refuse("a header that is not JSON") from None
    body = data[14 + length :]
    if not isinstance(header, dict) or len(body) % 4 or (size is not None and len(body) != 4 * size):
        raise refuse(f"{len(body)} bytes of values where {size} values were agreed")
    vector = np.frombuffer(body, dtype="<f4").astype(np.float64)
    if not (np.abs(vector) <= _LARGEST).all():
        raise refuse("values that are not finite, or beyond any that training has")
    return header, vector


def typed(header: Mapping[str, Any], name: str, kind: type) -> Any:
    """A header's field, of exactly this type; raises MessageError."""
    value = header.get(name)
    if type(value) is not kind:
        raise MessageError(
            f"{name} of type {kind.__name__}", type(value).__name__, "the message was discarded"
        )
    return value
