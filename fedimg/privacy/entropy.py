"""Where random bits come from: the operating system, or openly insecure test streams."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import Protocol

from fedimg.crypto.keystream import KEY_BYTES, KeyStream, keystream

# Up to here the operating system gives the bytes themselves.
_SHORT = 1 << 12


class Entropy(Protocol):
    """A source of uniform bytes. `insecure` is True where they can be predicted; `fill` overwrites a buffer."""

    @property
    def insecure(self) -> bool: ...

    def bytes(self, n: int) -> bytes: ...

    def fill(self, out: memoryview) -> None: ...


@dataclass(frozen=True, slots=True)
class OsEntropy:
    """The operating system's: cannot be seeded, cannot be repeated, has no state to save.

    A long request is met by `os.urandom` of 32 bytes, stretched by ChaCha20: the cipher by which Linux makes
    `os.urandom` itself, thirteen times as fast outside the kernel. That key serves one request and is dropped.
    """

    insecure: bool = field(default=False, init=False)

    def bytes(self, n: int) -> bytes:
        out = bytearray(n)
        self.fill(memoryview(out))
        return bytes(out)

    def fill(self, out: memoryview) -> None:
        if len(out) <= _SHORT:
            out[:] = os.urandom(len(out))
        else:
            keystream(os.urandom(KEY_BYTES), out)


class KeyedEntropy:
    """The ChaCha20 stream of one fresh key (32 bytes): for noise that is to be taken off again by whom the key is shown.

    As secret as the key, which serves for one stream.
    """

    insecure = False

    def __init__(self, key: bytes) -> None:
        self._stream = KeyStream(key)

    def bytes(self, n: int) -> bytes:
        out = bytearray(n)
        self.fill(memoryview(out))
        return bytes(out)

    def fill(self, out: memoryview) -> None:
        self._stream.fill(out)


class InsecureSeededEntropy:
    """A reproducible SHAKE-256 stream for tests. **Whoever knows the seed can subtract the noise.**

    Every report of a run that used it says that the run is not private. Streams with different
    labels are independent; two equal constructions repeat each other.
    """

    insecure = True

    def __init__(self, seed: int, *labels: str) -> None:
        framed = b"".join(
            len(part).to_bytes(8, "big") + part for part in (label.encode() for label in labels)
        )
        number = int(seed).to_bytes(32, "big", signed=True)
        self._key = hashlib.sha256(b"fedimg-insecure-entropy-v1" + number + framed).digest()
        self._calls = 0

    def bytes(self, n: int) -> bytes:
        block = self._key + self._calls.to_bytes(8, "big")
        self._calls += 1
        return hashlib.shake_256(block).digest(n)

    def fill(self, out: memoryview) -> None:
        out[:] = self.bytes(len(out))


def source_of(insecure_seed: int | None, *labels: str) -> Entropy:
    """The operating system's entropy; a seeded stream, one for each set of labels, in the insecure test mode."""
    return OsEntropy() if insecure_seed is None else InsecureSeededEntropy(insecure_seed, *labels)
