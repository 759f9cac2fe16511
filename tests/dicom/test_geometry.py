"""Millimetres of the patient: against highdicom, and against every kind of missing attribute."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from fedimg.dicom.geometry import geometry, numbers
from fedimg.dicom.reader import read_dataset


def dataset(**attributes) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def item(**attributes) -> Sequence:
    return Sequence([dataset(**attributes)])


@given(
    st.floats(0, 2 * np.pi), st.floats(0, np.pi), st.floats(0.1, 9), st.floats(0.1, 9), st.floats(-500, 500)
)
def test_a_pixel_lies_where_the_standard_says(turn, lift, between_rows, between_columns, z):
    row = np.array([np.cos(turn), np.sin(turn), 0])
    column = np.array([-np.sin(turn) * np.cos(lift), np.cos(turn) * np.cos(lift), np.sin(lift)])
    origin = np.array([10.0, -20.0, z])
    found = geometry(
        dataset(
            ImageOrientationPatient=[float(v) for v in (*row, *column)],
            ImagePositionPatient=[float(v) for v in origin],
            PixelSpacing=[between_rows, between_columns],
        ),
        1,
    )
    # PS3.3 equation C.7.6.2.1-1, for the pixel in column 3, row 5
    place = origin + row * between_columns * 3 + column * between_rows * 5
    assert np.allclose(found.affine_lps_mm @ [3, 5, 0, 1], [*place, 1], atol=1e-6)
    assert found.spacing_mm == pytest.approx((1.0, between_rows, between_columns))


@pytest.mark.parametrize(
    ("attributes", "spacing"),
    [
        ({}, (1.0, 1.0, 1.0)),
        ({"PixelSpacing": [0.5, 0.7]}, (1.0, 0.5, 0.7)),
        ({"ImagerPixelSpacing": [0.2, 0.1]}, (1.0, 0.2, 0.1)),
        ({"NominalScannedPixelSpacing": [0.2, 0.1]}, (1.0, 0.2, 0.1)),
        ({"PixelSpacing": [0.0, 1.0], "ImagerPixelSpacing": [0.2, 0.1]}, (1.0, 0.2, 0.1)),
        ({"PixelSpacing": [-1.0, 1.0]}, (1.0, 1.0, 1.0)),
        ({"PixelSpacing": [1.0]}, (1.0, 1.0, 1.0)),
        ({"PixelAspectRatio": [2, 1]}, (1.0, 2.0, 1.0)),
        ({"SliceThickness": 5}, (5.0, 1.0, 1.0)),
        ({"SliceThickness": 5, "SpacingBetweenSlices": -6}, (6.0, 1.0, 1.0)),
        ({"SliceThickness": 0}, (1.0, 1.0, 1.0)),
        (
            {
                "SequenceOfUltrasoundRegions": item(
                    PhysicalUnitsXDirection=3,
                    PhysicalUnitsYDirection=3,
                    PhysicalDeltaX=0.02,
                    PhysicalDeltaY=-0.03,
                )
            },
            (1.0, 0.3, 0.2),
        ),
        (
            {
                "SharedFunctionalGroupsSequence": item(
                    PixelMeasuresSequence=item(PixelSpacing=[0.3, 0.4], SliceThickness=2.5)
                ),
                "PixelSpacing": [9, 9],
            },
            (2.5, 0.3, 0.4),
        ),
    ],
)
def test_spacing_falls_back(attributes, spacing):
    found = geometry(dataset(**attributes), 1)
    assert found.spacing_mm == pytest.approx(spacing)
    assert np.linalg.norm(found.affine_lps_mm[:3, :3], axis=0)[::-1] == pytest.approx(spacing)


@pytest.mark.parametrize("orientation", [[0] * 6, [1, 0, 0, 1, 0, 0], [9, 0, 0, 0, 1, 0], [1, 0, 0]])
def test_a_senseless_orientation_is_the_axial_plane(orientation):
    found = geometry(dataset(ImageOrientationPatient=[float(v) for v in orientation]), 1)
    assert (found.affine_lps_mm == np.eye(4)).all()


@given(st.permutations(range(5)), st.floats(0.5, 20))
def test_frames_are_put_into_spatial_order(order, step):
    frames = Sequence(
        [dataset(PlanePositionSequence=item(ImagePositionPatient=[1.0, 2.0, 7 + step * k])) for k in order]
    )
    found = geometry(dataset(PerFrameFunctionalGroupsSequence=frames), 5)
    assert [order[i] for i in found.order] == [0, 1, 2, 3, 4]
    assert found.spacing_mm[0] == pytest.approx(step)
    assert found.affine_lps_mm @ [0, 0, 4, 1] == pytest.approx([1, 2, 7 + 4 * step, 1])


def test_frames_in_one_place_keep_their_order():
    frames = Sequence([dataset(PlanePositionSequence=item(ImagePositionPatient=[0.0, 0.0, 0.0]))] * 3)
    assert list(geometry(dataset(PerFrameFunctionalGroupsSequence=frames), 3).order) == [0, 1, 2]
    assert list(geometry(dataset(), 3).order) == [0, 1, 2]


@given(st.sampled_from([None, "", "x", [1, "y"], ["nan", 1], ["inf", 1], 5, [1, 2, 3]]))
def test_what_is_no_pair_of_numbers_is_none(value):
    class Source:
        def get(self, keyword):
            return value

    assert numbers(Source(), "PixelSpacing", 2) is None


def test_enhanced_images_lie_where_highdicom_puts_them(shared_data):
    highdicom = pytest.importorskip("highdicom")
    path = shared_data / "dicom" / "pydicom-data"
    path = next(path.rglob("eCT_Supplemental.dcm"), None)
    if path is None:
        pytest.skip("needs eCT_Supplemental.dcm in ../shared/data, which is not here")
    found = geometry(read_dataset(path), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        volume = highdicom.imread(path).get_volume()
    # highdicom indexes (slice, row, column); its slices may run the other way
    corner = volume.affine @ [0, 3, 5, 1]
    far = volume.affine @ [volume.spatial_shape[0] - 1, 3, 5, 1]
    ours = [found.affine_lps_mm @ [5, 3, d, 1] for d in (0, 1)]
    assert np.allclose(ours, [corner, far], atol=1e-3) or np.allclose(ours, [far, corner], atol=1e-3)
