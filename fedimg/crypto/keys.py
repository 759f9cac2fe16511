"""A site's two secrets: the key its pseudonyms come from, and the key it signs with.

Derivation: HKDF-SHA256 (RFC 5869). Digests: HMAC-SHA256 (RFC 2104) over length-framed parts,
so that no two lists of parts share an encoding. Large parts go in as fingerprints (GMAC). Signatures: Ed25519 (RFC 8032).
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedimg.errors import DataError

KEY_BYTES = 32
_MOST_BYTES = 1 << 16  # of a key file
_PIECE = 1 << 30  # bytes that the library takes at a time


def write_secret(path: Path, data: bytes) -> None:
    """Create a file of mode 0600 that did not exist before. Raises DataError where it does exist."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise DataError(
            "no key file where a new one goes",
            "an existing one",
            "a key is never overwritten: use another folder",
        ) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):  # a half-written key must not be taken for one; the write's own error matters
            path.unlink()
        raise


def read_private(path: Path, remedy: str) -> bytes:
    """The bytes of a key file, at most 64 KiB. Raises DataError unless it is ours alone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise DataError("a readable key file", error.strerror or "an error", remedy) from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
            raise DataError("a key file of mode 0600", mode, "chmod 600 it after asking who could read it")
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise DataError("a key file of at most 64 KiB", "a longer one", remedy)
    return data


def read_secret(path: Path) -> bytes:
    """The bytes of a key file. Raises DataError unless it is ours alone and of the right length."""
    remedy = "restore the key from the custodian's copy; without it earlier pseudonyms cannot be made again"
    data = read_private(path, remedy)
    if len(data) != KEY_BYTES:
        raise DataError(f"a key of {KEY_BYTES} bytes", f"{len(data)} bytes", remedy)
    return data


def framed(parts: Iterable[bytes | bytearray]) -> bytes:
    """Parts behind their lengths (u32, big endian): an injective encoding of the list."""
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def keyed_digest(key: bytes, *parts: bytes | bytearray) -> bytes:
    """HMAC-SHA256 over length-framed parts: 32 bytes."""
    return hmac.digest(key, framed(parts), "sha256")


def keyed_fingerprint(key: bytes, data: bytes | bytearray | memoryview) -> bytes:
    """16 bytes that stand for `data` inside a `keyed_digest`, and nowhere else: it hashes twenty times faster.

    GMAC (NIST SP 800-38D) with one nonce for ever, which makes it a universal hash under a secret key and no
    more: of two texts of n bytes each, chosen without the key, the fingerprints are equal with probability
    n/16 · 2^-128 at most. A tag that were published would give the key away; one that goes into HMAC does
    not (a universal hash before a pseudo-random function: Carter and Wegman 1981).

    Args:
        key: 32 bytes, for nothing else.
    """
    whole = Cipher(algorithms.AES(key), modes.GCM(bytes(12))).encryptor()
    view = memoryview(data)
    for start in range(0, len(view), _PIECE):
        whole.authenticate_additional_data(view[start : start + _PIECE])
    whole.finalize()
    return whole.tag


class _Secret:
    """32 bytes that no text, log line or pickle of the object shows."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if type(secret) is not bytes or len(secret) != KEY_BYTES:
            raise DataError(
                f"a key of {KEY_BYTES} bytes", "another length or type", "pass the key's raw bytes"
            )
        self._secret = secret

    @classmethod
    def create(cls, path: Path) -> Self:
        """A fresh key from the operating system, written once (0600). Raises DataError if `path` exists."""
        key = cls(secrets.token_bytes(KEY_BYTES))
        write_secret(path, key._secret)
        return key

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises DataError where group or others may read the file, or it is not a key."""
        return cls(read_secret(path))

    @classmethod
    def from_bytes(cls, secret: bytes) -> Self:
        """From a key service or the environment instead of a file."""
        return cls(secret)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled; hand over its bytes where another process must have them")


class SiteKey(_Secret):
    """The site's 32-byte secret behind every pseudonym; it never leaves the site."""

    __slots__ = ()

    def derive(self, domain: str, *, project: str) -> bytes:
        """HKDF-SHA256(site key, salt = project, info = domain): 32 bytes, independent per domain and project."""
        kdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=project.encode(), info=domain.encode())
        return kdf.derive(self._secret)

    def to_bytes(self) -> bytes:
        """The secret itself, for a child process of the same site. Never for a message."""
        return self._secret


class SigningKey(_Secret):
    """An Ed25519 key; a signature says that this site wrote the bytes."""

    __slots__ = ("_key",)

    def __init__(self, secret: bytes) -> None:
        super().__init__(secret)
        self._key = Ed25519PrivateKey.from_private_bytes(secret)

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(data)

    @property
    def public_bytes(self) -> bytes:
        """The 32 bytes of the public key."""
        return self._key.public_key().public_bytes_raw()


# Encodings of Ed25519's points of small order, but for the sign: under such a key one signature fits any text.
_SMALL_ORDER = frozenset(
    bytes.fromhex(point)
    for point in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)


def is_identity(public_bytes: bytes) -> bool:
    """Whether these 32 bytes can be somebody's Ed25519 key: signatures under points of small order bind nobody."""
    return len(public_bytes) == 32 and public_bytes[:31] + bytes([public_bytes[31] & 127]) not in _SMALL_ORDER


def verify(public_bytes: bytes, signature: bytes, data: bytes) -> bool:
    """Whether `signature` over `data` is the key's. False for anything malformed."""
    try:
        Ed25519PublicKey.from_public_bytes(public_bytes).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True
