from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor
from monai.transforms.spatial.array import Orientation

from fedimg.imaging.cleaning import Rejected
from fedimg.imaging.config import ImagingConfig
from fedimg.imaging.resampling import Grid, closest_axes, crop_or_pad, orient, resample
from fedimg.values import Quarantine

SIGNED_PERMUTATIONS = list(product(permutations(range(3)), product((1, -1), repeat=3)))


def affine_of(axes, signs, spacing_DHW, tilt=0.0):
    """Columns (w, h, d): array axis i runs along patient axis axes[i] (i = 0 depth … 2 width)."""
    affine = np.eye(4)
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    for i, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[:3, 2 - i] = turn @ (np.eye(3)[axis] * sign * spacing_DHW[i])
    return affine


@pytest.mark.parametrize(("axes", "signs"), SIGNED_PERMUTATIONS)
def test_volumes_are_turned_as_monai_turns_them(axes, signs):
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    spacing = (3.0, 2.0, 1.0)
    affine = affine_of(axes, signs, spacing, tilt=0.3)
    ours = orient(Grid(values, spacing), affine, 3)
    # MONAI counts RAS and array order (d, h, w): the same grid in its terms, and the same target.
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine[:, [2, 1, 0, 3]]
    turn = Orientation("SPL", labels=(("L", "R"), ("P", "A"), ("I", "S")))
    theirs = turn(MetaTensor(torch.from_numpy(values[None]), affine=torch.from_numpy(ras)))
    np.testing.assert_array_equal(ours.values_DHW, theirs.as_tensor().numpy()[0])
    lengths = np.linalg.norm(theirs.affine.numpy()[:3, :3], axis=0)
    assert ours.spacing_mm == pytest.approx(tuple(lengths))


@pytest.mark.parametrize(("d", "h", "w"), [(2, 1, 0), (1, 2, 0), (0, 2, 1)])  # axial, coronal, sagittal
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("flip", list(product((1, -1), repeat=2)))
def test_one_slice_looks_the_same_however_it_was_stored(d, h, w, transposed, flip):
    shown = np.random.default_rng(1).normal(size=(2, 4, 5)).astype(np.float32)
    display = {0: 1, 1: 1, 2: -1}
    axes, signs = (d, h, w), [1, display[h], display[w]]
    reference = orient(Grid(shown, (9.0, 2.0, 1.0)), affine_of(axes, signs, (9.0, 2.0, 1.0)), 2)
    np.testing.assert_array_equal(reference.values_DHW, shown)
    stored, spacing = shown[:, :: flip[0], :: flip[1]], [9.0, 2.0, 1.0]
    signs = [1, signs[1] * flip[0], signs[2] * flip[1]]
    if transposed:
        stored, axes = stored.transpose(0, 2, 1), (d, w, h)
        spacing, signs = [9.0, 1.0, 2.0], [signs[0], signs[2], signs[1]]
    again = orient(Grid(np.ascontiguousarray(stored), tuple(spacing)), affine_of(axes, signs, spacing), 2)
    np.testing.assert_array_equal(again.values_DHW, shown)
    assert again.spacing_mm == (9.0, 2.0, 1.0)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_every_oblique_grid_has_one_answer_that_is_a_signed_permutation(seed):
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.3, 5, 3)
    axes = closest_axes(affine)
    assert sorted(axis for axis, _ in axes) == [0, 1, 2]
    assert axes == closest_axes(affine * np.array([2.0, 2.0, 2.0, 1.0]))  # scale is no direction


def test_shrinking_by_whole_numbers_averages_blocks():
    values = np.random.default_rng(2).uniform(size=(2, 12, 18)).astype(np.float32)
    config = ImagingConfig(image_size=(4, 6), fit="stretch")
    out = resample(Grid(values, (1.0, 0.5, 0.5)), config)
    blocks = values.reshape(2, 4, 3, 6, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(out.values_DHW, blocks, atol=1e-6)
    assert out.spacing_mm == (1.0, 1.5, 1.5)


def test_millimetre_resampling_reads_a_ramp_at_the_right_places():
    # f(x mm) = x is reproduced by linear interpolation wherever it is sampled.
    ramp = np.tile(np.arange(40, dtype=np.float32) * 0.6, (1, 40, 1))
    config = ImagingConfig(image_size=(8, 8), spacing_mm=(0.6, 0.25))
    out = resample(Grid(ramp, (1.0, 0.6, 0.6)), config)
    assert out.spacing_mm == (1.0, 0.6, 0.25)
    assert out.values_DHW.shape[1] == 40
    steps = np.diff(out.values_DHW[0, 20])
    np.testing.assert_allclose(steps[1:-3], 0.25, atol=1e-4)
    assert out.values_DHW[0, 20, 0] == pytest.approx(0.0, abs=1e-5)
    assert out.values_DHW.shape[2] * 0.25 == pytest.approx(24.0, abs=0.6)


def test_fine_stripes_do_not_alias_into_coarse_ones():
    stripes = np.tile(np.arange(64, dtype=np.float32) % 2, (1, 64, 1))  # period 2 px, mean ½
    config = ImagingConfig(image_size=(8, 8), spacing_mm=(3.1, 3.1))
    out = resample(Grid(stripes, (1.0, 1.0, 1.0)), config).values_DHW[:, 2:-2, 2:-2]
    assert np.abs(out - 0.5).max() < 0.1


@pytest.mark.parametrize("depth", [1, 2, 9])
def test_smoothing_before_shrinking_leaves_a_constant_image_constant(depth):
    """Padded with zeros it would darken at its borders, and a single slice as a whole."""
    grid = Grid(np.full((depth, 24, 24), 0.75, np.float32), (1.0, 1.0, 1.0))
    out = resample(
        grid, ImagingConfig(dimensions=3, image_size=(4, 8, 8), spacing_mm=(1.0 * depth, 3.0, 3.0))
    )
    np.testing.assert_allclose(out.values_DHW, 0.75, rtol=1e-5)


def test_an_image_smaller_than_one_voxel_of_the_target_is_rejected():
    grid = Grid(np.random.default_rng(5).uniform(size=(1, 16, 16)).astype(np.float32), (1.0, 1e-3, 1e-3))
    with pytest.raises(Rejected, match="smaller than one voxel") as refusal:
        resample(grid, ImagingConfig(image_size=(8, 8), spacing_mm=(1.0, 1.0)))
    assert refusal.value.reason is Quarantine.WRONG_SHAPE


def test_letterboxing_keeps_proportions_in_millimetres():
    tall = np.ones((1, 30, 30), dtype=np.float32)
    out = resample(Grid(tall, (1.0, 2.0, 1.0)), ImagingConfig(image_size=(20, 20)))  # 60 mm × 30 mm
    assert out.values_DHW.shape == (1, 20, 10)
    assert out.spacing_mm == pytest.approx((1.0, 3.0, 3.0))


def test_what_fits_already_is_not_touched():
    grid = Grid(np.random.default_rng(3).uniform(size=(1, 16, 16)).astype(np.float32), (1.0, 0.7, 0.7))
    for spacing in (None, (0.7, 0.7)):
        out = resample(grid, ImagingConfig(image_size=(16, 16), spacing_mm=spacing))
        assert out.values_DHW is grid.values_DHW
    assert crop_or_pad(grid, (16, 16)) is grid


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_cropping_and_padding_keep_the_centre(here_h, here_w, want_h, want_w):
    values = np.random.default_rng(4).uniform(1, 2, size=(1, here_h, here_w)).astype(np.float32)
    out = crop_or_pad(Grid(values, (1.0, 1.0, 1.0)), (want_h, want_w)).values_DHW
    assert out.shape == (1, want_h, want_w)
    assert np.count_nonzero(out) == min(here_h, want_h) * min(here_w, want_w)
    assert set(out[out > 0]) <= set(values.ravel())
