"""Look-up tables that may stay: as long as they say, plain, and not a text.

PS3.3 C.7.6.3.1.5 and C.7.6.3.1.6 (palettes), C.7.9.2 (segmented ones), C.11.1 and C.11.2 (modality and VOI LUTs).
"""

from __future__ import annotations

import numpy as np

from fedimg.dicom import spelled
from fedimg.dicom.encoder import Element
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine

_LUT_DESCRIPTOR, _LUT_DATA = 0x00283002, 0x00283006
_MODALITY_LUTS, _VOI_LUTS = 0x00283000, 0x00283010
LUT_SEQUENCES = frozenset({_MODALITY_LUTS, _VOI_LUTS})
# Data of tables and the descriptors that say how long they are.
_DESCRIPTORS = {0x00281201: 0x00281101, 0x00281202: 0x00281102, 0x00281203: 0x00281103}
_TABLES = {**_DESCRIPTORS, _LUT_DATA: _LUT_DESCRIPTOR}
_SEGMENTED = {0x00281221: 0x00281201, 0x00281222: 0x00281202, 0x00281223: 0x00281203}
TABLES = frozenset({*_TABLES, *_SEGMENTED})
_MOST_SEGMENTS = 1 << 16


def drop_loose_tables(kept: list[Element]) -> None:
    """Make segmented tables plain; take away those that are not as long as stated, or read as text."""
    if any(element.tag in _SEGMENTED for element in kept):
        _make_plain(kept)
    if any(element.tag in _TABLES for element in kept):
        values = {element.tag: element.value for element in kept}
        kept[:] = [e for e in kept if e.tag not in _TABLES or _is_table(e.value, values.get(_TABLES[e.tag]))]


def with_tables(items: list[list[Element]], sequence: int) -> list[list[Element]]:
    """The items of a sequence of look-up tables that still hold one.

    Raises Quarantined (UNSAFE_STRUCTURE) for a modality LUT: without it the pixels would mean something else.
    """
    whole = [item for item in items if any(element.tag == _LUT_DATA for element in item)]
    if sequence == _MODALITY_LUTS and len(whole) < len(items):
        raise Quarantined(Quarantine.UNSAFE_STRUCTURE, "a modality look-up table that is none")
    return whole


def _is_table(data: bytes | list[list[Element]], descriptor: bytes | list[list[Element]] | None) -> bool:
    if not isinstance(data, bytes) or not isinstance(descriptor, bytes) or len(descriptor) != 6:
        return False
    entries = _entries(descriptor)
    if len(data) not in (entries + entries % 2, 2 * entries):
        return False
    return not spelled.table_reads_as_text(data, 16 if len(data) == 2 * entries else 8)


def _entries(descriptor: bytes) -> int:
    return int.from_bytes(descriptor[:2], "little") or 1 << 16


def _make_plain(kept: list[Element]) -> None:
    """Put plain tables where segmented ones were; what does not unfold to the stated length is taken away."""
    values = {element.tag: element.value for element in kept}
    plain: list[Element] = []
    for segmented, tag in _SEGMENTED.items():
        data, descriptor = values.get(segmented), values.get(_DESCRIPTORS[tag])
        if not isinstance(data, bytes) or not isinstance(descriptor, bytes) or len(descriptor) != 6:
            continue
        bits = int.from_bytes(descriptor[4:], "little")
        table = unfolded(data, bits, _entries(descriptor)) if tag not in values else None
        if table is not None:
            plain.append(Element(tag, "OW", table))
    kept[:] = sorted([e for e in kept if e.tag not in _SEGMENTED] + plain, key=lambda element: element.tag)


def unfolded(data: bytes, bits: int, entries: int) -> bytes | None:
    """A segmented table as a plain one of little-endian entries; None where it is none of that length.

    Args:
        bits: of an entry, 8 or 16. entries: as the descriptor states.
    """
    if bits not in (8, 16):
        return None
    kind = np.dtype("u1" if bits == 8 else "<u2")
    numbers = np.frombuffer(data, kind, len(data) // kind.itemsize).astype(np.int64).tolist()
    table: list[int] = []
    try:
        _unfold(numbers, 0, _MOST_SEGMENTS, table, entries, kind.itemsize)
    except IndexError:
        return None
    plain = np.array(table, kind).tobytes()
    return plain + b"\0" * (len(plain) % 2) if len(table) == entries else None


def _unfold(
    numbers: list[int],
    at: int,
    segments: int,
    table: list[int],
    entries: int,
    width: int,
    *,
    inner: bool = False,
) -> None:
    """Append what up to `segments` segments from `at` on stand for. Raises IndexError for what is none."""
    while segments and at + 1 < len(numbers) and len(table) < entries:  # one more may be padding
        opcode, length = numbers[at], numbers[at + 1]
        if opcode == 0:  # discrete: the values themselves
            table += numbers[at + 2 : at + 2 + length]
            at += 2 + length
        elif opcode == 1:  # linear: from the last value, which it does not repeat, to the one given
            first, last = table[-1], numbers[at + 2]
            table += [first + _rounded((last - first) * step, length) for step in range(1, length + 1)]
            at += 3
        elif opcode == 2 and not inner:  # indirect: so many segments from that byte on
            size = 4 if width == 1 else 2
            offset = sum(part << 8 * width * n for n, part in enumerate(numbers[at + 2 : at + 2 + size]))
            _unfold(numbers, offset // width, length, table, entries, width, inner=True)
            at += 2 + size
        else:
            raise IndexError
        segments -= 1


def _rounded(numerator: int, denominator: int) -> int:
    """A quotient to the next whole number, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)
