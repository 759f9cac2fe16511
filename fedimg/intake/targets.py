"""What is drawn over an image, as numbers in the site's home: found by the SHA-256 of its bytes, checked by it too.

A file is `targets/<hex>`: zlib of the shape (three u32, little endian) and then a byte for every voxel, two where
boxes are of several classes. It holds
no header and no name, and is the site's own: nothing reads it but training and evaluation.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import stat
import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from fedimg.crypto.keys import SiteKey, keyed_digest
from fedimg.dicom.reader import DEFAULT_LIMITS, read_capped
from fedimg.dicom.refusal import Quarantined
from fedimg.dicom.voxel_labels import Labels, voxel_labels
from fedimg.values import Quarantine, SourceItem

_SHAPE = struct.Struct("<3I")
_LARGEST_VOXELS = 1 << 30


@dataclass(frozen=True, slots=True)
class Target:
    """Attributes: packed: the file's bytes. drawn: keyed digest of what it was made of, see `drawn_digest`."""

    packed: bytes
    drawn: str

    @classmethod
    def of(cls, item: SourceItem, key: bytes) -> Self | None:
        """None where nothing is drawn. Raises Quarantined as `voxel_labels`."""
        if item.drawn is None:
            return None
        return cls(packed(voxel_labels(item.path, item.drawn)), drawn_digest(item, key))

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.packed).hexdigest()


def key_of(site_key: SiteKey) -> bytes:
    return site_key.derive("targets", project="fedimg")


def drawn_digest(item: SourceItem, key: bytes) -> str:
    """HMAC, hex, of masks, boxes and classes: a target whose drawing has not changed is not made again; "" without.

    Keyed, since the files may show or name somebody.

    Raises Quarantined for a mask that cannot be read.
    """
    if item.drawn is None:
        return ""
    said = (item.drawn.boxes, item.drawn.classes, item.drawn.label)
    parts = [repr((*said, item.drawn.kinds) if any(item.drawn.kinds) else said).encode()]
    for mask in item.drawn.masks:
        try:
            parts.append(hashlib.sha256(read_capped(mask, DEFAULT_LIMITS.file_bytes)).digest())
        except OSError as error:
            found = f"the system could not read a mask ({error.strerror})"
            raise Quarantined(Quarantine.UNREADABLE, found) from None
    return keyed_digest(key, *parts).hex()


def packed(labels_DHW: Labels) -> bytes:
    shape, kind = _SHAPE.pack(*labels_DHW.shape), np.uint8 if labels_DHW.dtype == np.uint8 else "<u2"
    return zlib.compress(shape + np.ascontiguousarray(labels_DHW, kind).tobytes(), level=6)


def unpacked(data: bytes) -> Labels:
    """Inverse of `packed`, bounded. Raises Quarantined for bytes that are no such file."""
    try:
        inflater = zlib.decompressobj()
        raw = inflater.decompress(data, _SHAPE.size + _LARGEST_VOXELS)
        shape = _SHAPE.unpack_from(raw)
        twice = len(raw) - _SHAPE.size == 2 * math.prod(shape)
        return np.frombuffer(raw, "<u2" if twice else np.uint8, offset=_SHAPE.size).reshape(shape)
    except (zlib.error, struct.error, ValueError):
        raise Quarantined(Quarantine.UNREADABLE, "a target that does not unpack") from None


def path_of(home: Path, name: str) -> Path:
    """Below the home's folder."""
    return home / "targets" / name


def store(home: Path, target: Target) -> str:
    """Write it (0600) unless it is there, whole or not at all, and return its name. Raises OSError."""
    name = target.digest
    path = path_of(home, name)
    if whole(home, name):
        return name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    growing = path.with_name(f".{name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(growing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(target.packed)
            file.flush()
            os.fsync(file.fileno())
        growing.replace(path)
    finally:
        growing.unlink(missing_ok=True)
    return name


def load(home: Path, name: str) -> Labels:
    """(F, H, W) as stored. Raises Quarantined: absent, a link or no plain file, or not the bytes of that name."""
    try:
        data = _bytes(path_of(home, name))
    except OSError as error:
        found = f"the system could not read a target ({error.strerror})"
        raise Quarantined(Quarantine.UNREADABLE, found) from None
    if hashlib.sha256(data).hexdigest() != name:
        raise Quarantined(Quarantine.RECEIPT_INVALID, "a target that was changed")
    return unpacked(data)


def whole(home: Path, name: str) -> bool:
    """Whether it is there, byte for byte."""
    try:
        return hashlib.sha256(_bytes(path_of(home, name))).hexdigest() == name
    except (OSError, Quarantined):
        return False


def prune(home: Path, named: Collection[str]) -> None:
    """Remove what no label names any more: masks that were redrawn, and files that were never finished."""
    folder = path_of(home, "x").parent
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in named:
            path.unlink(missing_ok=True)


def _bytes(path: Path) -> bytes:
    """Raises OSError, and Quarantined for what is no plain file of a bearable size."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_VOXELS:
            raise Quarantined(Quarantine.RECEIPT_INVALID, "a target that is no plain file")
        return file.read()
