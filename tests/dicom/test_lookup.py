"""Segmented palettes become plain ones, as pydicom unfolds them and as the standard's own words say."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import ExplicitVRLittleEndian

from fedimg.dicom.encoder import Element
from fedimg.dicom.lookup import drop_loose_tables, unfolded

discrete = st.lists(st.integers(0, 65535), min_size=1, max_size=9).map(
    lambda values: [0, len(values), *values]
)
linear = st.tuples(st.integers(1, 40), st.integers(0, 65535)).map(lambda pair: [1, *pair])


def packed(numbers, bits=16):
    return struct.pack(f"<{len(numbers)}{'H' if bits == 16 else 'B'}", *numbers)


def by_pydicom(data, entries):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [entries, 0, 16])
        setattr(dataset, f"Segmented{colour}PaletteColorLookupTableData", data)
    return apply_color_lut(np.arange(entries), dataset)[:, 0]


@given(discrete, st.lists(discrete | linear, max_size=6))
def test_discrete_and_linear_segments_unfold_as_pydicoms(first, others):
    numbers = [number for segment in (first, *others) for number in segment]
    entries = sum(segment[1] for segment in (first, *others))
    plain = unfolded(packed(numbers), 16, entries)
    assert plain is not None
    # Halves may go either way.
    expected = by_pydicom(packed(numbers), entries).astype(int)
    assert np.abs(np.frombuffer(plain, "<u2").astype(int) - expected).max() <= 1


@pytest.mark.parametrize("bits", [8, 16])
def test_indirect_segments_copy_others_from_their_byte_on(bits):
    """C.7.9.2.3: two segments from byte 0 on, the linear one from the last value before it."""
    offset = [0, 0, 0, 0] if bits == 8 else [0, 0]
    numbers = [0, 2, 10, 20, 1, 2, 30, 2, 2, *offset]
    plain = unfolded(packed(numbers, bits), bits, 8)
    assert list(np.frombuffer(plain, "u1" if bits == 8 else "<u2")) == [10, 20, 25, 30, 10, 20, 25, 30]


@pytest.mark.parametrize(
    "numbers",
    [
        [],
        [1, 3, 50],  # from no value
        [0, 9, 1, 2],  # cut off
        [7, 1, 1],  # no opcode
        [0, 1, 5, 2, 1, 6, 0],  # an indirect one that leads to itself
        [0, 3, 1, 2, 3, 4],  # too few
        [0, 60000, *([1] * 90)],
    ],
)
def test_what_is_no_table_is_none(numbers):
    assert unfolded(packed(numbers), 16, 4) is None


def test_a_segmented_palette_is_replaced_by_a_plain_one():
    descriptor, data = packed([4, 0, 16]), packed([0, 1, 0, 1, 3, 300])
    kept = [Element(0x00281101, "US", descriptor), Element(0x00281221, "OW", data)]
    drop_loose_tables(kept)
    assert [element.tag for element in kept] == [0x00281101, 0x00281201]
    assert kept[1].value == packed([0, 100, 200, 300])
    words = packed([0, 1, 0, 1, 2, 300])
    kept = [Element(0x00281101, "US", descriptor), Element(0x00281221, "OW", words)]
    drop_loose_tables(kept)
    assert [element.tag for element in kept] == [0x00281101]
