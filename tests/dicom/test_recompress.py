"""Fewer bytes, the same image: seen by a decoder of another maker."""

from __future__ import annotations

import copy

import gdcm
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydicom.data import get_testdata_file
from pydicom.uid import JPEGLSLossless

from fedimg.dicom import authoring, recompress
from fedimg.dicom.reader import parse, read_dataset


def smooth(dtype=np.uint16, shape=(64, 64)):
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    return np.broadcast_to((20 * np.sin(x / 9) + 30 * np.cos(y / 7) + 60).astype(dtype), shape).copy()


def image(pixels, syntax="explicit_le", **attributes):
    return authoring.build_image(modality="US", pixels=pixels, attributes=attributes, transfer_syntax=syntax)


def gdcm_pixels(path, dtype, shape):
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    buffer = reader.GetImage().GetBuffer()
    raw = buffer if isinstance(buffer, bytes) else buffer.encode("utf-8", "surrogateescape")
    return np.frombuffer(raw, dtype).reshape(shape)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
@pytest.mark.parametrize("shape", [(64, 64), (3, 32, 48)])
def test_gdcm_reads_the_same_pixels_out_of_fewer_bytes(tmp_path, dtype, shape):
    pixels = smooth(dtype, shape)
    before = image(pixels)
    after = recompress.lossless(before, "jpeg-ls")
    assert after.file_meta.TransferSyntaxUID == JPEGLSLossless
    assert recompress.ratio(before, after) > 1.5
    (tmp_path / "a.dcm").write_bytes(authoring.encoded(after))
    assert (gdcm_pixels(tmp_path / "a.dcm", dtype, shape) == pixels).all()


@given(st.data())
def test_any_image_keeps_its_values(data):
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16, np.int16]))
    shape = data.draw(st.sampled_from([(5, 9), (2, 8, 8), (6, 6, 3)]))
    low, high = data.draw(st.sampled_from([(0, 7), (0, 127)]))
    pixels = data.draw(hnp.arrays(dtype, shape, elements=st.integers(low, high)))
    after = recompress.lossless(image(pixels), "jpeg-ls")
    assert (after.pixel_array == pixels).all()
    written = parse(authoring.encoded(after))
    assert (written.pixel_array == pixels).all()


def test_the_given_data_set_stays_as_it_is():
    before = image(smooth())
    kept = copy.deepcopy(before)
    after = recompress.lossless(before, "jpeg-ls")
    assert before == kept and before.file_meta == kept.file_meta
    assert after is not before and set(after.keys()) == set(before.keys())
    assert recompress.lossless(before, "none") is before


def test_equal_images_give_equal_bytes():
    first, second = (recompress.lossless(image(smooth(), SOPInstanceUID="1.2"), "jpeg-ls") for _ in range(2))
    assert first.PixelData == second.PixelData


def test_what_does_not_shrink_stays():
    noise = np.random.default_rng(0).integers(0, 1 << 16, (32, 32)).astype(np.uint16)
    before = image(noise)
    assert recompress.lossless(before, "jpeg-ls") is before


@pytest.mark.parametrize(
    "changes",
    [
        {"BitsStored": 1, "HighBit": 0},
        {"BitsStored": 12, "HighBit": 15},
        {"PhotometricInterpretation": "YBR_FULL_422"},
    ],
)
def test_what_the_codec_cannot_hold_stays(changes):
    before = image(smooth(), **changes)
    assert recompress.lossless(before, "jpeg-ls") is before


@pytest.mark.parametrize("syntax", ["rle", "jpeg_2000", "explicit_be"])
def test_what_is_compressed_or_big_endian_stays(syntax):
    before = image(smooth(), syntax)
    assert recompress.lossless(before, "jpeg-ls") is before


def test_a_codec_that_changes_one_value_is_not_believed(monkeypatch):
    before = image(smooth())
    honest = recompress._stored_values

    def faulty(dataset):
        values = honest(dataset).copy()
        if dataset.file_meta.TransferSyntaxUID == JPEGLSLossless:
            values[3, 3] += 1
        return values

    monkeypatch.setattr(recompress, "_stored_values", faulty)
    assert recompress.lossless(before, "jpeg-ls") is before


def test_text_hidden_above_the_stored_bits_is_not_kept():
    pixels = smooth()
    hidden = pixels | (np.uint16(1) << 15)
    after = recompress.lossless(image(hidden, BitsStored=12, HighBit=11), "jpeg-ls")
    stored = pydicom.pixels.get_decoder(JPEGLSLossless).as_array(after, raw=True)[0]
    assert (stored == pixels).all()


def test_real_images_shrink():
    ratios = {}
    for name in ("CT_small.dcm", "MR_small.dcm"):
        before = read_dataset(get_testdata_file(name))
        after = recompress.lossless(before, "jpeg-ls")
        assert (after.pixel_array == before.pixel_array).all()
        ratios[name] = recompress.ratio(before, after)
    print(ratios)
    assert min(ratios.values()) > 1.5
