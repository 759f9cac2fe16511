"""An original is opened to the pixels that training's decoder gives, and its header is kept without them."""

import hashlib
import warnings

import numpy as np
import pydicom
import pytest

from fedimg.dicom import pixels
from fedimg.dicom.authoring import encode_image
from fedimg.dicom.original import open_original
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine

PIXELS = np.random.default_rng(2).integers(0, 4000, (3, 24, 20)).astype(np.uint16)


def written(path, modality="CT", image=PIXELS[0], **attributes):
    path.write_bytes(
        encode_image(modality=modality, pixels=image, attributes={"PatientID": "1"} | attributes)
    )
    return path


@pytest.mark.parametrize(
    ("modality", "image"), [("CT", PIXELS[0]), ("CR", PIXELS[0]), ("US", (PIXELS // 16).astype(np.uint8))]
)
def test_pixels_are_those_of_the_decoder_that_training_uses(tmp_path, modality, image):
    path = written(tmp_path / "x.dcm", modality, image, RescaleSlope="2", RescaleIntercept="-7")
    found, wanted = open_original(path), pixels.decode(path)
    assert (found.image.pixels_DHW == wanted.pixels_DHW).all()
    assert (found.image.affine_lps_mm == wanted.affine_lps_mm).all()
    assert (found.image.window, found.image.spacing_mm) == (wanted.window, wanted.spacing_mm)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.sop_uid == pydicom.dcmread(path).SOPInstanceUID
    assert "PixelData" not in found.header
    assert found.frames == tuple(range(1, len(found.image.pixels_DHW) + 1))


def test_frames_in_spatial_order_keep_their_numbers(tmp_path):
    shared = {"PlaneOrientationSequence": [{"ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"]}]}
    frames = [{"PlanePositionSequence": [{"ImagePositionPatient": ["0", "0", z]}]} for z in ("8", "0", "4")]
    path = written(
        tmp_path / "x.dcm",
        image=PIXELS,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1",
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
    )
    found = open_original(path)
    assert found.frames == (2, 3, 1)
    assert found.placed
    assert (found.image.pixels_DHW[0] == PIXELS[1]).all()


@pytest.mark.parametrize(
    ("said", "directions"),
    [
        (["L", "F"], ("L", "F")),
        (["AR", "FP"], ("A", "F")),
        ("", ("", "")),
        (["L"], ("", "")),
        (["X", "F"], ("", "")),
    ],
)
def test_directions_are_the_headers(tmp_path, said, directions):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = open_original(written(tmp_path / "x.dcm", "CR", PatientOrientation=said))
    assert found.directions == directions
    assert not found.measured
    assert open_original(written(tmp_path / "y.dcm", "CR", ImagerPixelSpacing=["0.2", "0.2"])).measured
    assert not open_original(written(tmp_path / "z.dcm", "CR", PixelAspectRatio=["2", "1"])).measured


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_a_file_without_a_uid_is_refused(tmp_path, keyword):
    with pytest.raises(Quarantined) as refusal:
        open_original(written(tmp_path / "x.dcm", **{keyword: ""}))
    assert refusal.value.reason == Quarantine.UNREADABLE


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(Quarantined, match="could not read"):
        open_original(tmp_path / "none.dcm")
