"""A stream of bytes of any length for one reader, in flat memory: authentic, whole, in order, or refused.

    8       b"fedarch" and the version, 1
    1 + n   the purpose, ASCII, behind its length
    80      a fresh key of 32 bytes, sealed for the reader under that purpose: HPKE (RFC 9180, `sealing`)
    then pieces of 65,536 bytes and a tag of 16; the last one may be shorter, and is never empty

A piece is ChaCha20-Poly1305 (RFC 8439, an AEAD of RFC 5116) under the fresh key. Its nonce is three zeros, 1 for the last
piece and 0 for the others, and the piece's number in 8 bytes, big endian, so that no two pieces have one and a stream
that was cut or lengthened has no last piece in its place (STREAM: Hoang, Reyhanitabar, Rogaway and Vizár 2015). The
SHA-256 of everything before the pieces is bound to each as associated data.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fedimg.crypto.keys import KEY_BYTES
from fedimg.crypto.sealing import OVERHEAD, SealingKey, seal
from fedimg.errors import DataError

MAGIC = b"fedarch\x01"
PIECE = 1 << 16
TAG = 16
_SEALED_KEY = KEY_BYTES + OVERHEAD
_REMEDY = "ask its maker for the file again, and name the key that it was made for"


class SealedWriter:
    """Seals what is written for the holder of one X25519 key. Nothing is whole before `close`.

    Raises DataError for bytes that are no public key.
    """

    def __init__(self, out: BinaryIO, public_bytes: bytes, purpose: str) -> None:
        key, named = secrets.token_bytes(KEY_BYTES), purpose.encode("ascii")
        sealed = seal(key, public_bytes, purpose=_purpose(purpose))
        header = MAGIC + bytes([len(named)]) + named + sealed
        self.header_digest = hashlib.sha256(header).digest()
        self._out, self._cipher, self._number = out, ChaCha20Poly1305(key), 0
        self._waiting = bytearray()
        out.write(header)

    def write(self, data: bytes | memoryview) -> None:
        """Add to the stream."""
        self._waiting += data
        done = 0
        while (
            len(self._waiting) - done > PIECE
        ):  # a full piece may be the last one, so it waits for what follows
            self._put(bytes(self._waiting[done : done + PIECE]), last=False)
            done += PIECE
        del self._waiting[:done]

    def close(self) -> None:
        """Write the last piece; the file itself stays open. Raises ValueError for an empty stream."""
        if not self._waiting:
            raise ValueError
        self._put(bytes(self._waiting), last=True)
        self._waiting.clear()

    def _put(self, piece: bytes, *, last: bool) -> None:
        self._out.write(self._cipher.encrypt(_nonce(self._number, last=last), piece, self.header_digest))
        self._number += 1


class SealedReader:
    """Opens what a `SealedWriter` made for this key and purpose; every byte that it returns is authentic.

    Raises DataError from each of its methods for another key, purpose or content, cut or changed anywhere.
    """

    def __init__(self, source: BinaryIO, key: SealingKey, purpose: str) -> None:
        self._source, self._number = source, 0
        start = self._exactly(len(MAGIC) + 1)
        if start[:-1] != MAGIC:
            raise DataError("a sealed file of fedimg, version 1", "another file", _REMEDY)
        named = self._exactly(start[-1])
        if named != purpose.encode("ascii"):
            raise DataError(f"a sealed file for the purpose {purpose!r}", "one for another purpose", _REMEDY)
        sealed = self._exactly(_SEALED_KEY)
        self.header_digest = hashlib.sha256(start + named + sealed).digest()
        self._cipher = ChaCha20Poly1305(key.open(sealed, purpose=_purpose(purpose)))
        self._piece, self._at = b"", 0
        self._ahead = source.read(PIECE + TAG)

    def read(self, length: int) -> bytes:
        """Exactly so many bytes."""
        found = bytearray()
        while len(found) < length:
            if self._at == len(self._piece):
                self._next()
            taken = self._piece[self._at : self._at + length - len(found)]
            self._at += len(taken)
            found += taken
        return bytes(found)

    def end(self) -> None:
        """Nothing is left."""
        if self._ahead or self._at != len(self._piece):
            raise _changed()

    def _next(self) -> None:
        sealed, self._ahead = self._ahead, self._source.read(PIECE + TAG)
        if len(sealed) <= TAG:
            raise _changed()
        nonce = _nonce(self._number, last=not self._ahead)
        try:
            self._piece = self._cipher.decrypt(nonce, sealed, self.header_digest)
        except InvalidTag:
            raise _changed() from None
        self._number, self._at = self._number + 1, 0

    def _exactly(self, length: int) -> bytes:
        found = self._source.read(length)
        if len(found) != length:
            raise _changed()
        return found


def _nonce(number: int, *, last: bool) -> bytes:
    return bytes([0, 0, 0, last]) + number.to_bytes(8, "big")


def _purpose(purpose: str) -> str:
    return f"sealed stream: {purpose}"


def _changed() -> DataError:
    return DataError("a sealed file as it was written", "one that was cut or changed", _REMEDY)
