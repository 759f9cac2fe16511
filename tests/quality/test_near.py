"""Changed copies are found, images of other patients are not; neighbouring slices are let be."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from fedimg.cohort import anatomy
from fedimg.cohort.scanners import acquire, scanner_of
from fedimg.errors import ConfigError
from fedimg.imaging.thumbnails import area_mean, windowed
from fedimg.quality.near import NearConfig, candidate_pairs, correlations, near_pairs

COUNT = 60


@pytest.fixture(scope="module")
def images():
    """Sonograms of as many patients: generated chests of two patients are nearly alike."""
    rng = np.random.default_rng(11)
    found = []
    for number in range(COUNT):
        values = anatomy.ultrasound(rng, (128, 128), 1, None, 1.0)[0].values
        found.append(acquire(values, "US", scanner_of(number % 8), 1.0, rng))
    return found


def small(images):
    return np.rint(np.stack([windowed(area_mean(image, 32)) for image in images]) * 255).astype(np.uint8)


def unit(image):
    return (image - image.min()) / np.ptp(image)


def jpeg(image):
    stream = io.BytesIO()
    Image.fromarray((unit(image) * 255).astype(np.uint8)).save(stream, "JPEG", quality=50)
    return np.asarray(Image.open(stream), np.float32)


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (jpeg, 1.0),
        (lambda image: image * 3 + 500, 1.0),
        (lambda image: unit(image) ** 0.7, 0.95),
        (lambda image: np.clip(unit(image) * 1.2, 0, 1), 0.95),
        (lambda image: area_mean(image, 64), 0.95),
        (lambda image: ndimage.shift(image, (1, 0.5), order=1, mode="nearest"), 0.9),
    ],
    ids=["jpeg", "units", "gamma", "clipped", "half", "moved"],
)
def test_changed_copies_are_found(images, change, least):
    both = small([*images, *(np.asarray(change(image), np.float32) for image in images)])
    found = {tuple(pair) for pair in near_pairs(both, NearConfig())[0].tolist()}
    assert np.mean([(k, k + COUNT) in found for k in range(COUNT)]) >= least


def test_images_of_other_patients_are_not(images):
    pairs, _ = near_pairs(small(images), NearConfig())
    assert len(pairs) == 0


def test_a_hash_alone_would_take_others_for_copies():
    """What the second step is for: generated chests, which are alike in all but detail."""
    rng = np.random.default_rng(7)
    chests = small([anatomy.chest_ct(rng, 96, [0.0], None, 1.0)[0].values for _ in range(120)])
    candidates = candidate_pairs(chests, NearConfig())
    assert len(candidates) > 20
    assert len(near_pairs(chests, NearConfig())[0]) < len(candidates) / 3


def test_a_mirrored_image_is_another(images):
    both = small([images[1], images[1][:, ::-1]])
    assert len(near_pairs(both, NearConfig())[0]) == 0


def test_slices_of_one_series_are_let_be(images):
    both = small([images[1], jpeg(images[1]), images[1] * 2])
    assert near_pairs(both, NearConfig())[0].tolist() == [[0, 1], [0, 2], [1, 2]]
    assert near_pairs(both, NearConfig(), np.array([4, 4, 5]))[0].tolist() == [[0, 2], [1, 2]]
    assert near_pairs(both, NearConfig(), np.array([-1, -1, 5]))[0].tolist() == [[0, 1], [0, 2], [1, 2]]


def test_a_moved_copy_needs_the_moved_hashes(images):
    """Their worth: the same without them finds fewer."""
    moved = [
        np.asarray(ndimage.shift(image, (2, 1.5), order=1, mode="nearest"), np.float32) for image in images
    ]
    both = small([*images, *moved])
    with_them = len(near_pairs(both, NearConfig())[0])
    without = len(near_pairs(both, NearConfig(moved_radius_bits=None))[0])
    assert with_them > without


def test_correlation_is_that_of_the_detail(images):
    """Against a plain loop for an unmoved pair."""
    both = small([images[1], jpeg(images[1])])
    a, b = (x - ndimage.gaussian_filter(x, 2, mode="nearest") for x in both.astype(np.float32))
    expected = np.corrcoef(a[2:-2, 2:-2].ravel(), b[2:-2, 2:-2].ravel())[0, 1]
    assert correlations(both, np.array([[0, 1]]))[0] == pytest.approx(expected, abs=1e-4)


def test_blank_images_are_like_none():
    assert len(near_pairs(np.zeros((5, 32, 32), np.uint8), NearConfig())[0]) == 0
    assert len(near_pairs(np.zeros((0, 32, 32), np.uint8), NearConfig())[0]) == 0


def test_a_correlation_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="a correlation"):
        NearConfig(correlation=1.5)
