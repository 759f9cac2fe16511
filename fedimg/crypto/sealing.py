"""Secrets for one reader: HPKE (RFC 9180), base mode, X25519, HKDF-SHA256, AES-256-GCM.

Whoever knows a public key can seal for it; only the holder of the private key opens. Base mode says
nothing of the sender: who sent a project key is settled by how the public keys were exchanged.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from fedimg.crypto.keys import KEY_BYTES, SiteKey, _Secret, framed
from fedimg.errors import DataError

OVERHEAD = 48  # the encapsulated key (32) and the tag (16)


class SealingKey(_Secret):
    """An X25519 private key: what is sealed for its public key, it alone opens."""

    __slots__ = ("_key",)

    def __init__(self, secret: bytes) -> None:
        super().__init__(secret)
        self._key = X25519PrivateKey.from_private_bytes(secret)

    @property
    def public_bytes(self) -> bytes:
        """The 32 bytes of the public key."""
        return self._key.public_key().public_bytes_raw()

    def open(self, sealed: bytes, *, purpose: str) -> bytes:
        """The data that `seal` sealed for this key and purpose. Raises DataError for anything else."""
        try:
            return _suite().decrypt(sealed, self._key, _info(purpose))
        except (InvalidTag, ValueError):
            found = "another key, purpose or content"
            raise DataError("data sealed for this key", found, "ask its sender to seal it again") from None


def seal(data: bytes, public_bytes: bytes, *, purpose: str) -> bytes:
    """`data` for the holder of the private key alone; 48 bytes longer, different at every call.

    `purpose` is bound to it: what was sealed for one opens for no other. Raises DataError for bytes
    that are no X25519 public key.
    """
    try:
        key = X25519PublicKey.from_public_bytes(public_bytes)
        return _suite().encrypt(data, key, _info(purpose))
    except ValueError:
        found = "other bytes"
        raise DataError("an X25519 public key of 32 bytes", found, "ask its owner for the key") from None


def wrap_project_key(project_key: SiteKey, public_bytes: bytes, *, project: str) -> bytes:
    """A key that sites of one project share, for one site's X25519 public key: 80 bytes.

    With it the same patient has the same pseudonym at every one of these sites. It goes from site to
    site; the coordinator never has it.
    """
    return seal(project_key.to_bytes(), public_bytes, purpose=f"project key {project}")


def unwrap_project_key(wrapped: bytes, key: SealingKey, *, project: str) -> SiteKey:
    """What `wrap_project_key` wrapped for this key and project. Raises DataError for anything else."""
    if len(wrapped) != KEY_BYTES + OVERHEAD:
        remedy = "ask the other site to wrap the key again"
        raise DataError(f"a wrapped key of {KEY_BYTES + OVERHEAD} bytes", f"{len(wrapped)} bytes", remedy)
    return SiteKey.from_bytes(key.open(wrapped, purpose=f"project key {project}"))


def _suite() -> Suite:
    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def _info(purpose: str) -> bytes:
    return framed([b"fedimg sealing 1", purpose.encode()])
