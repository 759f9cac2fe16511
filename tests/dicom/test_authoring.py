"""What is written is what pydicom, an independent reader, reads back."""

from __future__ import annotations

import subprocess
import uuid
from io import BytesIO

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedimg.dicom import authoring
from fedimg.dicom.authoring import build_image, derived_uid, encode_image, write_image
from fedimg.errors import DataError
from tests.system import program

SYNTAXES = ("explicit_le", "implicit_le", "explicit_be", "deflated_le", "rle", "jpeg_ls", "jpeg_2000")
GEOMETRY = {
    "FrameOfReferenceUID": "1.2.9",
    "PixelSpacing": ["0.5", "0.5"],
    "ImagePositionPatient": ["0", "0", "1"],
    "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
    "SliceThickness": "2",
}


def read(**arguments) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(encode_image(**{"modality": "OT", "attributes": {}, **arguments})))


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        *((dtype, shape) for dtype in (np.uint8, np.uint16, np.int16) for shape in ((40, 36), (3, 35, 64))),
        (np.uint8, (64, 33, 3)),
        (np.uint8, (2, 33, 40, 3)),
    ],
)
def test_pixels_come_back_bit_for_bit(syntax, dtype, shape):
    info = np.iinfo(dtype)
    pixels = np.linspace(info.min, info.max, int(np.prod(shape))).astype(dtype).reshape(shape)
    pixels.flat[::7] ^= 3
    dataset = read(pixels=pixels, modality="US", transfer_syntax=syntax)
    assert (dataset.pixel_array == pixels).all()
    assert dataset.file_meta.TransferSyntaxUID == authoring._SYNTAXES[syntax]


@given(hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 9)] * 2)))
def test_any_size_is_padded_to_even_length(pixels):
    dataset = read(pixels=pixels)
    assert len(dataset.PixelData) % 2 == 0
    assert (dataset.pixel_array == pixels).all()


TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\\\0=^", exclude_categories=("C", "Z")), max_size=40
)
NUMBERS = st.integers(0, 65535)


@given(TEXT, TEXT, NUMBERS, st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=4))
@pytest.mark.parametrize("syntax", ["explicit_le", "implicit_le", "explicit_be", "deflated_le"])
def test_values_of_every_kind_come_back_at_every_depth(syntax, name, text, number, floats):
    attributes = {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": name,
        "ImageComments": text,
        "RecommendedDisplayFrameRate": str(number),
        "ReferencedStudySequence": [
            {"ReferencedSOPInstanceUID": "1.2.3", "PurposeOfReferenceCodeSequence": [{"CodeMeaning": text}]},
            {},
        ],
        "FrameIncrementPointer": [0x00181063, 0x7FE00010],
        "SelectorFDValue": floats,
        "PixelAspectRatio": ["1", "2"],
    }
    dataset = read(pixels=np.zeros((2, 2), np.uint8), attributes=attributes, transfer_syntax=syntax)
    assert str(dataset.PatientName) == name
    assert str(dataset.ImageComments or "") == text
    assert dataset.RecommendedDisplayFrameRate == number
    first, second = dataset.ReferencedStudySequence
    assert first.ReferencedSOPInstanceUID == "1.2.3" and not second
    assert str(first.PurposeOfReferenceCodeSequence[0].CodeMeaning or "") == text
    assert list(dataset.FrameIncrementPointer) == [0x00181063, 0x7FE00010]
    assert list(dataset.SelectorFDValue) == floats
    assert list(dataset.PixelAspectRatio) == [1, 2]


def test_private_blocks_are_reserved_in_order():
    private = [
        (0x0029, "ONE", 0x01, "LO", "a"),
        (0x0029, "TWO", 0x01, "OB", b"b"),
        (0x0029, "ONE", 0x02, "SQ", [{"PatientName": "Doe^Jane"}]),
        (0x0033, "TWO", 0xFF, "SH", "c"),
    ]
    dataset = read(pixels=np.zeros((2, 2), np.uint8), private=private)
    assert dataset.private_block(0x29, "ONE")[0x01].value == "a"
    assert dataset.private_block(0x29, "TWO")[0x01].value == b"b\0"
    assert dataset.private_block(0x29, "ONE")[0x02].value[0].PatientName == "Doe^Jane"
    assert dataset[0x0033, 0x10FF].value == "c" and dataset[0x0029, 0x0011].value == "TWO"


def test_group_two_goes_into_the_meta_and_its_length_is_right():
    dataset = read(pixels=np.zeros((2, 2), np.uint8), attributes={"SourceApplicationEntityTitle": "GATE"})
    assert dataset.file_meta.SourceApplicationEntityTitle == "GATE"
    again = BytesIO()
    pydicom.filewriter.write_file_meta_info(again, dataset.file_meta)
    assert dataset.file_meta.FileMetaInformationGroupLength == len(again.getvalue()) - 12
    assert "SourceApplicationEntityTitle" not in dataset


def test_an_image_in_memory_and_its_file_are_the_same(tmp_path):
    arguments = {
        "modality": "CR",
        "pixels": np.ones((4, 4), np.uint16),
        "attributes": {"SOPInstanceUID": "1.2"},
    }
    arguments["attributes"] |= {"StudyInstanceUID": "1.3", "SeriesInstanceUID": "1.4"}
    write_image(tmp_path / "a.dcm", **arguments)
    assert (tmp_path / "a.dcm").read_bytes() == encode_image(**arguments)
    assert build_image(**arguments) == pydicom.dcmread(tmp_path / "a.dcm")


def test_what_cannot_be_written_is_refused_with_words():
    with pytest.raises(DataError) as caught:
        read(pixels=np.zeros((2, 2), np.uint8), attributes={"PatientsNam": "x"})
    assert str(caught.value) == "expected a keyword of the DICOM dictionary; found PatientsNam; see PS3.6"
    with pytest.raises(DataError, match="expected pixels of uint8, uint16 or int16; found float64"):
        read(pixels=np.zeros((2, 2)))
    with pytest.raises(DataError, match="expected pixels of shape"):
        read(pixels=np.zeros((2, 2, 2, 2, 2), np.uint8))
    with pytest.raises(DataError, match="found CT; give SOPClassUID"):
        read(pixels=np.zeros((3, 2, 2), np.uint8), modality="CT")
    with pytest.raises(DataError, match=r"expected an image that JPEG 2000 .* can hold; found 2 × 2 pixels"):
        read(pixels=np.zeros((2, 2), np.uint8), transfer_syntax="jpeg_2000")
    with pytest.raises(DataError, match="expected at most 65535 bytes in LT; found 70000 bytes"):
        read(pixels=np.zeros((2, 2), np.uint8), attributes={"ImageComments": "x" * 70_000})


@given(st.lists(st.text(max_size=8), min_size=1, max_size=4))
def test_a_derived_uid_is_a_uid_of_its_parts_alone(parts):
    uid = derived_uid(*parts)
    assert pydicom.uid.UID(uid).is_valid and len(uid) <= 44
    number = uuid.UUID(int=int(uid.removeprefix("2.25.")))
    assert number.version == 8 and number.variant == uuid.RFC_4122
    assert uid == derived_uid(*parts)
    assert uid != derived_uid(*parts, "") and uid != derived_uid("x" + parts[0], *parts[1:])


def test_parts_are_framed():
    assert derived_uid("ab", "c") != derived_uid("a", "bc")


@pytest.mark.parametrize("modality", ["CT", "MR", "CR", "US", "OT"])
def test_dciodvfy_finds_no_error(tmp_path, modality):
    verifier = program("dciodvfy")
    attributes = {"StudyDate": "20200101", "StudyTime": "120000", "StudyID": "1"}
    attributes |= GEOMETRY if modality in ("CT", "MR") else {"PatientOrientation": ["L", "F"]}
    attributes |= {"Laterality": "L"} if modality == "US" else {}
    attributes |= {"BodyPartExamined": "CHEST"} if modality in ("CT", "MR", "CR") else {}
    attributes |= {"ImagerPixelSpacing": ["1", "1"]} if modality == "CR" else {}
    pixels = np.arange(64, dtype=np.uint8 if modality == "US" else np.uint16).reshape(8, 8)
    write_image(tmp_path / "a.dcm", modality=modality, pixels=pixels, attributes=attributes)
    found = subprocess.run([verifier, str(tmp_path / "a.dcm")], capture_output=True, text=True, check=False)
    assert not [line for line in found.stderr.splitlines() if line.startswith("Error")]
