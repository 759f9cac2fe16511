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
from fedimg.dicom.reader import Quarantined, parse

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
