"""Pictures come in by their pixels alone."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fedimg.dicom.foreign import decode_picture, image_to_dicom
from fedimg.dicom.pixels import decode
from fedimg.dicom.reader import ReadLimits
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine

NAME = b"Featherstonehaugh"


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def reason_of(data: bytes, **limits) -> Quarantine:
    with pytest.raises(Quarantined) as caught:
        decode_picture(data, ReadLimits(**limits))
    return caught.value.reason


@given(st.data())
def test_pixels_are_kept_exactly(tmp_path_factory, data):
    dtype, shape = data.draw(
        st.sampled_from([(np.uint8, (5, 7)), (np.uint16, (5, 7)), (np.uint8, (5, 7, 3))])
    )
    pixels = data.draw(hnp.arrays(dtype, shape))
    kind = data.draw(st.sampled_from(["PNG", "TIFF"]))
    folder = tmp_path_factory.mktemp("picture")
    (folder / "in").write_bytes(saved(Image.fromarray(pixels), kind))
    image_to_dicom(folder / "in", "P-1", folder / "out.dcm")
    dataset = pydicom.dcmread(folder / "out.dcm")
    assert (dataset.pixel_array == pixels).all()
    assert (dataset.PatientID, dataset.Modality) == ("P-1", "OT")
    assert dataset.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage


def test_no_metadata_of_a_picture_come_along(tmp_path):
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = NAME.decode()
    text = PngInfo()
    text.add_text("Patient", NAME.decode())
    text.add_itxt("Comment", NAME.decode(), zip=False)
    pictures = {
        "png": saved(grey, "PNG", pnginfo=text, exif=exif.tobytes(), icc_profile=NAME * 9),
        "jpeg": saved(grey, "JPEG", exif=exif.tobytes(), comment=NAME, icc_profile=NAME * 9),
        "tiff": saved(grey, "TIFF", description=NAME.decode(), artist=NAME.decode()),
    }
    for kind, data in pictures.items():
        assert NAME in data + NAME  # planted
        assert data.count(NAME), kind
        (tmp_path / "in").write_bytes(data + NAME)
        image_to_dicom(tmp_path / "in", "P-1", tmp_path / "out.dcm")
        assert NAME not in (tmp_path / "out.dcm").read_bytes()


def test_a_turned_photograph_is_set_upright(tmp_path):
    pixels = np.zeros((16, 32), np.uint8)
    pixels[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held a quarter turn clockwise
    (tmp_path / "in").write_bytes(saved(Image.fromarray(pixels), "JPEG", exif=exif.tobytes(), quality=95))
    image_to_dicom(tmp_path / "in", "P-1", tmp_path / "out.dcm")
    upright = decode(tmp_path / "out.dcm").pixels_DHW[0]
    assert upright.shape == (32, 16)
    assert upright[:8, 8:].mean() > 240 and upright[:8, :8].mean() < 15


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("1", "L"), ("L", "L"), ("LA", "L"), ("P", "RGB"), ("RGB", "RGB"), ("RGBA", "RGB"), ("CMYK", "RGB")],
)
def test_every_kind_of_picture_becomes_grey_or_colour(mode, kind):
    picture = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).convert(mode)
    pixels, found = decode_picture(saved(picture, "TIFF" if mode == "CMYK" else "PNG"))
    assert found == kind and pixels.dtype == np.uint8
    assert pixels.shape == ((8, 8, 3) if kind == "RGB" else (8, 8))


def test_pages_of_a_film_become_frames(tmp_path):
    pages = [Image.fromarray(np.full((8, 8), k, np.uint8)) for k in (1, 2, 3)]
    (tmp_path / "in").write_bytes(saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    image_to_dicom(tmp_path / "in", "P-1", tmp_path / "out.dcm")
    assert decode(tmp_path / "out.dcm").pixels_DHW[:, 0, 0].tolist() == [1, 2, 3]
    assert pydicom.dcmread(tmp_path / "out.dcm").SOPClassUID.name.startswith("Multi-frame Grayscale Byte")
    mixed = saved(pages[0], "TIFF", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert reason_of(mixed) is Quarantine.WRONG_SHAPE


def test_equal_pictures_of_a_patient_are_one_instance_and_of_two_patients_two(tmp_path):
    (tmp_path / "in").write_bytes(saved(Image.new("L", (8, 8), 9), "PNG"))
    for name, patient in (("a", "P-1"), ("b", "P-1"), ("c", "P-2")):
        image_to_dicom(tmp_path / "in", patient, tmp_path / name)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    uids = [pydicom.dcmread(BytesIO(data)).SOPInstanceUID for data in (a, c)]
    assert uids[0] != uids[1]


def png_of_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(60_000, 60_000), (70_000, 1), (20_000, 20_000)])
def test_a_bomb_is_refused_by_its_stated_size(size):
    assert reason_of(png_of_size(*size)) is Quarantine.UNSAFE_STRUCTURE


def test_the_limit_is_the_callers():
    picture = saved(Image.new("L", (10, 10)), "PNG")
    assert reason_of(picture, pixel_samples=299) is Quarantine.UNSAFE_STRUCTURE
    assert decode_picture(picture, ReadLimits(pixel_samples=300))[0].shape == (10, 10)


def test_what_is_no_picture_is_refused_without_its_words(tmp_path):
    letter = tmp_path / "letter.png"
    letter.write_bytes(b"Dear " + NAME)
    with pytest.raises(Quarantined) as caught:
        image_to_dicom(letter, "P-1", tmp_path / "out.dcm")
    assert str(caught.value) == (
        "expected an image; found bytes that are no PNG, JPEG or TIFF (not_an_image); "
        "leave this file out of the input folder"
    )
    assert not (tmp_path / "out.dcm").exists()
    assert reason_of(saved(Image.new("L", (8, 8)), "GIF")) is Quarantine.NOT_AN_IMAGE
    assert reason_of(png_of_size(64, 64)) is Quarantine.UNREADABLE
    assert reason_of(saved(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF")) is Quarantine.WRONG_SHAPE


@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_damage_is_read_or_refused(noise, keep):
    data = saved(Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)), "JPEG")[:keep] + noise
    try:
        pixels, _ = decode_picture(data)
    except Quarantined as refusal:
        reason = refusal.reason
        assert reason in Quarantine
    else:
        assert pixels.size
