from itertools import permutations

import numpy as np
import pytest

from fedimg.imaging.cleaning import Rejected
from fedimg.imaging.series import stack_series
from fedimg.values import Quarantine


@pytest.fixture
def stack(decoded, noise):
    """Slices 3 mm apart along the normal of an oblique plane, each with its own texture."""
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]

    def make(positions, in_plane_mm=0.8, **changes):
        slices = []
        for k, position in enumerate(positions):
            affine = np.eye(4)
            affine[:3, :3] = turn @ np.diag([in_plane_mm, in_plane_mm, 1.0])
            normal = np.cross(affine[:3, 0], affine[:3, 1])
            affine[:3, 3] = np.array([10.0, -20.0, 5.0]) + position * normal / np.linalg.norm(normal)
            slices.append(decoded(noise((8, 9), seed=k), (1.0, in_plane_mm, in_plane_mm), affine, **changes))
        return slices

    return make


def test_any_order_of_files_gives_the_same_volume(stack):
    slices = stack([0.0, 3.0, 6.0, 9.0])
    expected = np.concatenate([s.pixels_DHW for s in slices])
    results = [stack_series(list(order)) for order in permutations(slices)]
    for volume in results:
        np.testing.assert_array_equal(volume.pixels_DHW, expected)
        assert volume.spacing_mm == pytest.approx((3.0, 0.8, 0.8))
        assert volume.affine_lps_mm.tobytes() == results[0].affine_lps_mm.tobytes()


def test_the_affine_leads_from_any_voxel_to_where_its_slice_said_it_was(stack):
    slices = stack([-4.0, -1.0, 2.0])
    affine = stack_series(slices).affine_lps_mm
    for d, single in enumerate(slices):
        there = affine @ np.array([3, 2, d, 1.0])
        np.testing.assert_allclose(there, single.affine_lps_mm @ np.array([3, 2, 0, 1.0]), atol=1e-9)


def test_one_slice_and_repeated_slices(stack):
    (alone,) = stack([7.0])
    assert stack_series([alone]) is alone
    slices = stack([0.0, 3.0, 6.0])
    np.testing.assert_array_equal(
        stack_series([*slices, slices[1]]).pixels_DHW, np.concatenate([s.pixels_DHW for s in slices])
    )
    assert stack_series([alone, alone]) is alone


def test_masks_travel_along(stack, decoded):
    slices = stack([0.0, 3.0])
    mask = np.zeros((1, 8, 9), bool)
    mask[0, 2, 3] = True
    marked = decoded(slices[1].pixels_DHW, slices[1].spacing_mm, slices[1].affine_lps_mm, mask_DHW=mask)
    assert np.argwhere(stack_series([marked, slices[0]]).mask_DHW).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("spoil", "reason", "message"),
    [
        (lambda s, make: [*s, *make([20.0])], Quarantine.WRONG_SHAPE, "a slice missing"),
        (lambda s, make: [*s, make([0.0, 3.0])[1]], Quarantine.DUPLICATE, "same position"),
        (lambda s, make: [*s, make([9.0], 0.9)[0]], Quarantine.WRONG_SHAPE, "direction or spacing"),
        (lambda s, make: [*s, make([9.0], modality="MR")[0]], Quarantine.WRONG_SHAPE, "modality"),
    ],
)
def test_stacks_that_are_none_are_rejected(stack, spoil, reason, message):
    slices = stack([3.0, 0.0, 6.0])  # slice textures go by list position, so [0.0, 3.0][1] differs from [3.0]
    with pytest.raises(Rejected, match=message) as refusal:
        stack_series(spoil(slices, stack))
    assert refusal.value.reason is reason


def test_multi_frame_files_and_other_sizes_are_no_slices(stack, decoded, noise):
    slices = stack([0.0, 3.0])
    for pixels in (noise((2, 8, 9)), noise((1, 9, 8))):
        other = decoded(pixels, slices[0].spacing_mm, slices[0].affine_lps_mm)
        with pytest.raises(Rejected, match="different sizes"):
            stack_series([*slices, other])
