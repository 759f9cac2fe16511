"""Acquisition parameters: of released files only, and only what their profile keeps."""

import numpy as np
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from fedimg.crypto.keys import SiteKey
from fedimg.dicom.acquisition import PARAMETERS, acquisition_parameters
from fedimg.dicom.authoring import build_image
from fedimg.dicom.deidentify import Deidentifier
from fedimg.dicom.profile import load_profile
from fedimg.errors import ConfigError, DataError

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


def released(sop_class=CT, **attributes):
    dataset = Dataset()
    dataset.SOPClassUID, dataset.PatientIdentityRemoved = sop_class, "YES"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def test_units_are_those_of_the_standard():
    found = acquisition_parameters(
        released(
            KVP="120",
            Exposure="85",
            XRayTubeCurrent="210",
            SliceThickness="1.25",
            PixelSpacing=["0.7", "0.8"],
            EchoTime="",
            FlipAngle="90",
        )
    )
    assert found == {
        "tube_voltage_kv": 120.0,
        "exposure_mas": 85.0,
        "tube_current_ma": 210.0,
        "slice_thickness_mm": 1.25,
        "pixel_spacing_row_mm": 0.7,
        "pixel_spacing_column_mm": 0.8,
        "flip_angle_deg": 90.0,
    }


def test_a_free_text_that_the_profile_drops_is_not_read():
    dataset = released(ConvolutionKernel="B30f Dr. Who")
    assert "convolution_kernel" not in acquisition_parameters(dataset)
    with pytest.raises(ConfigError, match="a profile among"):
        acquisition_parameters(dataset, "none")


@pytest.mark.parametrize("profile", ["train", "ps315-basic", "ps315-research"])
def test_nothing_is_read_that_a_profile_does_not_keep(profile):
    """Every top-level attribute is set; what comes back has a row of action K or C in that profile."""
    dataset = released()
    for sources in PARAMETERS.values():
        for source in sources:
            if not source.macro:
                value = 1.0 if dictionary_VR(source.keyword) == "FD" else "1"
                setattr(dataset, source.keyword, [value] * source.values if source.values > 1 else value)
    root = load_profile(profile).root(CT)
    found = acquisition_parameters(dataset, profile)
    assert found
    for name, sources in PARAMETERS.items():
        rows = [root.get(dataset[source.keyword].tag) for source in sources if source.keyword in dataset]
        assert (name in found) == any(row is not None and row.action in "KC" for row in rows)


def test_of_a_file_as_a_site_releases_it(tmp_path):
    """From a hospital's file through the identity boundary: what is in it before and what comes out after."""
    attributes = {
        "PatientID": "4711",
        "PatientName": "DOE^JANE",
        "StudyDate": "20120309",
        "KVP": "120",
        "ConvolutionKernel": "DOE",
        "PixelSpacing": ["0.7", "0.7"],
        "SliceThickness": "2.5",
    }
    pixels = (np.add.outer(np.arange(16), np.arange(16)) * 9).astype(np.uint16)
    source = build_image(modality="CT", pixels=pixels, attributes=attributes)
    with pytest.raises(DataError, match="a released file"):
        acquisition_parameters(source)
    path = tmp_path / "released.dcm"
    path.write_bytes(Deidentifier(SiteKey.from_bytes(b"k" * 32), "project").deidentify(source).data)
    assert acquisition_parameters(path) == {
        "tube_voltage_kv": 120.0,
        "slice_thickness_mm": 2.5,
        "pixel_spacing_row_mm": 0.7,
        "pixel_spacing_column_mm": 0.7,
    }


def test_enhanced_objects_have_them_in_functional_groups():
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = ["0.5", "0.6"], "3"
    shared.PixelMeasuresSequence = [measures]
    found = acquisition_parameters(released(ENHANCED_MR, SharedFunctionalGroupsSequence=[shared]))
    assert found == {"pixel_spacing_row_mm": 0.5, "pixel_spacing_column_mm": 0.6, "slice_thickness_mm": 3.0}


@pytest.mark.parametrize("marked", [None, "NO"])
def test_a_file_that_was_not_deidentified_is_refused(marked):
    dataset = released(KVP="120")
    del dataset.PatientIdentityRemoved
    if marked:
        dataset.PatientIdentityRemoved = marked
    with pytest.raises(DataError, match="a released file"):
        acquisition_parameters(dataset)


def test_numbers_that_are_none_are_left_out():
    dataset = released(PixelSpacing=["0.5"], MagneticFieldStrength=None)
    found = acquisition_parameters(dataset)
    assert not found
    dataset.add_new("RevolutionTime", "FD", np.nan)
    assert not acquisition_parameters(dataset)
