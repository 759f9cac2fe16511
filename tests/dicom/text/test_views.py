"""Planes show what a viewer of the file could see."""

from __future__ import annotations

import numpy as np
import pytest

from fedimg.dicom.text.views import Frames, planes

RAMP = np.tile(np.arange(256, dtype=np.uint8), (4, 1))


def test_monochrome_is_one_plane_as_it_is_stored():
    (plane,) = planes(Frames(RAMP[None, :, :, None], "MONOCHROME1", 8), 0)
    assert (plane == RAMP).all()


def test_grey_in_colour_is_one_plane():
    colour = np.repeat(RAMP[..., None], 3, axis=2)
    assert len(planes(Frames(colour[None], "RGB", 8), 0)) == 1
    colour[0, 0, 2] = 200
    assert len(planes(Frames(colour[None], "RGB", 8), 0)) == 2


@pytest.mark.parametrize(
    ("ybr", "rgb"),
    [((76, 85, 255), (254, 0, 0)), ((255, 128, 128), (255, 255, 255)), ((29, 255, 107), (0, 0, 254))],
)
def test_ybr_is_shown_in_red_green_and_blue(ybr, rgb):
    # PS3.3 C.7.6.3.1.2: primaries as they come out of the inverse transform.
    frames = Frames(np.full((1, 2, 2, 3), ybr, np.uint8), "YBR_FULL", 8)
    seen = {int(plane[0, 0]) for plane in planes(frames, 0)}
    assert all(min(abs(value - channel) for channel in rgb) <= 4 for value in seen)
    assert all(min(abs(value - channel) for value in seen) <= 8 for channel in rgb)


def test_16_bit_colour_comes_in_eight_bits():
    colour = np.zeros((1, 2, 2, 3), np.uint16)
    colour[..., 0] = 65_535
    red, green = planes(Frames(colour, "RGB", 16), 0)
    assert (red == 255).all()
    assert (green == 0).all()


def test_a_palette_is_applied_from_its_first_value_and_continued_beyond_its_ends():
    lut = np.array([0, 100, 200, 250], np.uint16)
    stored = np.array([[0, 10, 11, 12, 13, 60]], np.uint8)
    (plane,) = planes(Frames(stored[None, :, :, None], "PALETTE COLOR", 8, (lut, lut, lut, 10)), 0)[:1]
    assert plane.tolist() == [[0, 0, 100, 200, 250, 250]]


def test_indices_are_looked_at_where_the_palette_makes_distant_ones_alike():
    smooth = np.arange(256, dtype=np.uint16) << 8
    assert (
        len(planes(Frames(RAMP[None, :, :, None], "PALETTE COLOR", 8, (smooth, smooth, smooth, 0)), 0)) == 1
    )
    flat = np.minimum(smooth, 20 << 8)
    *_, last = planes(Frames(RAMP[None, :, :, None], "PALETTE COLOR", 8, (flat, flat, flat, 0)), 0)
    assert (last == RAMP).all()
