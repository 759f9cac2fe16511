"""Classes of voxels go with their image through orientation, size and crop, and none is made up on the way."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fedimg.errors import ConfigError, DataError
from fedimg.imaging import loading
from fedimg.imaging.cache import VolumeCache
from fedimg.imaging.config import CleaningConfig, ImagingConfig
from fedimg.imaging.findings import findings_of, heat_map, linked
from fedimg.imaging.labels import of_group
from fedimg.imaging.patients import build_dataset
from fedimg.imaging.preprocessing import prepare
from fedimg.sources.config import DataConfig
from fedimg.values import Quarantine
from tests.imaging.conftest import make_decoded, make_record

PLAIN = CleaningConfig(saturated_fraction=1.0, blank_fraction=0.0)


def blob(shape, centre, radius):
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return sum(((a - c) / radius) ** 2 for a, c in zip(axes, centre, strict=True)) <= 1


def overlap(image, labels):
    """IoU of what is bright in the result with what is labelled there."""
    bright = image[0] > (image.min() + image.max()) / 2
    return (bright & (labels == 1)).sum() / (bright | (labels == 1)).sum()


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
@pytest.mark.parametrize("spacing", [None, (1.5, 1.5)])
@pytest.mark.parametrize("flips", [(1, 1), (-1, 1), (1, -1)])
def test_labels_lie_over_their_image(fit, spacing, flips):
    inside = blob((60, 90), (22, 61), 12)
    affine = np.diag([0.8 * flips[0], 1.1 * flips[1], 1.0, 1.0])
    image = make_decoded(100.0 * inside, (1.0, 1.1, 0.8), affine, labels_DHW=inside[None].astype(np.uint8))
    config = ImagingConfig(image_size=(40, 56), fit=fit, spacing_mm=spacing, cleaning=PLAIN)
    (found,) = prepare(image, config)
    assert found.labels_DHW.shape == (1, 40, 56)
    assert overlap(found.image_CDHW, found.labels_DHW) > 0.85


def test_labels_of_a_volume_lie_over_it_too():
    inside = blob((10, 40, 40), (4, 15, 28), 4)
    image = make_decoded(100.0 * inside, (3.0, 1.0, 1.0), labels_DHW=inside.astype(np.uint8))
    for spacing in (None, (3.0, 1.5, 1.5)):
        config = ImagingConfig(
            dimensions=3, image_size=(10, 32, 32), spacing_mm=spacing, fit="stretch", cleaning=PLAIN
        )
        (found,) = prepare(image, config)
        assert overlap(found.image_CDHW, found.labels_DHW) > 0.75


@given(st.integers(20, 70), st.integers(20, 70), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_no_class_is_made_up(height, width, seed):
    labels = 5 * np.random.default_rng(seed).integers(0, 3, (1, height, width)).astype(np.uint8)
    values = np.random.default_rng(seed).uniform(0, 100, (height, width))
    image = make_decoded(values, (1.0, 0.7, 1.3), labels_DHW=labels)
    (found,) = prepare(image, ImagingConfig(image_size=(32, 32)))
    assert set(np.unique(found.labels_DHW)) <= {0, 5, 10}


def dataset(tmp_path, records, decoded, kind):
    cache = VolumeCache(tmp_path / "cache", bytes(32))
    return loading.load_dataset(records, lambda r: decoded[r.sha256], cache, CONFIG, labels=kind)


CONFIG = ImagingConfig(image_size=(16, 16))


def test_an_image_that_nobody_has_drawn_over_is_background_or_held_back(tmp_path, noise):
    drawn = np.zeros((1, 16, 16), np.uint8)
    drawn[0, 4:8, 4:8] = 1
    decoded = {
        "aa": make_decoded(noise((16, 16), 1), labels_DHW=drawn),
        "bb": make_decoded(noise((16, 16), 2)),
        "cc": make_decoded(noise((16, 16), 3)),
    }
    records = [
        make_record("p1", 1, "aa", instance="1"),
        make_record("p2", 0, "bb", instance="2"),
        make_record("p3", 1, "cc", instance="3"),
    ]
    for _ in range(2):  # made, then out of the cache
        found = dataset(tmp_path, records, decoded, "voxels")
        assert found.dataset.patient_keys == ("p1", "p2")
        assert found.held_back == {Quarantine.NO_LABEL: 1}
        assert np.array_equal(found.dataset.labels[0], drawn[0])
        assert not found.dataset.labels[1].any()
    # the same files as whole images: what is drawn over them does not matter
    assert dataset(tmp_path, records, decoded, "class").dataset.labels.tolist() == [1, 0, 1]


def test_a_corrected_mask_is_not_taken_from_the_cache(tmp_path, noise):
    pixels, results = noise((16, 16), 1), []
    for target, columns in (("t1", 4), ("t2", 9)):
        drawn = np.zeros((1, 16, 16), np.uint8)
        drawn[0, :, :columns] = 1
        record = replace(make_record("p1", 1, "aa"), target=target)
        decoded = {"aa": make_decoded(pixels, labels_DHW=drawn)}
        results.append(int(dataset(tmp_path, [record], decoded, "voxels").dataset.labels.sum()))
    assert results == [64, 144]


def test_numbers_and_findings_of_a_series(tmp_path, noise):
    decoded = {k: make_decoded(noise((16, 16), i)) for i, k in enumerate(("aa", "bb"))}
    records = [
        replace(make_record("p1", 1, "aa", instance="1"), value=2.5),
        replace(make_record("p1", 4, "bb", instance="2"), value=None),
    ]
    found = dataset(tmp_path, records, decoded, "number")
    assert found.dataset.labels.tolist() == [2.5]
    assert found.held_back == {Quarantine.NO_LABEL: 1}
    group = of_group(records, "findings")
    assert group.label == 5


def test_voxels_without_labels_do_not_become_a_data_set(noise):
    image = make_decoded(noise((16, 16)))
    volumes = loading.preprocessing.preprocess(image, make_record(), CONFIG)
    with pytest.raises(DataError, match="class for every voxel"):
        build_dataset(volumes, CONFIG, "voxels")


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), unique=True, max_size=5), st.booleans())
def test_a_heat_map_has_one_peak_of_one_for_each_finding(cells, numbered):
    """Boxes in cells of 8 × 8 do not touch; a peak is where it is 1, and the size stands there."""
    labels = np.zeros((40, 40), np.int64)
    for number, (row, column) in enumerate(cells, start=1):
        labels[8 * row + 1 : 8 * row + 6, 8 * column + 2 : 8 * column + 6] = 256 - number if numbered else 1
    target = heat_map(labels)
    peaks = np.argwhere(target[0] == 1)
    assert sorted(map(tuple, peaks)) == sorted((8 * r + 3, 8 * c + 3) for r, c in cells)
    assert all((target[1, y, x], target[2, y, x]) == (5, 4) for y, x in peaks)
    assert ((target[0] >= 0) & (target[0] <= 1)).all()
    assert ndimage.label(labels > 0)[1] == len(cells)


def test_boxes_that_cross_or_share_a_centre_are_as_many_as_were_drawn():
    crossed = np.zeros((20, 24), np.uint8)
    crossed[2:12, 0:20], crossed[0:14, 8:12] = 255, 254
    nested = np.zeros((24, 24), np.uint8)
    nested[0:21, 0:21], nested[8:13, 8:13] = 255, 254
    for drawn, sizes in ((crossed, {(10, 20), (14, 4)}), (nested, {(21, 21), (5, 5)})):
        target = heat_map(drawn)
        found = {tuple(target[1:, y, x]) for y, x in np.argwhere(target[0] == 1)}
        assert found == sizes


def test_each_class_has_its_own_map_and_one_that_is_none_makes_the_patient_count_nothing():
    labels = np.zeros((6, 20, 20), np.uint16)
    labels[1:4, 2:6, 3:9], labels[2:6, 12:16, 4:8], labels[0:2, 2:4, 14:18] = 255, 512 + 255, 512 + 254
    target = heat_map(labels, 3)
    assert target.shape == (6, *labels.shape)
    assert [int((one == 1).sum()) for one in target[:3]] == [1, 0, 2]
    assert tuple(target[3:, 2, 3, 5]) == (3, 4, 6)
    assert target[0].sum() > 1
    assert np.isnan(heat_map(labels, 2)).all()
    masks = np.where(labels > 0, labels // 256 + 1, 0)  # the same as classes of voxels
    assert np.array_equal(heat_map(masks, 3), target)


@given(st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_boxes_of_slices_become_findings_of_their_stack(kinds, seed):
    """Findings that lie apart, each over some slices, numbered in every slice as it comes."""
    generator = np.random.default_rng(seed)
    stack, expected = np.zeros((7, 30, 30), np.uint16), set()
    for column in range(3):
        kind, low = int(generator.integers(1, kinds + 1)), int(generator.integers(0, 5))
        high = int(generator.integers(low + 1, 8))
        expected.add((kind, low, high, 10 * column))
        for depth in range(low, high):
            free = [255 - k for k in generator.permutation(3) if (stack[depth] % 256 != 255 - k).all()]
            stack[depth, 4:9, 10 * column : 10 * column + 6] = 256 * (kind - 1) + free[0]
    found = findings_of(linked(stack))
    assert {(f.kind, f.where[0].start, f.where[0].stop, f.where[2].start) for f in found} == expected


def test_what_a_stack_cannot_number_is_held_back_and_masks_stay_as_they_are():
    masks = np.random.default_rng(0).integers(0, 3, (4, 8, 8)).astype(np.uint8)
    assert linked(masks) is masks
    blinking = np.zeros((300, 4, 4), np.uint8)
    blinking[::2, 1:3, 1:3] = 255
    assert linked(blinking) is None


def test_a_mask_of_noise_is_held_back_at_once(tmp_path, noise):
    """A checkerboard of 1,024 parts: too many to be findings, and drawn one by one it would take minutes in three dimensions."""
    board = np.zeros((1, 64, 64), np.uint8)
    board[0, ::2, ::2] = 1
    assert np.isnan(heat_map(board[0])).all()
    decoded = {"aa": make_decoded(noise((64, 64)), labels_DHW=board)}
    cache = VolumeCache(tmp_path / "cache", bytes(32))
    config = ImagingConfig(image_size=(64, 64))
    load = partial(
        loading.load_dataset, [make_record("p1", 1, "aa")], lambda r: decoded[r.sha256], cache, config
    )
    assert load(labels="places").held_back == {Quarantine.WRONG_SHAPE: 1}
    assert load(labels="voxels").dataset.labels.sum() == 1024


def test_more_findings_than_a_label_has_room_for_are_refused():
    with pytest.raises(ConfigError, match="at most 62"):
        DataConfig(name="images", several=True, classes=tuple(f"f{k}" for k in range(63)))
