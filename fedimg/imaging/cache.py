"""Preprocessed images on disk, so that a released file is decoded once.

An entry holds pixels and spacings, nothing about whose they are; its name is a keyed digest of the
released file's SHA-256 and the configuration's, so neither can be found by who does not hold the
site's key. Entries are authenticated with the same key: whoever can write to the folder cannot
bring in pixels that have no receipt. What fails any check is made again from the released file.

Layout: magic 4 | HMAC-SHA256 32 | raw length u64 | header length u32 | zlib(header JSON | shuffled
float32 | a byte for every voxel, where each has a class).
"""

from __future__ import annotations

import hmac
import json
import math
import os
import secrets
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedimg.crypto.keys import keyed_digest
from fedimg.imaging.cleaning import Rejected
from fedimg.imaging.preprocessing import Prepared
from fedimg.values import Quarantine

_MAGIC = b"FIC1"
_PREFIX = struct.Struct("<4s32sQI")

# These follow from pixels and configuration alone. Others (a missing codec, a full disk) may pass.
LASTING = frozenset(
    {Quarantine.PIXELS_BLANK, Quarantine.PIXELS_CLIPPED, Quarantine.PIXELS_NOT_FINITE, Quarantine.WRONG_SHAPE,
     Quarantine.DUPLICATE}
)  # fmt: skip


@dataclass(slots=True)
class CacheCounts:
    """What a cache did since it was opened. Bytes are of entries read or written."""

    hits: int = 0
    made: int = 0
    damaged: int = 0
    unwritten: int = 0
    raw_bytes: int = 0
    stored_bytes: int = 0

    @property
    def ratio(self) -> float:
        """Uncompressed ÷ stored; 1 for an unused cache."""
        return self.raw_bytes / self.stored_bytes if self.stored_bytes else 1.0


class VolumeCache:
    """A folder of entries, safe for several processes at once: an entry appears whole or not at all.

    Args:
        folder: made with mode 0700 if absent.
        key: 32 secret bytes of the site, `site_key.derive("cache", project=…)`.
    """

    def __init__(self, folder: Path, key: bytes) -> None:
        self._folder, self._key = folder, key
        self.counts = CacheCounts()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def get_or_make(
        self, content_digest: str, config_digest: str, make: Callable[[], Sequence[Prepared]]
    ) -> list[Prepared]:
        """The entry of this content under this configuration, made by `make` if there is no good one.

        Guarantee: bit-identical to what `make` returned when the entry was written. A refusal that
        follows from pixels alone is remembered too. A full disk costs speed, never the result.
        Raises Rejected, now or remembered, and whatever else `make` raises.
        """
        name = keyed_digest(self._key, b"cache-name", content_digest.encode(), config_digest.encode()).hex()
        path = self._folder / name[:2] / name[2:]
        found = self._read(path, name)
        if found is not None:
            self.counts.hits += 1
        else:
            self.counts.made += 1
            found = self._make(path, name, make)
        if isinstance(found, Rejected):
            raise found
        return found

    def _make(
        self, path: Path, name: str, make: Callable[[], Sequence[Prepared]]
    ) -> list[Prepared] | Rejected:
        made: list[Prepared] | Rejected
        try:
            made = list(make())
        except Rejected as refusal:
            if refusal.reason not in LASTING:
                raise
            made = refusal
        self._write(path, self._encode(name, made))
        return made

    def _encode(self, name: str, made: list[Prepared] | Rejected) -> bytes:
        if isinstance(made, Rejected):
            header: dict[str, object] = {"rejected": made.reason.value, "found": made.detail}
            pixels = b""
        else:
            stack = np.stack([p.image_CDHW for p in made]).astype("<f4")
            header = {"shape": list(stack.shape), "spacing_mm": [list(p.spacing_mm) for p in made]}
            pixels = _shuffle(stack)
            if made[0].labels_DHW is not None:  # of all of them: they come from one file
                header["labels"] = made[0].labels_DHW.dtype.str
                pixels += b"".join(p.labels_DHW.tobytes() for p in made if p.labels_DHW is not None)
        text = json.dumps(header, separators=(",", ":")).encode()
        body = zlib.compress(text + pixels, level=3)
        self._count(len(text) + len(pixels), len(body))
        sizes = struct.pack("<QI", len(text) + len(pixels), len(text))
        return _MAGIC + keyed_digest(self._key, b"cache-entry", name.encode(), sizes, body) + sizes + body

    def _read(self, path: Path, name: str) -> list[Prepared] | Rejected | None:
        """None where there is no entry, or one that fails a check (counted; the caller overwrites it)."""
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if len(data) < _PREFIX.size or data[:4] != _MAGIC:
            self.counts.damaged += 1
            return None
        _, mac, raw_length, text_length = _PREFIX.unpack_from(data)
        body = data[_PREFIX.size :]
        sizes = struct.pack("<QI", raw_length, text_length)
        if not hmac.compare_digest(mac, keyed_digest(self._key, b"cache-entry", name.encode(), sizes, body)):
            self.counts.damaged += 1
            return None
        # Authentic from here on: this site wrote it, so sizes and layout are what `_encode` made.
        raw = zlib.decompress(body, bufsize=raw_length)
        self._count(len(raw), len(body))
        header = json.loads(raw[:text_length])
        if "rejected" in header:
            return Rejected(Quarantine(header["rejected"]), header["found"])
        shape = tuple(header["shape"])
        behind = text_length + 4 * math.prod(shape)
        stack = _unshuffle(raw[text_length:behind], shape)
        spacings = [(float(d), float(h), float(w)) for d, h, w in header["spacing_mm"]]
        labels: Iterable[npt.NDArray[Any] | None] = repeat(None)
        if (kind := header.get("labels")) is not None:
            labels = (
                np.frombuffer(raw, "<u2" if kind == "<u2" else np.uint8, offset=behind)
                .reshape(shape[0], *shape[2:])
                .copy()
            )
        return [Prepared(*parts) for parts in zip(stack, spacings, labels, strict=False)]

    def _write(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            temporary.replace(path)
        except OSError:
            # The cache is an amenity: with the disk full, training goes on from the released files.
            self.counts.unwritten += 1
            temporary.unlink(missing_ok=True)

    def _count(self, raw: int, stored: int) -> None:
        self.counts.raw_bytes += raw
        self.counts.stored_bytes += stored


def _shuffle(stack: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> bytes:
    """All first bytes, then all second bytes …: neighbouring exponents compress, mixed bytes do not."""
    return stack.view(np.uint8).reshape(-1, 4).T.tobytes()


def _unshuffle(data: bytes, shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    planes = np.frombuffer(data, dtype=np.uint8).reshape(4, -1)
    return np.ascontiguousarray(planes.T).view("<f4").reshape(shape).astype(np.float32, copy=False)
