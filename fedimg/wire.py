"""The byte layout of every message: fixed, versioned, checked before use, never pickled.

magic 4 | version u16 | kind 4 | header length u32 | header JSON | values, little endian: float32, in version 2 float64
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
_VALUES = {1: "<f4", 2: "<f8"}


def pack(kind: bytes, header: Mapping[str, Any], vector: npt.NDArray[Any], *, exact: bool = False) -> bytes:
    """The layout above; `exact`: version 2."""
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    version = 2 if exact else 1
    body = np.ascontiguousarray(vector, dtype=_VALUES[version]).tobytes()
    return b"FIMG" + struct.pack("<H4sI", version, kind, len(text)) + text + body


def unpack(kind: bytes, data: bytes, size: int | None) -> tuple[dict[str, Any], Vector]:
    """Inverse of `pack`: the header and (P,) finite values. `size` is the agreed P, None where any will do.

    Raises:
        MessageError: anything else than a whole message of this kind and version.
    """

    def refuse(found: str) -> MessageError:
        return MessageError(
            f"a {kind.decode()} message of version 1 or 2", found, "the message was discarded"
        )

    if len(data) < 14 or data[:4] != b"FIMG":
        raise refuse("bytes that are not a fedimg message")
    version, found_kind, length = struct.unpack("<H4sI", data[4:14])
    if version not in _VALUES or found_kind != kind:
        raise refuse(f"version {version}, kind {found_kind!r}")
    if length > min(len(data) - 14, 1 << 20):
        raise refuse("a header longer than the message or 1 MiB")
    try:
        header = json.loads(data[14 : 14 + length])
    except (ValueError, RecursionError):  # a deeply nested header exhausts the parser
        raise refuse("a header that is not JSON") from None
    body, values = data[14 + length :], np.dtype(_VALUES[version])
    width = values.itemsize
    if not isinstance(header, dict) or len(body) % width or (size is not None and len(body) != width * size):
        raise refuse(f"{len(body)} bytes of values where {size} values were agreed")
    vector = np.frombuffer(body, dtype=values).astype(np.float64)
    if not (np.abs(vector) <= _LARGEST).all():
        raise refuse("values that are not finite, or beyond any that training has")
    return header, vector


def counts(header: Mapping[str, Any], name: str) -> dict[str, int]:
    """A header's field of whole numbers by name; empty where it is missing. Raises MessageError."""
    found = header.get(name, {})
    if type(found) is not dict or not all(type(value) is int for value in found.values()):
        raise MessageError(f"{name} of whole numbers", "others", "the message was discarded")
    return found


def typed(header: Mapping[str, Any], name: str, kind: type) -> Any:
    """A header's field, of exactly this type; raises MessageError."""
    value = header.get(name)
    if type(value) is not kind:
        raise MessageError(
            f"{name} of type {kind.__name__}", type(value).__name__, "the message was discarded"
        )
    return value
