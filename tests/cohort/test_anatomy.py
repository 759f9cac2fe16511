"""Phantoms: the lesion changes what it covers and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.cohort import anatomy
from fedimg.cohort.anatomy import Lesion, cross_section, ellipse, grid, lesion_profile, place, texture

SIZE = 64


def phantoms(modality: str, seed: int, lesion: Lesion | None, contrast: float = 1.0):
    rng = np.random.default_rng(seed)
    if modality == "CT":
        return anatomy.chest_ct(rng, SIZE, [-0.1, 0.0, 0.1], lesion, contrast)
    if modality == "MR":
        return anatomy.head_mr(rng, SIZE, [-0.1, 0.0, 0.1], lesion, contrast)
    if modality == "CR":
        return [anatomy.chest_cr(rng, SIZE, lesion, contrast)]
    return anatomy.ultrasound(rng, (112, 128), 2, lesion, contrast)


modalities = pytest.mark.parametrize("modality", ["CT", "MR", "CR", "US"])


@modalities
@given(st.integers(0, 1000))
def test_only_the_lesion_differs_between_sick_and_healthy(modality, seed):
    lesion = place(np.random.default_rng([seed, 1]), modality, (0.11, 0.18), 0.1)
    for sick, healthy in zip(phantoms(modality, seed, lesion), phantoms(modality, seed, None), strict=True):
        assert not healthy.lesion.any() and healthy.radius == 0
        changed = sick.values - healthy.values
        # Calcified lung is brighter everywhere but where a lesion reaches into something as bright.
        assert (changed[sick.lesion] > 0).sum() >= 0.9 * sick.lesion.sum()
        far = ~_grown(sick.lesion, 2)
        assert (changed[far] == 0).all()


def _grown(mask: np.ndarray, by: int) -> np.ndarray:
    grown = mask.copy()
    for dy in range(-by, by + 1):
        for dx in range(-by, by + 1):
            grown |= np.roll(mask, (dy, dx), (0, 1))
    return grown


@modalities
def test_without_contrast_the_lesion_cannot_be_seen(modality):
    lesion = place(np.random.default_rng(0), modality, (0.11, 0.18), 0.0)
    hidden, healthy = phantoms(modality, 5, lesion, 0.0), phantoms(modality, 5, None)
    assert all((a.values == b.values).all() for a, b in zip(hidden, healthy, strict=True))


@modalities
@given(st.integers(0, 10_000))
def test_lesions_lie_within_the_image(modality, seed):
    lesion = place(np.random.default_rng(seed), modality, (0.11, 0.18), 0.1)
    assert 0.11 <= lesion.radius <= 0.18
    assert max(abs(lesion.x), abs(lesion.y)) + 1.15 * lesion.radius < (0.875 if modality == "US" else 1)


@given(st.floats(-0.3, 0.3), st.floats(0.05, 0.3))
def test_a_ball_is_cut_in_circles(z, radius):
    lesion = Lesion(0, 0, 0, radius, 0, 0)
    found = cross_section(lesion, z)
    assert found == 0 or found**2 + z**2 == pytest.approx(radius**2)
    assert (found > 0) == (abs(z) <= 0.866 * radius)
    assert found == 0 or found >= 0.49 * radius
    assert cross_section(None, z) == 0


def test_a_profile_has_the_area_of_its_circle():
    profile = lesion_profile(grid(256, 256), Lesion(0.1, -0.2, 0, 0.3, 0, 0), 0.0)
    assert profile is not None
    assert profile.sum() * (2 / 256) ** 2 == pytest.approx(np.pi * 0.09, rel=0.02)


def test_pixels_are_square_whatever_the_shape():
    x, y = grid(30, 60)
    assert np.allclose(np.diff(x[0]), 2 / 60, atol=1e-6) and np.allclose(np.diff(y[:, 0]), 2 / 60, atol=1e-6)
    assert x.mean() == pytest.approx(0, abs=1e-6) and y.mean() == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        x[0, 0] = 1


def test_textures_are_smooth_and_of_unit_size():
    fields = [texture(np.random.default_rng(k), (64, 48), 9) for k in range(50)]
    assert fields[0].shape == (64, 48)
    assert 0.6 < np.std(fields) < 1.1 and abs(np.mean(fields)) < 0.05
    steps = [np.abs(np.diff(field, axis=0)).max() for field in fields]
    assert max(steps) < 1.5 < np.ptp(fields)


def test_an_ellipse_has_its_area():
    inside = ellipse(grid(200, 200), (0.1, 0.1), (0.5, 0.3))
    assert inside.sum() * (2 / 200) ** 2 == pytest.approx(np.pi * 0.15, rel=0.03)
    assert inside.min() == 0 and inside.max() == 1
