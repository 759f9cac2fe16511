"""Uniform bytes from a key: the ChaCha20 block function of RFC 8439 in counter mode."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

KEY_BYTES = 32
_PIECE = 1 << 30  # bytes that the library takes at a time


def keystream(key: bytes, n: int) -> bytes:
    """`n` bytes from block 0 on, under a nonce of zeros: a key serves for one stream only.

    Whoever does not know the uniformly drawn `key` (32 bytes) cannot tell them from uniform ones.
    """
    encryptor = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
    return b"".join(encryptor.update(bytes(min(_PIECE, n - start))) for start in range(0, n, _PIECE))
