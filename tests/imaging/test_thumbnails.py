"""Thumbnails: exact area means, windows that no unit changes, and slices turned as they are shown."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.imaging.thumbnails import area_mean, axial_frame, central_frame, windowed
from fedimg.values import DecodedImage


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 9), st.integers(1, 8))
def test_area_means_against_a_fine_grid(seed, rows, columns, side):
    """Each pixel repeated `side` times each way, then plain means over blocks: the same integral."""
    frame = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    fine = frame.repeat(side, 0).repeat(side, 1)
    blocks = fine.reshape(side, rows, side, columns).mean(axis=(1, 3))
    assert area_mean(frame, side) == pytest.approx(blocks, abs=1e-5)


def test_windows():
    frame = np.linspace(-1000, 3000, 10_000, dtype=np.float32).reshape(100, 100)
    seen = windowed(frame)
    assert (seen.min(), seen.max()) == (0, 1)
    assert seen == pytest.approx(windowed(frame * 7 - 50), abs=1e-4)
    assert windowed(np.full((4, 4), 3.0, np.float32)).max() == 0
    spot = np.zeros((50, 50), np.float32)
    spot[3, 4] = 9
    assert windowed(spot)[3, 4] == 1  # where the percentiles are equal, the whole range


def decoded(volume, affine):
    return DecodedImage(volume, affine, (1.0, 1.0, 1.0), "OT", "arbitrary")


@given(st.permutations(range(3)), st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
def test_an_axial_slice_is_shown_the_same_however_it_is_stored(order, signs):
    """Patient axes (L, P, S) laid along the array's axes in any order and direction."""
    shown = np.arange(5 * 3 * 4, dtype=np.float32).reshape(5, 3, 4)  # (S, P, L), all increasing
    axes_SPL = [2, 1, 0]
    stored = shown.transpose([axes_SPL.index(axis) for axis in order])
    affine = np.eye(4)
    affine[:3, :3] = 0
    for place, (axis, sign) in enumerate(zip(order, signs, strict=True)):
        affine[axis, 2 - place] = sign
        stored = np.flip(stored, place) if sign < 0 else stored
    assert np.array_equal(axial_frame(decoded(np.ascontiguousarray(stored), affine)), shown[2])


def test_a_middle_frame():
    volume = np.arange(5 * 2 * 2, dtype=np.float32).reshape(5, 2, 2)
    assert np.array_equal(central_frame(decoded(volume, np.eye(4))), volume[2])
