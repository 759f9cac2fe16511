"""What is no text, and small images: bodies, vertebrae, maps, scales and noise are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from fedimg.dicom.text import Frames, TextDetector
from fedimg.dicom.text.evaluation import covered_share
from fedimg.dicom.text.held_out import KINDS, anatomy
from fedimg.dicom.text.synthetic_text import BUILT_IN, Style, draw_line


@pytest.fixture(scope="module")
def detector() -> TextDetector:
    return TextDetector()


def ground(seed: int, side: int = 256) -> np.ndarray:
    return anatomy(KINDS[seed % len(KINDS)], side, np.random.default_rng(seed))


def stored(image: np.ndarray) -> Frames:
    """Twelve bits of what lies in [0, 1]."""
    values = np.rint(np.clip(image, 0, 1) * 4095).astype(np.uint16)
    return Frames(values[None, :, :, None], "MONOCHROME2", 12)


def body(seed: int, side: int = 64) -> np.ndarray:
    """A slice of a body as a small CT shows it: an oval of soft tissue with a spine and a rim, in noise."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side - 0.5
    oval = (x / generator.uniform(0.36, 0.46)) ** 2 + (y / generator.uniform(0.28, 0.4)) ** 2
    image = np.where(oval < 1, generator.uniform(20, 60), -1000.0)
    image[(oval < 1) & (oval > 0.85)] = -90
    image[x**2 + (y - 0.2) ** 2 < 0.06**2] = 700
    return np.asarray(image + generator.normal(0, 12, image.shape), np.float64)


def signed(image: np.ndarray) -> Frames:
    return Frames(np.rint(image).astype(np.int16)[None, :, :, None], "MONOCHROME2", 16)


def test_a_whole_body_on_a_small_image_is_no_letter(detector):
    assert [seed for seed in range(40) if detector.find(signed(body(seed)))] == []


def test_text_on_a_small_image_is_found(detector):
    missed = []
    for seed in range(10):
        line = draw_line("K. ANNA", BUILT_IN, Style(8.0))
        assert line is not None
        rows, columns = line.ink.shape
        image, mask = body(seed), np.zeros((64, 64), np.bool_)
        window = (slice(40, 40 + rows), slice(2, 2 + columns))
        image[window] = image[window] * (1 - line.ink) + 1500 * line.ink
        mask[window] = line.ink > 0.5
        if covered_share(mask, detector.find(signed(image))) < 0.95:
            missed.append(seed)
    assert missed == []


def spine(seed: int) -> np.ndarray:
    """A column of vertebrae in soft tissue, as sagittal and coronal series show it."""
    rng = np.random.default_rng(seed)
    image = 0.35 + 0.05 * rng.standard_normal((256, 256))
    for top in range(6, 240, 26):
        image[top : top + 20, 110:142] = rng.normal(0.6, 0.04, (20, 32))
        image[top + 20 : top + 26, 112:140] = 0.15
    return np.clip(ndimage.gaussian_filter(image, 0.8), 0, 1)


def holes(seed: int) -> np.ndarray:
    """A parametric map: one value in an oval, nothing outside and in its holes."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal((256, 256)), 2.5)
    oval = np.hypot(*(np.mgrid[-128:128, -128:128] / np.array([110.0, 90.0])[:, None, None])) < 1
    return np.where(oval & (field < 1.6 * field.std()), 0.9, 0.0)


def ruler(seed: int) -> np.ndarray:
    """A scale of short strokes beside anatomy, every fifth longer."""
    image = ground(seed) * 0.6
    for index, row in enumerate(range(20, 236, 8)):
        image[row, 244 - (10 if index % 5 == 0 else 5) : 244] = 1
    return image


@pytest.mark.parametrize("drawn", [spine, holes, ruler])
def test_what_only_looks_like_text_stays_untouched(detector, drawn):
    assert [seed for seed in range(8) if detector.find(stored(drawn(seed)))] == []


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=KINDS)
def test_images_without_text_stay_untouched(detector, kind):
    assert [seed for seed in range(kind, 48, len(KINDS)) if detector.find(stored(ground(seed)))] == []


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 300), (64, 64)])
def test_images_of_any_size_and_of_one_value(detector, shape):
    assert detector.find(Frames(np.full((1, *shape, 1), 7, np.uint16), "MONOCHROME2", 16)) == []
    noise = np.random.default_rng(0).integers(0, 4096, (1, *shape, 1)).astype(np.uint16)
    assert detector.find(Frames(noise, "MONOCHROME2", 12)) == []


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_a_mask_is_not_found_again(detector, fill):
    # Over smooth ground, where nothing but the mask is left to see.
    down, across = np.mgrid[:200, :200]
    image = 0.3 + 0.3 * np.clip(1 - np.hypot(down - 120, across - 110) / 90, 0, 1)
    for top, left, height, width in ((16, 0, 32, 180), (100, 40, 12, 96), (150, 60, 40, 80)):
        masked = image.copy()
        masked[top : top + height, left : left + width] = fill
        assert detector.find(stored(masked)) == []
