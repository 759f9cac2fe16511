"""Files are known by their bytes; headers may be asked anything."""

import gzip
import io

import numpy as np
import pytest
from PIL import Image

from fedimg.dicom.authoring import encode_image
from fedimg.dicom.image_file import open_image
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine

PIXELS = np.arange(400, dtype=np.uint8).reshape(20, 20)


def png():
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG")
    return stream.getvalue()


def dicom(**attributes):
    return encode_image(modality="CR", pixels=PIXELS.astype(np.uint16), attributes=attributes)


def opened(tmp_path, data, name="file"):
    (tmp_path / name).write_bytes(data)
    return open_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.dcm", "a.png", "a", "a.nii.gz"])
def test_a_name_decides_nothing(tmp_path, name):
    picture, file = opened(tmp_path, png(), name), opened(tmp_path, dicom(), name)
    assert (picture.kind, picture.header) == ("image", None)
    assert file.kind == "dicom"
    assert np.array_equal(picture.decode().pixels_DHW[0], PIXELS)
    assert np.array_equal(file.decode().pixels_DHW[0], PIXELS)


def test_what_is_a_tiff_and_a_dicom_file_is_a_dicom_file(tmp_path):
    data = b"II*\0" + dicom()[4:]
    assert opened(tmp_path, data).kind == "dicom"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello, this is a letter", Quarantine.NOT_AN_IMAGE),
        (b"", Quarantine.NOT_AN_IMAGE),
        (png()[:60], Quarantine.UNREADABLE),
        (gzip.compress(b"no volume", mtime=0), Quarantine.NOT_AN_IMAGE),
        (b"\x1f\x8bnothing", Quarantine.UNREADABLE),
    ],
)
def test_what_is_no_image_has_a_reason(tmp_path, data, reason):
    with pytest.raises(Quarantined) as refused:
        opened(tmp_path, data).decode()
    assert refused.value.reason is reason


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "real").write_bytes(png())
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(Quarantined) as refused:
        open_image(tmp_path / "link")
    assert refused.value.reason is Quarantine.LINK


def test_a_header_answers_without_failing(tmp_path):
    region = {"CodeValue": "69536005", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Head"}
    known = {"PatientOrientation": ["L", "F"], "AnatomicRegionSequence": [region], "PixelSpacing": ["1", "2"]}
    header = opened(tmp_path, dicom(**known)).header
    assert header.values("PatientOrientation") == ["L", "F"]
    assert header.text("PatientOrientation") == "L F"
    assert [item.text("CodeMeaning") for item in header.items("AnatomicRegionSequence")] == ["Head"]
    assert header.has_pixels()
    assert header.plane_cosines() is None
    assert header.text("StudyDescription") == header.text("NoSuchKeyword") == ""
    assert header.items("PixelSpacing") == header.items("StudyDescription") == []
    assert header.values("Rows") == []  # a number is no text
