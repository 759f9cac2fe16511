"""What stands before the files: records, their bounds, what is signed, and how a reader's public key is written."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from fedimg.crypto.keys import framed
from fedimg.errors import DataError

DOMAIN = b"fedimg archive 1"
SIGNATURE = 64
MOST_FACTS = 1 << 16
MOST_FILES = 10**7
MOST_NAME = 512
MOST_BYTES = 1 << 45  # of all files together
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_KEY = re.compile(r"x25519:([0-9a-f]{64})", re.ASCII)
REMEDY = "ask its maker for the file again"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an archive: its name, its size in bytes, the SHA-256 of them."""

    name: str
    size: int
    sha256: bytes

    def to_bytes(self) -> bytes:
        name = self.name.encode("ascii")
        return struct.pack(">H", len(name)) + name + struct.pack(">Q", self.size) + self.sha256


def sound_name(name: str) -> bool:
    """Whether a file of an archive may be called so."""
    return len(name) <= MOST_NAME and all(_PART.fullmatch(part) for part in name.split("/"))


def check_follows(before: str | None, name: str) -> None:
    """Raises DataError for a name that no archive has, or that does not come behind `before`."""
    sound = sound_name(name)
    if sound and before is not None:
        first, second = before.split("/"), name.split("/")
        sound = first < second and second[: len(first)] != first
    if not sound:
        raise DataError(
            "names of files as an archive has them, in their order", "another name or order", REMEDY
        )


def signed_bytes(purpose: str, header_digest: bytes, manifest_digest: bytes) -> bytes:
    """What an archive's maker signs."""
    return framed([DOMAIN, purpose.encode(), header_digest, manifest_digest])


def written_public_key(public_bytes: bytes) -> str:
    """An X25519 public key as text: in a file, in a site's policy, on a screen."""
    return f"x25519:{public_bytes.hex()}"


def read_public_key(path: Path) -> bytes:
    """The inverse, of a file with nothing else in it. Raises DataError."""
    remedy = "name the .pub file that `fedimg share keygen` wrote"
    try:
        with path.open("rb") as file:
            found = _KEY.fullmatch(file.read(1024).decode("ascii").strip())
    except (OSError, ValueError):
        found = None
    if found is None:
        raise DataError("a file with a public key, x25519: and 64 hexadecimal digits", "another", remedy)
    return bytes.fromhex(found[1])
