"""How stored values are shown: palette and windows, for those who look for text in them (PS3.3 C.7.6.3, C.11)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from pydicom.dataset import Dataset

from fedimg.dicom.blanking import Palette
from fedimg.dicom.encoder import Element
from fedimg.dicom.geometry import group, numbers
from fedimg.dicom.structure import StoredImage
from fedimg.dicom.text import Frames

_DESCRIPTORS = (0x00281101, 0x00281102, 0x00281103)
_TABLES = (0x00281201, 0x00281202, 0x00281203)
_MOST_WINDOWS = 8


def frames(image: StoredImage, dataset: Dataset, kept: Mapping[int, Element]) -> Frames:
    """An image with its palette and windows, as the text detector takes it."""
    windows = tuple(_windows(dataset)) if image.values.shape[3] == 1 else ()
    return Frames(image.values, image.photometric, image.bits_stored, palette(image, kept), windows)


def palette(image: StoredImage, kept: Mapping[int, Element]) -> Palette | None:
    """Red, green and blue LUT and the first value they map; None without (segmented ones are not read)."""
    if image.photometric != "PALETTE COLOR":
        return None
    tables, first = [], 0
    for descriptor_tag, table_tag in zip(_DESCRIPTORS, _TABLES, strict=True):
        descriptor, raw = (_raw(kept, tag) for tag in (descriptor_tag, table_tag))
        if len(descriptor) != 6 or not raw:
            return None
        entries, first, bits = np.frombuffer(descriptor, "<u2").tolist()
        entries = entries or 1 << 16
        # Eight-bit entries lie in bytes or, by older files, one in a word (PS3.3 C.7.6.3.1.5).
        kind = "<u2" if bits == 16 or len(raw) >= 2 * entries else "u1"
        tables.append(np.frombuffer(raw[: len(raw) // 2 * 2], kind)[:entries].astype(np.uint16))
    if image.values.dtype.kind == "i" and first >= 1 << 15:
        first -= 1 << 16
    return (tables[0], tables[1], tables[2], first) if min(map(len, tables)) else None


def _windows(dataset: Dataset) -> Iterator[tuple[float, float]]:
    """(centre, width) in stored values: the image's, else its first frame's."""
    source = group(dataset, "FrameVOILUTSequence", 0) or dataset
    rescale = group(dataset, "PixelValueTransformationSequence", 0) or dataset
    slope = (numbers(rescale, "RescaleSlope", 1) or (1.0,))[0] or 1.0
    intercept = (numbers(rescale, "RescaleIntercept", 1) or (0.0,))[0]
    centres, widths = (_values(source, keyword) for keyword in ("WindowCenter", "WindowWidth"))
    for centre, width in list(zip(centres, widths, strict=False))[:_MOST_WINDOWS]:
        if np.isfinite([centre, width]).all() and width >= 1:
            yield (centre - intercept) / slope, width / abs(slope)


def _values(source: Dataset, keyword: str) -> list[float]:
    value = source.get(keyword)
    many = value if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
    try:
        return [float(one) for one in many if one not in (None, "")]
    except (TypeError, ValueError):
        return []


def _raw(kept: Mapping[int, Element], tag: int) -> bytes:
    value = kept[tag].value if tag in kept else b""
    return value if isinstance(value, bytes) else b""
