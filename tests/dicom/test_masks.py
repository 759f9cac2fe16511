"""The mask reaches training: with the frames' spatial order, and only where something was masked."""

from __future__ import annotations

import numpy as np
import pytest

from fedimg.dicom import masks, pixels
from fedimg.dicom.authoring import build_image, encoded, write_image
from fedimg.errors import ConfigError
from fedimg.home import SiteHome
from fedimg.intake import IntakeConfig, MeasuredIntakeConfig, admission, admitted, run_intake
from fedimg.values import SourceItem

SHAPE = (4, 12, 16)


def stack(positions: list[int]):
    """Frames of one value each, at the given places along the patient."""
    values = np.zeros(SHAPE, np.uint16) + (np.arange(4, dtype=np.uint16) * 100)[:, None, None]
    groups = [{"PlanePositionSequence": [{"ImagePositionPatient": ["0", "0", str(z)]}]} for z in positions]
    return build_image(
        modality="MR",
        pixels=values,
        attributes={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.1", "PerFrameFunctionalGroupsSequence": groups},
    )


def test_the_mask_follows_its_frame_into_spatial_order(tmp_path):
    path = tmp_path / "release.dcm"
    path.write_bytes(encoded(stack([30, 10, 40, 20])))
    areas = ((1, 2, 3, 5, 6), (None, 0, 0, 15, 0))
    image = pixels.decode(path, masked=areas)
    assert image.pixels_DHW[:, 5, 5].tolist() == [100, 300, 0, 200]  # stored frames 1, 3, 0, 2
    mask = image.mask_DHW
    assert mask is not None
    assert mask.shape == SHAPE
    assert mask[:, 0].all()
    assert mask[0, 3:7, 2:6].all()
    assert mask.sum() == 4 * 16 + 4 * 4
    assert pixels.decode(path).mask_DHW is None


def test_areas_beyond_the_image_cover_nothing():
    assert not masks.mask([(9, 0, 0, 5, 5), (0, 20, 20, 30, 30)], SHAPE).any()


def test_evidence_without_pixels_has_no_mask():
    assert masks.areas_of({}) == ()
    assert masks.areas_of({"pixels": {"layers": ["L0"]}}) == ()
    assert masks.areas_of({"masked": [[None, 1, 2, 3, 4]]}) == ((None, 1, 2, 3, 4),)


def blanked_ultrasound(tmp_path):
    """One ultrasound whose banner lies outside its region."""
    banner = np.full((60, 80), 50, np.uint8)
    banner[:10] = 200
    region = {
        "RegionLocationMinX0": 5,
        "RegionLocationMinY0": 12,
        "RegionLocationMaxX1": 70,
        "RegionLocationMaxY1": 55,
    }
    source = tmp_path / "1.dcm"
    attributes = {"PatientID": "4711", "SequenceOfUltrasoundRegions": [region]}
    write_image(source, modality="US", pixels=banner, attributes=attributes)
    return SourceItem(source, "dicom", label=0), SiteHome.create(tmp_path / "home", simulated=True)


def test_what_was_blanked_at_the_intake_is_masked_for_training(tmp_path):
    item, home = blanked_ultrasound(tmp_path)
    assert run_intake([item], home, IntakeConfig()).quarantined == {}
    (record,) = admitted(home)
    image = pixels.decode(home.released / record.path, masked=record.masked)
    inside = np.zeros((1, 60, 80), np.bool_)
    inside[0, 12:56, 5:71] = True
    assert image.mask_DHW is not None
    assert np.array_equal(image.mask_DHW, ~inside)
    assert (image.pixels_DHW[inside] == 50).all()
    assert (image.pixels_DHW[~inside] == 0).all()


def test_what_was_released_without_proof_of_its_pixels_is_not_admitted(tmp_path):
    item, home = blanked_ultrasound(tmp_path)
    assert run_intake([item], home, MeasuredIntakeConfig()).quarantined == {}
    found = admission(home)
    assert found.records == ()
    assert "pixels proven free of text (L5)" in str(found.refused[0])
    with pytest.raises(ConfigError, match="that this folder was filled under"):
        run_intake([item], home, IntakeConfig())
