"""Sizes in compressed headers, against what the encoders were given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames

from fedimg.dicom import authoring
from fedimg.dicom.codestream import frame_size
from fedimg.dicom.reader import read_dataset


def frames_of(dataset):
    return list(generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1)))


@pytest.mark.parametrize("syntax", ["jpeg_ls", "jpeg_2000"])
@pytest.mark.parametrize("shape", [(40, 56), (33, 64, 3), (2, 40, 32)])
def test_the_size_is_what_was_encoded(syntax, shape):
    dataset = authoring.build_image(
        modality="OT", pixels=np.zeros(shape, np.uint8), attributes={}, transfer_syntax=syntax
    )
    expected = (dataset.Rows, dataset.Columns, dataset.SamplesPerPixel)
    assert [frame_size(frame) for frame in frames_of(dataset)] == [expected] * (
        shape[0] if shape[0] == 2 else 1
    )


@pytest.mark.parametrize(
    "name",
    [
        "JPEG2000.dcm",
        "MR_small_jp2klossless.dcm",
        "693_J2KI.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "JPEG-lossy.dcm",
    ],
)
def test_files_of_other_makers_state_their_size(name):
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"pydicom's {name} is not here")
    dataset = read_dataset(path)
    expected = (dataset.Rows, dataset.Columns, dataset.SamplesPerPixel)
    assert {frame_size(frame) for frame in frames_of(dataset)} == {expected}


@given(st.binary(max_size=80), st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\x4f\xff\x51"]))
def test_any_bytes_are_read_without_an_error(tail, head):
    found = frame_size(head + tail)
    assert found is None or len(found) == 3
    assert head or found is None or b"\xff" in tail


def test_run_length_frames_state_no_size():
    dataset = authoring.build_image(
        modality="OT", pixels=np.zeros((8, 8), np.uint8), attributes={}, transfer_syntax="rle"
    )
    assert frame_size(frames_of(dataset)[0]) is None
