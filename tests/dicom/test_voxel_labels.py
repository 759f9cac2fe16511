"""A class for every voxel out of SEG, pictures, NIfTI and boxes; what does not fit is refused."""

from __future__ import annotations

import contextlib

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fedimg.dicom.authoring import write_image, write_segmentation
from fedimg.dicom.pixels import decode
from fedimg.dicom.refusal import Quarantined
from fedimg.dicom.voxel_labels import FIRST_BOX, voxel_labels
from fedimg.imaging.findings import findings_of
from fedimg.values import Drawn, Quarantine

SHAPE = (12, 16)


def slices(folder, count=3):
    """CT slices of one series, ascending."""
    paths = []
    for n in range(count):
        path = folder / f"{n}.dcm"
        pixels = (1000 + 40 * n + np.add.outer(np.arange(SHAPE[0]), np.arange(SHAPE[1]))).astype(np.uint16)
        attributes = {
            "SOPInstanceUID": f"1.2.3.{n + 1}",
            "SeriesInstanceUID": "1.2.3.99",
            "StudyInstanceUID": "1.2.3.98",
            "FrameOfReferenceUID": "1.2.3.97",
            "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
            "ImagePositionPatient": ["0", "0", str(float(n))],
            "PixelSpacing": ["1", "1"],
            "SliceThickness": "1",
            "PatientID": "P",
        }
        write_image(path, modality="CT", pixels=pixels, attributes=attributes)
        paths.append(path)
    return paths


def mask(seed=0, count=3):
    return np.random.default_rng(seed).random((count, *SHAPE)) < 0.3


def test_a_segmentation_labels_each_image_with_its_own_frames(tmp_path):
    images, drawn = slices(tmp_path), mask()
    write_segmentation(tmp_path / "s.dcm", images, drawn)
    for n, image in enumerate(images):
        found = voxel_labels(image, Drawn((tmp_path / "s.dcm",)))
        assert found.dtype == np.uint8
        assert np.array_equal(found, drawn[n : n + 1].astype(np.uint8))


def test_several_segments_are_several_classes(tmp_path):
    images, drawn = slices(tmp_path), mask()
    write_segmentation(tmp_path / "s.dcm", images, drawn)
    data = pydicom.dcmread(tmp_path / "s.dcm")
    data.SharedFunctionalGroupsSequence[0].SegmentIdentificationSequence[0].ReferencedSegmentNumber = 2
    data.save_as(tmp_path / "two.dcm")
    both = Drawn((tmp_path / "s.dcm", tmp_path / "two.dcm"), classes=3)
    assert np.array_equal(voxel_labels(images[0], both)[0], 2 * drawn[0])
    with pytest.raises(Quarantined, match="segment beyond the classes"):
        voxel_labels(images[0], Drawn((tmp_path / "two.dcm",), classes=1))


def test_a_segmentation_of_other_images_is_refused(tmp_path):
    images, drawn = slices(tmp_path), mask(count=1)
    write_segmentation(tmp_path / "s.dcm", images[1:2], drawn)
    with pytest.raises(Quarantined, match="of other images"):
        voxel_labels(images[0], Drawn((tmp_path / "s.dcm",)))


def test_an_image_that_a_segmentation_lists_without_a_frame_is_background(tmp_path):
    images, drawn = slices(tmp_path), mask(count=2)
    write_segmentation(tmp_path / "s.dcm", images[:2], drawn)
    data = pydicom.dcmread(tmp_path / "s.dcm")
    listed = data.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    extra = pydicom.Dataset()
    extra.ReferencedSOPClassUID = listed[0].ReferencedSOPClassUID
    extra.ReferencedSOPInstanceUID = "1.2.3.3"
    listed.append(extra)
    data.save_as(tmp_path / "s.dcm")
    assert not voxel_labels(images[2], Drawn((tmp_path / "s.dcm",))).any()


@pytest.mark.parametrize("frame", [0, -1, 2])
def test_a_frame_that_an_image_has_not_is_refused(tmp_path, frame):
    images, drawn = slices(tmp_path, 1), mask(count=1)
    write_segmentation(tmp_path / "s.dcm", images, drawn)
    data = pydicom.dcmread(tmp_path / "s.dcm")
    source = data.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    source.ReferencedFrameNumber = frame
    data.save_as(tmp_path / "s.dcm")
    with pytest.raises(Quarantined) as refused:
        voxel_labels(images[0], Drawn((tmp_path / "s.dcm",)))
    assert refused.value.reason is Quarantine.WRONG_SHAPE


@pytest.mark.parametrize(("values", "least"), [([0, 1, 3], 1), ([0, 7, 15], 7), ([0, 90, 255], 255)])
def test_few_values_are_numbers_and_many_are_shades(tmp_path, values, least):
    picture = np.resize(np.array(values, np.uint8), SHAPE)
    Image.fromarray(picture).save(tmp_path / "m.png")
    found = voxel_labels(PICTURE, Drawn((tmp_path / "m.png",)))[0]
    assert np.array_equal(found, picture >= least)


@pytest.mark.parametrize("top", [1, 255])
def test_of_two_classes_whatever_is_drawn_is_class_one(tmp_path, top):
    drawn = mask(count=1)[0]
    Image.fromarray(np.full(SHAPE, 90, np.uint8)).save(tmp_path / "i.png")
    Image.fromarray((drawn * top).astype(np.uint8)).save(tmp_path / "m.png")
    assert np.array_equal(voxel_labels(tmp_path / "i.png", Drawn((tmp_path / "m.png",)))[0], drawn)


def test_the_soft_edge_of_a_jpeg_does_not_count(tmp_path):
    drawn = np.zeros((64, 64), np.uint8)
    drawn[16:48, 16:48] = 255
    Image.fromarray(np.full((64, 64), 90, np.uint8)).save(tmp_path / "i.jpg")
    Image.fromarray(drawn).save(tmp_path / "m.jpg", quality=60)
    found = voxel_labels(tmp_path / "i.jpg", Drawn((tmp_path / "m.jpg",)))[0]
    assert np.array_equal(found, drawn > 0)


def test_several_pictures_are_laid_over_each_other(tmp_path):
    first, second = mask(1, 1)[0], mask(2, 1)[0]
    Image.fromarray(np.full(SHAPE, 90, np.uint8)).save(tmp_path / "i.png")
    for name, drawn in (("a", first), ("b", second)):
        Image.fromarray(drawn.astype(np.uint8) * 255).save(tmp_path / f"{name}.png")
    found = voxel_labels(tmp_path / "i.png", Drawn((tmp_path / "a.png", tmp_path / "b.png")))
    assert np.array_equal(found[0], first | second)


def test_a_mask_that_says_only_where_means_the_image_s_own_class(tmp_path):
    """As in a set of lesions, benign and malignant, whose masks are black and white."""
    drawn = mask(3, 1)[0]
    Image.fromarray(drawn.astype(np.uint8) * 255).save(tmp_path / "m.png")
    for label in (1, 2):
        found = voxel_labels(PICTURE, Drawn((tmp_path / "m.png",), classes=3, label=label))[0]
        assert np.array_equal(found, label * drawn)
    with pytest.raises(Quarantined, match="other than the classes 0 to 2"):
        voxel_labels(PICTURE, Drawn((tmp_path / "m.png",), classes=3, label=0))


def test_a_nifti_mask_lies_over_its_image_as_it_decodes(tmp_path):
    generator = np.random.default_rng(0)
    affine = np.diag([-2.0, 2.0, 3.0, 1.0])
    classes = generator.integers(0, 3, (5, 6, 4)).astype(np.uint8)
    values = generator.random((5, 6, 4)).astype(np.float32) + 10 * classes
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "i.nii.gz")
    nibabel.save(nibabel.Nifti1Image(classes, affine), tmp_path / "m.nii.gz")
    found = voxel_labels(tmp_path / "i.nii.gz", Drawn((tmp_path / "m.nii.gz",), classes=3))
    image = decode(tmp_path / "i.nii.gz", labels=found)
    assert np.array_equal(image.labels_DHW, np.floor(image.pixels_DHW / 10).astype(np.uint8))
    with pytest.raises(Quarantined, match="other than the classes 0 to 2"):
        voxel_labels(tmp_path / "i.nii.gz", Drawn((tmp_path / "i.nii.gz",), classes=3))


def test_frames_of_a_stack_go_with_their_labels_into_spatial_order(tmp_path):
    """Stored last slice first: pixels are put into order, and so are their classes."""
    image = slices(tmp_path, 1)[0]
    data = pydicom.dcmread(image)
    assert decode(image, labels=mask(count=1).astype(np.uint8)).labels_DHW.shape == (1, *SHAPE)
    with pytest.raises(Quarantined) as refused:
        decode(image, labels=np.zeros((1, 3, 3), np.uint8))
    assert refused.value.reason is Quarantine.WRONG_SHAPE
    assert data.Rows == SHAPE[0]


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 11)), min_size=1, max_size=8, unique=True))
def test_every_box_is_seen_unless_others_cover_it(corners):
    boxes = tuple((x, y, min(x + 3, 16), min(y + 2, 12)) for x, y in corners)
    union, hidden = np.zeros(SHAPE, bool), False
    for x0, y0, x1, y1 in boxes:
        inside = np.zeros(SHAPE, bool)
        inside[y0:y1, x0:x1] = True
        others = np.zeros(SHAPE, bool)
        for a0, b0, a1, b1 in set(boxes) - {(x0, y0, x1, y1)}:
            others[b0:b1, a0:a1] = True
        hidden |= not (inside & ~others).any()
        union |= inside
    drawn = Drawn(boxes=boxes)
    if hidden:
        with contextlib.suppress(Quarantined):  # of two that lie on each other one is above
            voxel_labels(PICTURE, drawn)
        return
    labels = voxel_labels(PICTURE, drawn)[0]
    assert np.array_equal(labels > 0, union)
    assert labels[labels > 0].min() >= max(FIRST_BOX, 256 - len(boxes))
    assert len(np.unique(labels[labels > 0])) == len(set(boxes))


def test_boxes_of_several_classes_keep_them_and_have_a_depth(tmp_path):
    volume = np.random.default_rng(0).normal(0, 10, (9, 8, 7))
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "v.nii")
    boxes = ((1, 1, 2, 4, 3, 5), (5, 4, 0, 9, 8, 2), (0, 5, 2, 8))
    drawn = Drawn(boxes=boxes, classes=3, label=2, kinds=(1, 2, 0))
    labels = voxel_labels(tmp_path / "v.nii", drawn)
    assert labels.dtype == np.uint16
    kinds = {
        tuple(s for part in finding.where for s in (part.start, part.stop)): finding.kind
        for finding in findings_of(labels)
    }
    assert kinds == {(2, 5, 1, 3, 1, 4): 1, (0, 2, 4, 8, 5, 9): 2, (0, 7, 5, 8, 0, 2): 2}
    for wrong in ((0, 0, 0, 2, 2, 8), (0, 0, 3, 2, 2, 3)):  # beyond the last slice, and of none
        with pytest.raises(Quarantined, match="leaves its image"):
            voxel_labels(tmp_path / "v.nii", Drawn(boxes=(wrong,)))


@pytest.mark.parametrize(
    ("kinds", "label", "reason"),
    [((0,), None, "none of the classes"), ((3,), None, "none of the classes"), ((0,), 0, "none of the")],
)
def test_a_box_without_a_class_that_there_is_is_refused(kinds, label, reason):
    with pytest.raises(Quarantined, match=reason) as refused:
        voxel_labels(PICTURE, Drawn(boxes=((0, 0, 3, 3),), classes=3, label=label, kinds=kinds))
    assert refused.value.reason is Quarantine.NO_LABEL


def test_two_findings_in_one_place_are_refused_and_one_that_is_named_twice_is_one():
    twice = ((2, 2, 6, 6), (2, 2, 6, 6))
    assert len(findings_of(voxel_labels(PICTURE, Drawn(boxes=twice)))) == 1
    with pytest.raises(Quarantined, match="others cover"):
        voxel_labels(PICTURE, Drawn(boxes=twice, classes=3, kinds=(1, 2)))


@pytest.fixture(autouse=True, scope="module")
def picture(tmp_path_factory):
    global PICTURE  # noqa: PLW0603 - Hypothesis takes no fixtures of single tests
    PICTURE = tmp_path_factory.mktemp("picture") / "i.png"
    Image.fromarray(np.full(SHAPE, 90, np.uint8)).save(PICTURE)


@pytest.mark.parametrize("box", [(0, 0, 17, 3), (4, 4, 4, 6), (0, 0, 3, 13)])
def test_a_box_that_is_empty_or_leaves_its_image_is_refused(box):
    with pytest.raises(Quarantined, match="leaves its image"):
        voxel_labels(PICTURE, Drawn(boxes=(box,)))


def test_what_does_not_fit_is_refused_with_a_reason(tmp_path):
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "small.png")
    Image.fromarray(np.full(SHAPE, 7, np.uint8)).save(tmp_path / "seven.png")
    (tmp_path / "text.png").write_text("no picture")
    wrong = {
        "small.png": Quarantine.WRONG_SHAPE,
        "seven.png": Quarantine.NO_LABEL,
        "text.png": Quarantine.NOT_AN_IMAGE,
        "absent.png": Quarantine.UNREADABLE,
    }
    for name, reason in wrong.items():
        with pytest.raises(Quarantined) as refused:
            voxel_labels(PICTURE, Drawn((tmp_path / name,), classes=3))
        assert refused.value.reason is reason, name
    image = slices(tmp_path, 1)[0]
    with pytest.raises(Quarantined) as refused:
        voxel_labels(image, Drawn((image,)))
    assert refused.value.reason is Quarantine.OBJECT_TYPE
