"""Uniform bytes from a key: the ChaCha20 block function of RFC 8439 in counter mode."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

KEY_BYTES = 32
_ZEROS = memoryview(bytes(1 << 20))


class KeyStream:
    """The stream of a key from block 0 on, under a nonce of zeros, piece by piece.

    A key serves for one stream only. Whoever does not know the uniformly drawn `key` (32 bytes) cannot tell
    the stream from uniform bytes.
    """

    __slots__ = ("_encryptor",)

    def __init__(self, key: bytes) -> None:
        self._encryptor = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()

    def fill(self, out: memoryview) -> None:
        """Overwrite `out`, of single bytes, with the next of the stream."""
        for start in range(0, len(out), len(_ZEROS)):
            piece = out[start : start + len(_ZEROS)]
            self._encryptor.update_into(_ZEROS[: len(piece)], piece)


def keystream(key: bytes, out: memoryview) -> None:
    """Overwrite `out`, of single bytes, with the stream of `key`."""
    KeyStream(key).fill(out)


def keystream_blocks(key: bytes, length: int, block: int = 1 << 17) -> Iterator[memoryview]:
    """The first `length` bytes of the same stream, `block` (a multiple of 8) at a time and in the same memory."""
    stream, memory = KeyStream(key), memoryview(bytearray(min(block, length)))
    for start in range(0, length, block):
        piece = memory[: length - start]
        stream.fill(piece)
        yield piece
