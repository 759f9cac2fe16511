"""Which planted values can still be read out of a file, by any means at hand.

The judge of the residual gate, and therefore without a line of its code: it knows what was planted
where, looks at the file in many views (its bytes, inflated, every value as pydicom decodes it,
whatever unpacks as zlib, gzip or base64, the pixels as bytes and their single bit planes), reads
each view as text in many character sets, and compares letters and digits only, so that a value
cut up by dashes, carets or spaces still counts. It errs on the side of finding.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
import struct
import unicodedata
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
from pydicom.pixels import pixel_array

_CODECS = ("latin-1", "utf-8", "utf-16-le", "utf-16-be", "gb18030", "shift_jis", "euc_kr")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LEAST = 4
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{16,}={0,2}")
_DEFLATED = "1.2.840.10008.1.2.1.99"


@dataclass(frozen=True)
class Secret:
    """One planted value. `kind` "date" (YYYYMMDD) is looked for in every usual spelling."""

    value: str
    kind: str = "text"


def squeezed(text: str) -> str:
    """Letters and digits alone, composed, without case."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", folded)))


def spellings(secret: Secret) -> set[str]:
    """What to look for in squeezed text."""
    if secret.kind != "date":
        return {squeezed(secret.value)}
    year, month, day = secret.value[:4], secret.value[4:6], secret.value[6:8]
    name = _MONTHS[int(month) - 1]
    numeric = {year + month + day, day + month + year, month + day + year}
    return numeric | {d + name + year for d in (day, str(int(day)))} | {f"{name}{int(day)}{year}"}


def left_behind(data: bytes, planted: Mapping[str, Secret]) -> list[str]:
    """The places whose planted value can be read in the file `data`."""
    wanted = {place: spellings(secret) for place, secret in planted.items()}
    for place, texts in wanted.items():
        if min(map(len, texts)) < _LEAST:
            raise ValueError(f"the value planted at {place} is too short to be told from chance")
    found: set[str] = set()
    for text in texts_of(data):
        missing = [place for place in wanted if place not in found]
        found.update(place for place in missing if any(w in text for w in wanted[place]))
    return [place for place in planted if place in found]


def texts_of(data: bytes) -> Iterator[str]:
    """Every view of the file as squeezed text."""
    seen: set[int] = set()
    for view in views(data):
        if isinstance(view, str):
            yield squeezed(view)
            continue
        if hash(view) in seen:
            continue
        seen.add(hash(view))
        for codec, start in itertools.product(_CODECS, (0, 1)):
            if start == 0 or codec.startswith("utf-16"):
                yield squeezed(view[start:].decode(codec, "ignore"))


def views(data: bytes) -> Iterator[bytes | str]:
    """The file, what it packs, its values, its pixels."""
    yield data
    inflated = _inflated(data)
    if inflated:
        yield inflated
    for packed in (data, inflated):
        yield from _unpacked(packed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(BytesIO(data), force=True)
            values = list(_values(dataset))
        except Exception:  # noqa: BLE001 - not DICOM, or no longer: its bytes have been looked at
            return
        texts = [value for value in values if isinstance(value, str)]
        yield "\n".join(texts)
        yield b"\n".join(value for value in values if isinstance(value, bytes))
        yield from itertools.chain.from_iterable(_unpacked(v) for v in values if isinstance(v, bytes))
        yield from _pixels(dataset)


def _inflated(data: bytes) -> bytes:
    """The data set behind the file meta of a deflated file, and what follows it."""
    if data[128:132] != b"DICM" or _DEFLATED.encode() not in data[:2000]:
        return b""
    start = 144 + struct.unpack_from("<I", data, 140)[0]
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return unpacker.decompress(data[start:]) + unpacker.unused_data
    except zlib.error:
        return b""


def _unpacked(data: bytes) -> Iterator[bytes]:
    """Whatever in it is zlib, gzip or base64."""
    for magic, bits in ((b"\x1f\x8b\x08", 31), (b"\x78\x9c", 15), (b"\x78\xda", 15), (b"\x78\x01", 15)):
        for match in itertools.islice(re.finditer(re.escape(magic), data), 50):
            try:
                yield zlib.decompressobj(bits).decompress(data[match.start() :], 1 << 24)
            except zlib.error:
                continue
    for match in itertools.islice(_BASE64.finditer(data), 200):
        try:
            yield base64.b64decode(match[0] + b"=" * (-len(match[0]) % 4))
        except binascii.Error:
            continue


def _values(dataset: pydicom.Dataset) -> Iterator[str | bytes]:
    yield from _decoded(getattr(dataset, "file_meta", None) or ())
    yield bytes(getattr(dataset, "preamble", None) or b"")
    yield from _decoded(dataset)


def _decoded(dataset: Iterable[Any]) -> Iterator[str | bytes]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _decoded(item)
        elif isinstance(element.value, bytes):
            yield element.value
            if element.VR == "UN":
                yield from _as_items(element.value)
        else:
            many = element.value if isinstance(element.value, (list, tuple)) else [element.value]
            yield from map(str, many if many is not None else ())


def _as_items(value: bytes) -> Iterator[str | bytes]:
    """A sequence in disguise: PS3.5 6.2.2 says UN holds implicit VR."""
    if value[:4] != b"\xfe\xff\x00\xe0":
        return
    for implicit in (True, False):
        try:
            items = pydicom.values.convert_SQ(value, implicit, True)
            yield from itertools.chain.from_iterable(_decoded(item) for item in items)
        except Exception:  # noqa: BLE001 - not items in this reading
            continue


def _pixels(dataset: pydicom.Dataset) -> Iterator[bytes]:
    """Stored values as bytes in both orders, sample by sample, and every bit plane packed."""
    try:
        values = pixel_array(dataset, raw=True)
    except Exception:  # noqa: BLE001 - no pixels, or none that decode
        return
    yield values.tobytes()
    if values.ndim > 2 and values.shape[-1] in (3, 4):
        yield np.moveaxis(values, -1, 0).tobytes()
    if values.dtype.itemsize > 1:
        octets = np.ascontiguousarray(values).view(np.uint8).reshape(-1, values.dtype.itemsize)
        yield from (np.ascontiguousarray(octets[:, i]).tobytes() for i in range(values.dtype.itemsize))
        yield values.byteswap().tobytes()
    yield from _planes(np.ascontiguousarray(values).reshape(-1))
    stored = dataset.get("PixelData", b"")
    if values.dtype.itemsize == 2 and values.nbytes == len(stored):  # decoders clear the unused bits
        yield from _planes(np.frombuffer(stored, "<u2"))


def _planes(flat: np.ndarray) -> Iterator[bytes]:
    for bit, order in itertools.product(range(flat.dtype.itemsize * 8), ("big", "little")):
        yield np.packbits((flat >> bit & 1).astype(np.uint8), bitorder=order).tobytes()
