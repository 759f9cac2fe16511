"""What the text detector is told of an image's display: palette and windows, as PS3.3 stores them."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from fedimg.dicom import display
from fedimg.dicom.encoder import Element
from fedimg.dicom.structure import StoredImage

GREY = StoredImage(np.zeros((1, 4, 4, 1), np.uint16), "MONOCHROME2", 12)
INDEX = StoredImage(np.zeros((1, 4, 4, 1), np.uint8), "PALETTE COLOR", 8)


def palette(entries: int, first: int, bits: int, data: bytes, image: StoredImage = INDEX):
    descriptor = np.array([entries % (1 << 16), first % (1 << 16), bits], "<u2").tobytes()
    kept = {0x00281100 + n: Element(0x00281100 + n, "US", descriptor) for n in (1, 2, 3)}
    kept |= {0x00281200 + n: Element(0x00281200 + n, "OW", data) for n in (1, 2, 3)}
    return display.palette(image, kept)


@pytest.mark.parametrize(
    ("bits", "data"),
    [
        (16, np.array([0, 256, 65535, 7], "<u2").tobytes()),
        (8, bytes([0, 1, 255, 7])),
        (8, np.array([0, 1, 255, 7], "<u2").tobytes()),  # one entry in a word, as older files have them
    ],
)
def test_palettes_of_8_and_16_bits(bits, data):
    found = palette(4, 10, bits, data)
    assert found is not None
    expected = [0, 256, 65535, 7] if bits == 16 else [0, 1, 255, 7]
    assert [table.tolist() for table in found[:3]] == [expected] * 3
    assert found[3] == 10


def test_a_first_value_may_be_negative_and_0_entries_are_65536():
    signed = StoredImage(np.zeros((1, 4, 4, 1), np.int16), "PALETTE COLOR", 16)
    found = palette(0, -5, 16, bytes(2 << 16), signed)
    assert found is not None
    assert found[3] == -5
    assert len(found[0]) == 1 << 16


def test_without_a_palette_there_is_none():
    assert display.palette(GREY, {}) is None
    assert display.palette(INDEX, {}) is None


def test_windows_are_turned_into_stored_values():
    dataset = Dataset()
    dataset.WindowCenter, dataset.WindowWidth = ["40", "400"], ["350", "2000"]
    dataset.RescaleSlope, dataset.RescaleIntercept = "2", "-1024"
    assert display.frames(GREY, dataset, {}).windows == ((532.0, 175.0), (712.0, 1000.0))
    dataset.WindowWidth = ["0", "0.5"]  # below 1: no window (PS3.3 C.11.2.1.2)
    assert display.frames(GREY, dataset, {}).windows == ()
    del dataset.WindowWidth
    assert display.frames(GREY, dataset, {}).windows == ()


def test_colour_has_no_windows():
    dataset = Dataset()
    dataset.WindowCenter, dataset.WindowWidth = "40", "350"
    colour = StoredImage(np.zeros((1, 4, 4, 3), np.uint8), "RGB", 8)
    assert display.frames(colour, dataset, {}).windows == ()
    assert len(display.frames(GREY, dataset, {}).windows) == 1


def test_an_enhanced_image_has_its_windows_in_functional_groups():
    item, groups = Dataset(), Dataset()
    item.WindowCenter, item.WindowWidth = "100", "50"
    groups.FrameVOILUTSequence = [item]
    dataset = Dataset()
    dataset.PerFrameFunctionalGroupsSequence = [groups]
    assert display.frames(GREY, dataset, {}).windows == ((100.0, 50.0),)
