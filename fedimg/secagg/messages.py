"""The byte layout of a secure sum's messages: fixed, versioned, checked before use.

magic 4 | version u16 | kind 4 | context 32 | sender u16 | rows u32 | rows of one size, little endian

The context binds a message to run, roster, plan and sum. Rows that name sites do so by their place among the
roster's sorted names, ascending, so that one list has one encoding.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedimg.errors import MessageError
from fedimg.secagg.encoding import word_type
from fedimg.values import MaskedUpdate, Words

MAGIC, VERSION = b"FSUM", 1
_HEADER = struct.Struct("<4sH4s32sHI")
COORDINATOR = 0xFFFF
"""The sender of what comes from the coordinator."""

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A message that is a list of rows; `named`: the first field of each is a site, ascending."""

    kind: bytes
    row: struct.Struct
    named: bool = True

    def pack(self, context: bytes, sender: int, rows: Sequence[Row]) -> bytes:
        header = _HEADER.pack(MAGIC, VERSION, self.kind, context, sender, len(rows))
        return header + b"".join(self.row.pack(*row) for row in rows)

    def unpack(self, context: bytes, sender: int, data: bytes, most: int) -> list[Row]:
        """The rows of a message of this kind, context and sender, at most `most` of them. Raises MessageError."""
        count, body = _opened(self.kind, context, sender, data)
        if count > most or len(body) != count * self.row.size:
            raise _refuse(self.kind, f"{count} rows in {len(body)} bytes")
        rows = list(self.row.iter_unpack(body))
        if self.named and any(not a[0] < b[0] for a, b in itertools.pairwise(rows)):
            raise _refuse(self.kind, "sites that are named twice or out of order")
        return rows


# A site's signed keys: cipher public key, mask public key, commitment to the seed, signature.
KEYS = Table(b"KEYS", struct.Struct("<H32s32s32s64s"))
# Sealed shares: for, or from, a site. All zeros: none.
SHARES = Table(b"SHAR", struct.Struct("<H82s"))
# What a masked input is, by digest and signature: of each survivor.
SURVIVORS = Table(b"SURV", struct.Struct("<H32s64s"))
# A survivor's signature over what everybody must have seen alike.
CONFIRMATIONS = Table(b"CONF", struct.Struct("<H64s"))
# For the how many-th drop-out a survivor's noise is not needed, and its key.
EXCESS = Table(b"EXCS", struct.Struct("<H32s"))
# A share that is opened: of which site, in which role.
OPENED = Table(b"OPEN", struct.Struct("<Hc33s"))

SEED, MASK_KEY = b"S", b"K"
"""The roles of an opened share: of a survivor its seed, of another its mask key. Never both."""

_INPUT, _SIGNATURE = b"MASK", 64


def split_excess(data: bytes) -> tuple[bytes, bytes]:
    """An answer of the last exchange: opened shares, and behind them keys of excess noise, or b"". Raises MessageError."""
    if len(data) < _HEADER.size:
        raise _refuse(OPENED.kind, f"{len(data)} bytes")
    end = _HEADER.size + _HEADER.unpack_from(data)[-1] * OPENED.row.size
    return data[:end], data[end:]


def pack_input(context: bytes, sender: int, signature: bytes, masked: MaskedUpdate) -> bytes:
    """A masked input: its signature, then its words."""
    header = _HEADER.pack(MAGIC, VERSION, _INPUT, context, sender, masked.words.size)
    return b"".join((header, signature, masked.to_bytes()))


def unpack_input(context: bytes, sender: int, data: bytes, size: int, word_bits: int) -> tuple[bytes, Words]:
    """(signature, words) of a masked input of `size` words. Raises MessageError."""
    kind = word_type(word_bits)
    count, body = _opened(_INPUT, context, sender, data)
    if count != size or len(body) != _SIGNATURE + size * kind.itemsize:
        raise _refuse(_INPUT, f"{count} words in {len(body)} bytes")
    return bytes(body[:_SIGNATURE]), np.frombuffer(body[_SIGNATURE:], dtype=kind)


def _opened(kind: bytes, context: bytes, sender: int, data: bytes) -> tuple[int, memoryview]:
    if len(data) < _HEADER.size:
        raise _refuse(kind, f"{len(data)} bytes")
    magic, version, found, bound, by, count = _HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION or found != kind:
        raise _refuse(kind, "another kind or version")
    if bound != context:
        raise _refuse(kind, "one of another run, plan or sum")
    if by != sender:
        raise _refuse(kind, "one in another sender's name")
    return count, memoryview(data)[_HEADER.size :]


def _refuse(kind: bytes, found: str) -> MessageError:
    return MessageError(
        f"a {kind.decode()} message of version {VERSION} of this secure sum",
        found,
        "the message was discarded",
    )
