"""Pixel layers L0 to L2 and the text pass within a release: values exact, everything beside them gone."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from fedimg.crypto.keys import SiteKey
from fedimg.dicom import blanking
from fedimg.dicom.authoring import build_image, encoded
from fedimg.dicom.deidentify import DeidConfig, Deidentifier
from fedimg.dicom.reader import parse
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine

KEY = SiteKey.from_bytes(b"k" * 32)
PIXELS = (np.add.outer(np.arange(16), np.arange(16)) * 9).astype(np.uint16)


@pytest.fixture(scope="module")
def deidentifier() -> Deidentifier:
    return Deidentifier(KEY, "project")


def image(**attributes) -> Dataset:
    known = {
        "PatientID": "4711",
        "PatientName": "DOE^JANE",
        "PatientBirthDate": "19500607",
        "StudyDate": "20120309",
    }
    return build_image(modality="CT", pixels=PIXELS, attributes=known | attributes)


@pytest.mark.parametrize(
    "syntax", ["explicit_le", "implicit_le", "explicit_be", "deflated_le", "rle", "jpeg_ls", "jpeg_2000"]
)
@pytest.mark.parametrize("method", ["jpeg-ls", "none"])
def test_pixels_are_bit_identical_whatever_the_encoding(syntax, method):
    pixels = np.random.default_rng(0).integers(-1000, 3000, (64, 72)).astype(np.int16)
    attributes = {"PatientID": "4711", "Modality": "CT"}
    dataset = build_image(modality="CT", pixels=pixels, attributes=attributes, transfer_syntax=syntax)
    release = Deidentifier(KEY, "p", DeidConfig(recompress=method)).deidentify(parse(encoded(dataset)))
    read = pydicom.dcmread(io.BytesIO(release.data))
    assert np.array_equal(read.pixel_array, pixels)
    assert (
        release.pixel_digest
        == Deidentifier(KEY, "p").deidentify(parse(encoded(image_of(pixels)))).pixel_digest
    )


def image_of(pixels: np.ndarray) -> Dataset:
    return build_image(modality="CT", pixels=pixels, attributes={"PatientID": "4711"})


def test_no_in_burned_in_annotation_counts_for_nothing(deidentifier):
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("L", (160, 160), 40)
    ImageDraw.Draw(picture).text((4, 4), "DOE JANE 4711", fill=255, font=ImageFont.load_default(16))
    source = build_image(
        modality="CR",
        pixels=np.asarray(picture, np.uint16) * 16,
        attributes={"PatientID": "4711", "BurnedInAnnotation": "NO", "BitsStored": 12},
    )
    release = deidentifier.deidentify(source)
    read = pydicom.dcmread(io.BytesIO(release.data))
    shown = read.pixel_array.astype(int)
    assert (shown == 40 * 16).all()  # every letter is under the mask, filled with the darkest value there is
    covered = blanking.mask_of(release.evidence.to_mapping(), (1, 160, 160))
    assert covered is not None
    assert covered[0, 8:20, 4:100].mean() > 0.9


def ultrasound(**attributes) -> Dataset:
    pixels = np.full((60, 80), 50, np.uint8)
    pixels[:10, :] = 200  # the banner
    region = {
        "RegionSpatialFormat": 1,
        "RegionDataType": 1,
        "RegionFlags": 0,
        "RegionLocationMinX0": 5,
        "RegionLocationMinY0": 12,
        "RegionLocationMaxX1": 70,
        "RegionLocationMaxY1": 55,
    }
    known = {"PatientID": "4711", "SequenceOfUltrasoundRegions": [region]} | attributes
    return build_image(modality="US", pixels=pixels, attributes=known)


@pytest.mark.parametrize("declared", ["YES", "NO"])
def test_ultrasound_is_blank_outside_its_regions(deidentifier, declared):
    release = deidentifier.deidentify(ultrasound(BurnedInAnnotation=declared))
    pixels = pydicom.dcmread(io.BytesIO(release.data)).pixel_array
    expected = np.zeros((60, 80), np.uint8)
    expected[12:56, 5:71] = 50
    assert np.array_equal(pixels, expected)
    evidence = release.evidence.pixels
    assert evidence.kept_regions == ((5, 12, 70, 55),)
    covered = blanking.mask_of(release.evidence.to_mapping(), (1, 60, 80))
    assert covered is not None
    assert np.array_equal(covered[0], expected == 0)
    assert evidence.layers == ("L0", "L1", "L2", "L3", "L4", "L5")
    assert evidence.share == 0.0  # beside what was known beforehand


def test_ultrasound_without_regions_is_held_back(deidentifier):
    dataset = ultrasound()
    del dataset.SequenceOfUltrasoundRegions
    with pytest.raises(Quarantined, match="ultrasound without SequenceOfUltrasoundRegions"):
        deidentifier.deidentify(dataset)


@pytest.mark.parametrize("signed", [False, True])
def test_nothing_survives_in_the_bits_above_bits_stored(deidentifier, signed):
    values = np.arange(256).reshape(16, 16) - (128 if signed else 0)
    dataset = build_image(
        modality="CT",
        pixels=(values & 0xFFF).astype(np.uint16),
        attributes={"PatientID": "4711", "BitsStored": 12},
    )
    dataset.PixelRepresentation = int(signed)
    dataset.BitsStored, dataset.HighBit = 12, 11
    stored = np.frombuffer(dataset.PixelData, "<u2")
    overlay = (np.arange(256) % 2 * 0x8000).astype(np.uint16)
    dataset.PixelData = (stored | overlay).tobytes()
    config = DeidConfig(recompress="none")
    release = Deidentifier(KEY, "p", config).deidentify(dataset)
    raw = pydicom.dcmread(io.BytesIO(release.data)).PixelData
    written = np.frombuffer(raw, "<i2" if signed else "<u2").reshape(16, 16)
    assert np.array_equal(written, values)


def test_what_follows_pixels_in_their_element_is_cut(deidentifier):
    dataset = image()
    dataset.PixelData += b"QQNAMEQQ" * 4
    assert b"QQNAMEQQ" in encoded(dataset)
    release = Deidentifier(KEY, "p", DeidConfig(recompress="none")).deidentify(parse(encoded(dataset)))
    assert b"QQNAMEQQ" not in release.data
    assert len(pydicom.dcmread(io.BytesIO(release.data)).PixelData) == PIXELS.nbytes


def test_comments_in_compressed_pixels_are_gone(deidentifier):
    dataset = build_image(
        modality="CT", pixels=PIXELS, attributes={"PatientID": "4711"}, transfer_syntax="jpeg_ls"
    )
    fragment = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    comment = b"\xff\xfe" + (2 + 8).to_bytes(2, "big") + b"QQNAMEQQ"
    dataset.PixelData = pydicom.encaps.encapsulate([fragment[:2] + comment + fragment[2:]])
    dataset["PixelData"].is_undefined_length = True
    source = encoded(dataset)
    assert b"QQNAMEQQ" in source
    release = deidentifier.deidentify(parse(source))
    assert b"QQNAMEQQ" not in release.data
    assert np.array_equal(pydicom.dcmread(io.BytesIO(release.data)).pixel_array, PIXELS)


def test_planar_colour_keeps_its_values(deidentifier):
    colour = np.random.default_rng(1).integers(0, 256, (8, 10, 3)).astype(np.uint8)
    dataset = build_image(
        modality="US",
        pixels=colour,
        attributes={"PatientID": "4711", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.5.1", "Modality": "OP"},
    )
    dataset.PlanarConfiguration = 1
    dataset.PixelData = np.ascontiguousarray(colour.transpose(2, 0, 1)).tobytes()
    read = pydicom.dcmread(io.BytesIO(deidentifier.deidentify(dataset).data))
    assert read.PlanarConfiguration == 0
    assert np.array_equal(read.pixel_array, colour)


NATIVE = ["explicit_le", "implicit_le", "explicit_be", "deflated_le", "rle"]


def words(syntax: str, stored: np.ndarray, **numbers: int) -> bytes:
    """A file whose 16-bit words are `stored`, whatever its header says of them."""
    dataset = build_image(
        modality="CT", pixels=stored, attributes={"PatientID": "4711"}, transfer_syntax=syntax
    )
    for keyword, value in numbers.items():
        setattr(dataset, keyword, value)
    return encoded(dataset)


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize(("stored", "high"), [(12, 15), (12, 13), (8, 15), (1, 15)])
@pytest.mark.parametrize("signed", [0, 1])
def test_a_high_bit_elsewhere_is_moved_and_the_bits_beside_it_are_gone(syntax, stored, high, signed):
    """Files of before 2014 may keep values in the upper bits, and an overlay in the lower ones (PS3.5 8.1.1)."""
    rng = np.random.default_rng(stored)
    low = -(1 << (stored - 1)) if signed else 0
    values = rng.integers(low, low + (1 << stored), (16, 16))
    shift = high + 1 - stored
    beside = rng.integers(0, 1 << 16, (16, 16)) & ~(((1 << stored) - 1) << shift)
    word = ((values & ((1 << stored) - 1)) << shift | beside).astype(np.uint16)
    source = words(syntax, word, BitsStored=stored, HighBit=high, PixelRepresentation=signed)
    release = Deidentifier(KEY, "p", DeidConfig(recompress="none")).deidentify(parse(source))
    read = pydicom.dcmread(io.BytesIO(release.data))
    assert (read.BitsStored, read.HighBit) == (stored, stored - 1)
    assert np.array_equal(np.frombuffer(read.PixelData, "<i2" if signed else "<u2"), values.ravel())


def test_a_high_bit_elsewhere_in_compressed_pixels_is_held_back(deidentifier):
    wide = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    source = words("jpeg_2000", wide, BitsStored=12, HighBit=13)
    with pytest.raises(Quarantined, match="HighBit of their own"):
        deidentifier.deidentify(parse(source))


@pytest.mark.parametrize(
    "numbers",
    [
        {"BitsStored": 12, "HighBit": 10},
        {"BitsStored": 17, "HighBit": 16},
        {"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11},
        {"SamplesPerPixel": 4},
        {"PixelRepresentation": 2},
        {"Rows": 0},
    ],
    ids=str,
)
def test_sizes_that_contradict_each_other_are_held_back(deidentifier, numbers):
    source = encoded(image())
    dataset = pydicom.dcmread(io.BytesIO(source))
    for keyword, value in numbers.items():
        setattr(dataset, keyword, value)
    with pytest.raises(Quarantined) as refusal:
        deidentifier.deidentify(dataset)
    assert refusal.value.reason in (Quarantine.UNSAFE_STRUCTURE, Quarantine.PIXELS_UNDECODABLE)


def test_one_bit_and_floating_point_pixels_are_held_back_with_their_reason(deidentifier):
    dataset = image()
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = 0
    with pytest.raises(Quarantined, match="pixels of one bit"):
        deidentifier.deidentify(dataset)
    dataset = image()
    del dataset.PixelData
    dataset.FloatPixelData = b"\0" * (4 * 256)
    with pytest.raises(Quarantined, match="floating-point pixels"):
        deidentifier.deidentify(dataset)


def jpeg(colour: bool, extra: bytes) -> bytes:
    from PIL import Image

    picture = np.add.outer(np.arange(32), np.arange(40)).astype(np.uint8)
    buffer = io.BytesIO()
    pixels = np.repeat(picture[..., None], 3, axis=2) if colour else picture
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    data = buffer.getvalue()
    return data[:2] + extra + data[2:]


def segment(marker: int, payload: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + (len(payload) + 2).to_bytes(2, "big") + payload


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize(
    "extra",
    [segment(0xFE, b"QQNAMEQQ 4711"), segment(0xE1, b"Exif\0\0QQNAMEQQ"), segment(0xE5, b"QQNAMEQQ" * 100)],
    ids=["COM", "EXIF", "APP5"],
)
def test_segments_of_jpeg_are_gone(deidentifier, colour, extra):
    plain = released_jpeg(deidentifier, jpeg(colour, b""))
    source = jpeg(colour, extra)
    assert b"QQNAMEQQ" in source
    release = released_jpeg(deidentifier, source)
    assert b"QQNAMEQQ" not in release
    decoded = [pydicom.dcmread(io.BytesIO(data)).pixel_array for data in (plain, release)]
    assert np.array_equal(*decoded)


def released_jpeg(deidentifier: Deidentifier, codestream: bytes) -> bytes:
    colour = b"\xff\xc0" in codestream and codestream[codestream.index(b"\xff\xc0") + 9] == 3
    dataset = build_image(
        modality="US",
        pixels=np.zeros((32, 40, 3) if colour else (32, 40), np.uint8),
        attributes={
            "PatientID": "9942",
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.5.1",
            "Modality": "OP",
            "SOPInstanceUID": "1.2.3.4",
        },
    )
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    dataset.PhotometricInterpretation = "YBR_FULL_422" if colour else "MONOCHROME2"
    dataset.PixelData = pydicom.encaps.encapsulate([codestream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return deidentifier.deidentify(parse(encoded(dataset))).data


def test_comments_of_jpeg_2000_are_gone(deidentifier):
    wide = np.tile(PIXELS, (4, 4))
    dataset = build_image(
        modality="CT", pixels=wide, attributes={"PatientID": "4711"}, transfer_syntax="jpeg_2000"
    )
    stream = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    at = stream.index(b"\xff\x52")  # before COD, in the main header (ISO/IEC 15444-1 A.9.2)
    comment = b"\xff\x64" + (4 + 8).to_bytes(2, "big") + b"\0\1QQNAMEQQ"
    dataset.PixelData = pydicom.encaps.encapsulate([stream[:at] + comment + stream[at:]])
    dataset["PixelData"].is_undefined_length = True
    source = encoded(dataset)
    assert b"QQNAMEQQ" in source
    release = deidentifier.deidentify(parse(source))
    assert b"QQNAMEQQ" not in release.data
    assert np.array_equal(pydicom.dcmread(io.BytesIO(release.data)).pixel_array, wide)


@pytest.mark.parametrize("syntax", ["rle", "jpeg_ls", "jpeg_2000"])
@pytest.mark.parametrize("stated", ["2", "4"])
def test_more_or_fewer_frames_than_stated_are_held_back(deidentifier, syntax, stated):
    pixels = np.stack([np.tile(PIXELS + n, (4, 4)) for n in range(3)])
    attributes = {"PatientID": "4711", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"}
    dataset = build_image(modality="CT", pixels=pixels, attributes=attributes, transfer_syntax=syntax)
    dataset.NumberOfFrames = stated
    with pytest.raises(Quarantined) as refusal:
        deidentifier.deidentify(parse(encoded(dataset)))
    assert refusal.value.reason is Quarantine.PIXELS_UNDECODABLE


def test_icons_overlays_and_curves_are_gone(deidentifier):
    dataset = image()
    icon = Dataset()
    icon.Rows = icon.Columns = 8
    icon.PixelData = b"QQNAMEQQ" * 8
    icon["PixelData"].VR = "OB"
    dataset.IconImageSequence = [icon]
    for group in (0x6000, 0x601E):
        dataset.add_new(group << 16 | 0x0010, "US", 16)
        dataset.add_new(group << 16 | 0x3000, "OW", b"QQNAMEQQ")
        dataset.add_new(group << 16 | 0x0022, "LO", "QQNAMEQQ")
    dataset.add_new(0x50003000, "OW", b"QQNAMEQQ")
    source = encoded(dataset)
    assert source.count(b"QQNAMEQQ") == 13
    release = deidentifier.deidentify(parse(source))
    assert b"QQNAMEQQ" not in release.data
    read = pydicom.dcmread(io.BytesIO(release.data))
    assert not [e for e in read if e.tag.group >= 0x5000 and e.tag.group != 0x7FE0]
    assert "IconImageSequence" not in read
    assert np.array_equal(read.pixel_array, PIXELS)


def test_time_series_of_volumes_keep_every_value():
    """4-D: slices × times as frames of one object."""
    pixels = np.random.default_rng(3).integers(0, 4096, (4 * 5, 24, 16)).astype(np.uint16)
    attributes = {"PatientID": "4711", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.1", "BitsStored": 12}
    dataset = build_image(modality="MR", pixels=pixels, attributes=attributes)
    for method in ("none", "jpeg-ls"):
        config = DeidConfig(recompress=method, pixel_layers="L0-L3")
        read = pydicom.dcmread(io.BytesIO(Deidentifier(KEY, "p", config).deidentify(dataset).data))
        assert np.array_equal(read.pixel_array, pixels)
