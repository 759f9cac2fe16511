"""Uniform bytes from a key: the ChaCha20 block function of RFC 8439 in counter mode."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

KEY_BYTES = 32
_ZEROS = memoryview(bytes(1 << 20))


def keystream(key: bytes, out: memoryview) -> None:
    """Overwrite `out`, of single bytes, with the stream from block 0 on, under a nonce of zeros.

    A key serves for one stream only. Whoever does not know the uniformly drawn `key` (32 bytes) cannot tell
    the stream from uniform bytes.
    """
    encryptor = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
    for start in range(0, len(out), len(_ZEROS)):
        piece = out[start : start + len(_ZEROS)]
        encryptor.update_into(_ZEROS[: len(piece)], piece)


def keystream_blocks(key: bytes, length: int, block: int = 1 << 17) -> Iterator[memoryview]:
    """The first `length` bytes of the same stream, `block` (a multiple of 8) at a time and in the same memory."""
    encryptor = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
    memory = memoryview(bytearray(min(block, length)))
    for start in range(0, length, block):
        piece = memory[: length - start]
        encryptor.update_into(_ZEROS[: len(piece)], piece)
        yield piece
