"""The classical half alone: modest, and quiet on images without text."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from fedimg.dicom.text.classical import text_lines
from fedimg.dicom.text.held_out import anatomy
from fedimg.dicom.text.synthetic_text import BUILT_IN, Style, draw_line

NAMES = ("KAUFMAN SCOTT", "DAVIDSON DOUGLAS", "DOB: 07.22.1943", "ID 4711-0815 WARD", "MILLER^ANNE F")


def smooth(seed: int, side: int = 192) -> np.ndarray:
    """Smooth structure with noise, 12 bits: no letters."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(side, side)), 12)
    return np.rint(1500 + 900 * field / np.abs(field).max() + rng.normal(0, 40, (side, side))).astype(
        np.int32
    )


def written(image: np.ndarray, text: str, value: int, style: Style) -> np.ndarray:
    line = draw_line(text, BUILT_IN, style)
    assert line is not None
    drawn = image.astype(np.float64)
    window = (slice(20, 20 + line.ink.shape[0]), slice(6, 6 + line.ink.shape[1]))
    drawn[window] = drawn[window] * (1 - line.ink) + value * line.ink
    return np.rint(drawn).astype(np.int32)


@pytest.mark.parametrize("angle", [0, 90])
@pytest.mark.parametrize("value", [0, 4095])
def test_lines_at_either_end_of_the_range_are_found(angle, value):
    found = sum(
        bool(text_lines(written(smooth(seed), name, value, Style(float(size), angle, hard=True))))
        for seed, name in enumerate(NAMES)
        for size in (9, 11)
    )
    assert found >= 7, f"{found} of 10"  # a half that fails in other ways than the trained one, not a whole


def test_images_without_text_are_left_alone():
    clean = [smooth(seed) for seed in range(40)]
    clipped = [np.clip(image, 1400, 1700) for image in clean]  # saturated speckle at both ends
    noise = [np.random.default_rng(seed).integers(0, 65_536, (96, 96)) for seed in range(40)]
    assert [index for index, image in enumerate(clean + clipped + noise) if text_lines(image)] == []


@pytest.mark.parametrize("turned", [False, True])
def test_rulers_are_no_lines(turned):
    image = smooth(1)
    for tick in range(20, 160, 7):
        image[20 : (34 if tick % 35 == 20 else 28), tick : tick + 2] = 4095
    assert text_lines(image.T if turned else image) == []


def test_side_markers_are_no_lines():
    assert text_lines(written(smooth(3), "L", 4095, Style(20.0))) == []


def test_a_constant_image_has_none():
    assert text_lines(np.full((32, 32), 7, np.uint16)) == []


def test_grids_that_anatomy_cuts_are_no_lines():
    # The cells at the rim are cut to unlike widths and areas, as letters have them.
    marked = []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        image = anatomy("ct", 256, rng)
        step = int(rng.integers(6, 30))
        image[::step] = image[:, ::step] = 1
        if text_lines(np.rint(image * 4095).astype(np.int32)):
            marked.append(seed)
    assert len(marked) <= 2, marked
