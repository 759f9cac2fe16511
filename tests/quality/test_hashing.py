"""The search for near hashes is exact: against every pair compared with every other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import ConfigError
from fedimg.quality.hashing import pairs_between, pairs_within, perceptual_hashes


def brute(left, right, radius):
    return [
        [i, j]
        for i, a in enumerate(left.tolist())
        for j, b in enumerate(right.tolist())
        if (a ^ b).bit_count() <= radius
    ]


@st.composite
def crowds(draw):
    """A few centres, and hashes some bits from them: random ones would have no near pair at all."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    centres = rng.integers(0, 2**64, draw(st.integers(1, 4)), dtype=np.uint64)
    hashes = []
    for _ in range(draw(st.integers(0, 60))):
        flips = rng.choice(64, int(rng.integers(0, 14)), replace=False)
        hashes.append(int(rng.choice(centres)) ^ sum(1 << int(bit) for bit in flips))
    return np.array(hashes, np.uint64)


@given(crowds(), st.integers(0, 15))
def test_all_pairs_within_the_radius_and_no_other(hashes, radius):
    wanted = [pair for pair in brute(hashes, hashes, radius) if pair[0] < pair[1]]
    assert pairs_within(hashes, radius).tolist() == wanted


@given(crowds(), crowds(), st.integers(0, 9))
def test_all_pairs_between_two_sets(left, right, radius):
    assert pairs_between(left, right, radius).tolist() == brute(left, right, radius)


def test_it_reports_the_edge_and_not_beyond():
    hashes = np.array([0, 0b1111111, 0b11111111], np.uint64)
    assert pairs_within(hashes, 7).tolist() == [[0, 1], [1, 2]]
    assert pairs_within(hashes, 8).tolist() == [[0, 1], [0, 2], [1, 2]]


def test_equal_hashes_in_blocks(monkeypatch):
    from fedimg.quality import hashing

    monkeypatch.setattr(hashing, "_PAIRS_AT_ONCE", 7)
    hashes = np.repeat(np.array([5, 9], np.uint64), 9)
    assert len(pairs_within(hashes, 0)) == 2 * 9 * 8 // 2
    assert len(pairs_within(hashes, 2)) == 18 * 17 // 2


def test_a_hundred_thousand_hashes():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 100_000, dtype=np.uint64)
    planted = rng.choice(50_000, 200, replace=False)
    hashes[planted + 50_000] = hashes[planted] ^ np.uint64(0b10010001)
    assert pairs_within(hashes, 3).tolist() == [[int(i), int(i) + 50_000] for i in np.sort(planted)]


@pytest.mark.parametrize("radius", [-1, 16])
def test_other_radii_are_refused(radius):
    with pytest.raises(ConfigError, match="a radius from 0 to 15"):
        pairs_within(np.zeros(2, np.uint64), radius)


def test_the_hash_is_the_published_one():
    """Against the cosine sum written out (Zauner 2010): signs of the 64 lowest coefficients against the median."""
    picture = np.random.default_rng(3).uniform(0, 255, (1, 32, 32)).astype(np.float32)
    n = np.arange(32)
    basis = np.array(
        [np.cos(np.pi * (2 * n + 1) * k / 64) * (np.sqrt(1 / 32) if k == 0 else 0.25) for k in range(8)]
    )
    low = (basis @ picture[0] @ basis.T).ravel()
    expected = int("".join("1" if value > np.median(low[1:]) else "0" for value in low), 2)
    assert int(perceptual_hashes(picture)[0]) == expected


@given(st.floats(0.2, 4), st.floats(0, 50))
def test_brightness_and_contrast_do_not_change_it(gain, offset):
    picture = np.random.default_rng(1).uniform(10, 100, (1, 32, 32)).astype(np.float32)
    apart = (
        perceptual_hashes(picture)[0] ^ perceptual_hashes(picture * np.float32(gain) + np.float32(offset))[0]
    )
    assert int(apart).bit_count() <= 2  # coefficients that lie at the median


def test_what_has_no_contrast_has_no_hash():
    assert perceptual_hashes(np.full((2, 32, 32), 7, np.float32)).tolist() == [0, 0]
    assert len(perceptual_hashes(np.zeros((0, 32, 32), np.float32))) == 0
