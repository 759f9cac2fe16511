"""Keys that two sites agree on over an open channel: X25519 (RFC 7748), then HKDF-SHA256 (RFC 5869).

A dangerous floor: whose public key it is, is for the caller to settle; nothing here is authenticated.
"""

from __future__ import annotations

import secrets
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedimg.errors import MessageError

KEY_BYTES, TAG_BYTES = 32, 16
_FIELD = (1 << 255) - 19


class AgreementKey:
    """An X25519 key pair for one purpose and one sum; in memory only."""

    __slots__ = ("_key",)

    def __init__(self, private: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(private)

    @classmethod
    def fresh(cls) -> AgreementKey:
        return cls(secrets.token_bytes(KEY_BYTES))

    @property
    def public_bytes(self) -> bytes:
        """32 bytes."""
        return self._key.public_key().public_bytes_raw()

    @property
    def private_bytes(self) -> bytes:
        """The secret itself, 32 bytes: to be shared out, never to be sent."""
        return self._key.private_bytes_raw()

    def agree(self, public: bytes, purpose: bytes) -> bytes:
        """32 bytes that only the holders of the two private keys can compute, bound to `purpose`.

        Raises MessageError for bytes that are no public key in its one encoding, or a point of small order.
        """
        if int.from_bytes(public, "little") >= _FIELD:  # a second encoding of another key
            public = b""
        try:
            shared = self._key.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise MessageError(
                "an X25519 public key", "other bytes, or a point of small order", "the message was discarded"
            ) from None
        return derive(shared, purpose)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled")


def derive(secret: bytes, purpose: bytes) -> bytes:
    """HKDF-SHA256(secret, no salt, info = purpose): 32 bytes, independent for each purpose."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(secret)


def seal_once(key: bytes, data: bytes, bound: bytes) -> bytes:
    """`data` under a key that seals nothing else (ChaCha20-Poly1305, RFC 8439, nonce zero); 16 bytes longer.

    `bound` is authenticated with it, and opens with nothing else.
    """
    return ChaCha20Poly1305(key).encrypt(bytes(12), data, bound)


def open_once(key: bytes, sealed: bytes, bound: bytes) -> bytes:
    """The data that `seal_once` sealed. Raises MessageError for anything else."""
    try:
        return ChaCha20Poly1305(key).decrypt(bytes(12), sealed, bound)
    except InvalidTag:
        raise MessageError(
            "data sealed for this site in this sum", "other bytes", "the message was discarded"
        ) from None
