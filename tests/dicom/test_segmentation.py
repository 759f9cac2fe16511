"""Masks written here are read by highdicom, and masks written by others are read here."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedimg.dicom import authoring
from fedimg.dicom.authoring import build_image, segmentation_label, segmentation_masks, write_segmentation
from fedimg.dicom.reader import read_dataset
from fedimg.dicom.refusal import Quarantined
from fedimg.errors import DataError
from fedimg.values import Quarantine

ROWS, COLUMNS = 9, 7


def series(depth: int):
    pixels = np.zeros((ROWS, COLUMNS), np.uint16)
    geometry = {
        "PatientID": "1",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.4",
        "FrameOfReferenceUID": "1.2.9",
        "PixelSpacing": ["0.5", "0.75"],
        "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
        "SliceThickness": "2",
    }
    return [
        build_image(
            modality="CT",
            pixels=pixels,
            attributes=geometry
            | {"SOPInstanceUID": f"1.2.5.{z}", "ImagePositionPatient": ["1", "2", str(3.0 * z)]},
        )
        for z in range(depth)
    ]


SERIES = series(3)
masks = hnp.arrays(np.bool_, st.tuples(st.integers(1, 3), st.just(ROWS), st.just(COLUMNS)))


@given(masks)
def test_masks_come_back_slice_by_slice(tmp_path_factory, mask):
    path = tmp_path_factory.mktemp("seg") / "a.dcm"
    write_segmentation(path, SERIES[: len(mask)], mask)
    found = segmentation_masks(path)
    assert list(found) == [f"1.2.5.{z}" for z in range(len(mask))]
    assert (np.stack(list(found.values())) == mask).all()
    assert segmentation_label(path) == mask.any()
    assert [segmentation_label(path, uid) for uid in found] == list(mask.any((1, 2)))
    assert not segmentation_label(path, "1.2.5.99")


@settings(max_examples=5)
@given(masks)
def test_highdicom_reads_the_same_masks_and_geometry(tmp_path_factory, mask):
    highdicom = pytest.importorskip("highdicom")
    path = tmp_path_factory.mktemp("seg") / "a.dcm"
    write_segmentation(path, SERIES[: len(mask)], mask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # highdicom's own, about pydicom
        segmentation = highdicom.seg.segread(path)
        uids = [f"1.2.5.{z}" for z in range(len(mask))]
        read = segmentation.get_pixels_by_source_instance(uids, combine_segments=True)
        assert (read.astype(bool) == mask).all()
        if len(mask) > 1:
            volume = segmentation.get_volume()
            assert np.allclose(sorted(volume.spacing), [0.5, 0.75, 3.0])


def test_the_same_masks_give_the_same_bytes_and_the_object_is_named(tmp_path):
    mask = np.ones((3, ROWS, COLUMNS), bool)
    uids = {write_segmentation(tmp_path / name, SERIES, mask) for name in ("a", "b")}
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert uids == {str(read_dataset(tmp_path / "a").SOPInstanceUID)}


def test_masks_of_another_size_are_refused(tmp_path):
    for shape in [(2, ROWS, COLUMNS), (3, COLUMNS, ROWS), (0, ROWS, COLUMNS)]:
        with pytest.raises(DataError, match="expected one mask plane for every image, of its size"):
            write_segmentation(tmp_path / "a", SERIES, np.zeros(shape, bool))
    with pytest.raises(DataError):
        write_segmentation(tmp_path / "a", [], np.zeros((0, 1, 1), bool))


def test_an_image_is_no_segmentation(tmp_path):
    (tmp_path / "ct.dcm").write_bytes(authoring.encoded(SERIES[0]))
    with pytest.raises(Quarantined) as caught:
        segmentation_masks(tmp_path / "ct.dcm")
    assert caught.value.reason is Quarantine.OBJECT_TYPE


def test_frames_and_groups_must_match(tmp_path):
    path = tmp_path / "a.dcm"
    write_segmentation(path, SERIES, np.ones((3, ROWS, COLUMNS), bool))
    dataset = read_dataset(path)
    del dataset.PerFrameFunctionalGroupsSequence[2]
    path.write_bytes(authoring.encoded(dataset))
    with pytest.raises(Quarantined, match="frames and functional groups differ"):
        segmentation_masks(path)
    dataset.NumberOfFrames = 2  # now they agree, but pixels of a third frame are left over
    path.write_bytes(authoring.encoded(dataset))
    with pytest.raises(Quarantined, match="a segmentation that does not decode"):
        segmentation_masks(path)


@pytest.mark.parametrize(
    "name",
    [
        "seg_image_ct_binary",
        "seg_image_ct_binary_fractional",
        "seg_image_ct_binary_overlap",
        "seg_image_ct_true_fractional",
    ],
)
def test_real_segmentations_agree_with_highdicom(shared_data, name):
    highdicom = pytest.importorskip("highdicom")
    path = shared_data / "dicom" / "dicom_highdicom" / "data" / "test_files" / f"{name}.dcm"
    found = segmentation_masks(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        segmentation = highdicom.seg.segread(path)
        read = segmentation.get_pixels_by_source_instance(
            list(found), ignore_spatial_locations=True, rescale_fractional=False
        )
    assert (np.stack(list(found.values())) == (read != 0).any(-1)).all()
    assert segmentation_label(path)
