"""Thresholds, morphology and blobs on images whose lesion is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import ConfigError, DataError
from fedimg.imaging.traditional import (
    BlobConfig,
    SegmentationConfig,
    body_mask,
    detect_blobs,
    segment,
)


def scene(centre, radius, contrast=1.0, noise=0.02, depth=None, seed=0):
    """A body of 0.5 in air of 0, a bright ball in it; (H, W) or (D, H, W) of 64 pixels, and the ball's mask."""
    shape = (64, 64) if depth is None else (depth, 64, 64)
    grid = np.meshgrid(*[np.arange(side) for side in shape], indexing="ij")
    plane = ((grid[-2] - 32) / 28) ** 2 + ((grid[-1] - 32) / 26) ** 2 <= 1
    lesion = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2
    image = 0.5 * plane + contrast * lesion
    return image + noise * np.random.default_rng(seed).normal(size=shape), lesion


def dice(found, truth):
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


PLACES = st.tuples(st.integers(20, 44), st.integers(20, 44))


@given(PLACES, st.integers(3, 5), st.integers(0, 5))
def test_a_bright_ball_is_segmented(centre, radius, seed):
    image, lesion = scene(centre, radius, seed=seed)
    assert dice(segment(image), lesion) > 0.75


@given(st.tuples(st.integers(3, 6), st.integers(20, 44), st.integers(20, 44)))
def test_in_a_volume_too(centre):
    image, lesion = scene(centre, 4, depth=10)
    assert dice(segment(image), lesion) > 0.7


def test_nothing_where_there_is_nothing_and_not_what_is_larger_or_at_the_rim():
    flat, _ = scene((32, 32), 4, contrast=0.0, noise=0.0)
    assert not segment(flat).any()
    large, lesion = scene((32, 32), 16)
    assert not (segment(large) & lesion).sum() > 0.2 * lesion.sum()
    rim, lesion = scene((32, 8), 3)
    assert not (segment(rim) & lesion).any()


@given(PLACES, st.floats(0.1, 50), st.floats(-100, 100))
def test_neither_gain_nor_offset_matter(centre, gain, offset):
    image, _ = scene(centre, 4)
    assert (segment(image) == segment(gain * image + offset)).mean() > 0.999
    here, there = detect_blobs(image)[0], detect_blobs(gain * image + offset)[0]
    assert here.centre == there.centre and here.score == pytest.approx(there.score, rel=1e-5)


def test_as_many_pieces_as_asked_for():
    image, first = scene((24, 24), 4)
    second = scene((42, 40), 4, noise=0.0)[1]
    image = image + second
    one, two = segment(image), segment(image, SegmentationConfig(components=2))
    assert dice(two, first | second) > 0.7 > dice(one, first | second)


@given(PLACES, st.integers(3, 7))
def test_a_blob_is_found_where_it_is_and_as_large_as_it_is(centre, radius):
    image, _ = scene(centre, radius)
    best = detect_blobs(image)[0]
    assert np.abs(np.array(best.centre) - centre).max() <= 1.5
    assert best.radius_px == pytest.approx(radius, rel=0.35, abs=1.0)


def test_blobs_in_a_volume_the_clearest_first():
    image, _ = scene((6, 28, 30), 4, depth=12)
    image += 0.5 * scene((6, 44, 40), 4, depth=12, noise=0.0)[1]
    found = detect_blobs(image)
    assert np.abs(np.array(found[0].centre) - (6, 28, 30)).max() <= 1.5
    assert [blob.score for blob in found] == sorted((blob.score for blob in found), reverse=True)
    assert len(detect_blobs(image, BlobConfig(most=1))) == 1


def test_no_blob_outside_of_the_body():
    image, _ = scene((32, 32), 4)
    body = np.zeros(image.shape, bool)
    body[:20] = True
    assert all(blob.centre[0] < 20 for blob in detect_blobs(image, body=body))
    assert not (segment(image, body=body) & ~body).any()


def test_the_body_has_its_lungs_and_not_the_table():
    image, _ = scene((32, 32), 8, contrast=-0.5)  # a hole in it
    image[62:64] += 0.6  # a table below
    body = body_mask(image)
    assert body[32, 32] and not body[63].any()
    assert body_mask(np.ones((3, 4, 5))).all()


@pytest.mark.parametrize("image", [np.full((8, 8), np.nan), np.zeros(5), np.zeros((0, 4))])
def test_images_that_are_none(image):
    for look in (segment, detect_blobs, body_mask):
        with pytest.raises(DataError, match="finite image"):
            look(image)


def test_a_body_of_another_image():
    with pytest.raises(DataError, match="body mask"):
        segment(np.eye(8), body=np.ones((4, 4), bool))


@pytest.mark.parametrize(
    "wrong", [{"radius_px": 0}, {"components": 0}, {"smoothing_px": -1}, {"least_contrast": np.nan}]
)
def test_segmentation_settings_out_of_range(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SegmentationConfig(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"least_radius_px": 0.0}, {"greatest_radius_px": 1.0}, {"most": 0}, {"threshold": 1.0}, {"overlap": 2}],
)
def test_blob_settings_out_of_range(wrong):
    with pytest.raises(ConfigError, match="least_radius_px"):
        BlobConfig(**wrong)
