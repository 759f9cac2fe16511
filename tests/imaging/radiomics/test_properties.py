"""Radiomics held to invariants, to other implementations and to shapes whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.special import elliprg
from skimage.feature import graycomatrix, graycoprops

from fedimg.errors import ConfigError, DataError
from fedimg.imaging.radiomics import (
    co_occurrence,
    fixed_bin_number,
    fixed_bin_size,
    intensity_histogram,
    intensity_peaks,
    intensity_statistics,
    local_intensity,
    morphology,
    shape,
    spatial_autocorrelation,
)
from fedimg.imaging.radiomics.glcm import directions, matrices

FINITE = st.floats(-1e3, 1e3, allow_subnormal=False)
IMAGES = hnp.arrays(np.float64, st.tuples(*[st.integers(2, 6)] * 3), elements=FINITE)
LEVELS = hnp.arrays(np.int64, st.tuples(*[st.integers(2, 5)] * 3), elements=st.integers(0, 6))


def ball(radius, half_axes=(1.0, 1.0, 1.0), spacing=(1.0, 1.0, 1.0)):
    """Voxels of an ellipsoid around the middle of a grid."""
    reach = [int(np.ceil(radius * axis / step)) + 2 for axis, step in zip(half_axes, spacing, strict=True)]
    grid = np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij")
    inside = sum(
        (g * step / (radius * axis)) ** 2 for g, step, axis in zip(grid, spacing, half_axes, strict=True)
    )
    return inside <= 1


# ------------------------------------------------------------------------------------------ statistics


@given(hnp.arrays(np.float64, st.integers(3, 40), elements=st.integers(-50, 50)))
def test_statistics_are_those_of_scipy(values):
    found = intensity_statistics(values)
    assert found["interquartile_range"] == pytest.approx(stats.iqr(values))
    assert found["median_absolute_deviation"] == pytest.approx(np.abs(values - np.median(values)).mean())
    if np.ptp(values):
        assert found["skewness"] == pytest.approx(stats.skew(values), abs=1e-9)
        assert found["excess_kurtosis"] == pytest.approx(stats.kurtosis(values), abs=1e-9)
    else:
        assert found["skewness"] == found["excess_kurtosis"] == 0


# multiples of 1/8, so that what is nearly constant is constant: its skewness is rounding
@given(
    hnp.arrays(np.float64, st.integers(1, 40), elements=st.integers(-800, 800).map(lambda n: n / 8)),
    st.randoms(use_true_random=False),
)
def test_statistics_do_not_know_where_a_voxel_lies(values, chance):
    shuffled = values.copy()
    chance.shuffle(shuffled)
    found, again = intensity_statistics(values), intensity_statistics(shuffled)
    assert all(found[name] == pytest.approx(again[name], abs=1e-6, rel=1e-6) for name in found)


@pytest.mark.parametrize("values", [np.zeros(0), np.array([1.0, np.nan]), np.array([np.inf])])
def test_no_statistics_of_nothing_or_of_infinity(values):
    with pytest.raises(DataError, match="finite intensities"):
        intensity_statistics(values)


@given(LEVELS.filter(lambda levels: (levels > 0).any()))
def test_a_histogram_has_the_entropy_of_its_shares(levels):
    inside = levels[levels > 0]
    shares = np.unique(inside, return_counts=True)[1] / inside.size
    found = intensity_histogram(levels)
    assert found["entropy"] == pytest.approx(stats.entropy(shares, base=2))
    assert 1 / 6 - 1e-9 <= found["uniformity"] <= 1


# -------------------------------------------------------------------------------------- discretisation


@given(IMAGES, st.integers(1, 20))
def test_bins_are_numbered_from_one_and_ordered(image, number):
    mask = np.ones(image.shape, bool)
    levels = fixed_bin_number(image, mask, number)
    assert levels.min() == 1 and levels.max() <= number
    if np.ptp(image) > 1e-6:
        assert levels.max() == number
    order = image.ravel().argsort(kind="stable")
    assert (np.diff(levels.ravel()[order]) >= 0).all()


def test_bins_of_25_HU_from_the_lower_end():
    image = np.array([[[-500.0, -476.0, -475.0, 0.0, -700.0]]])
    mask = np.array([[[True, True, True, True, True]]])
    assert fixed_bin_size(image, mask, 25.0, low=-500.0).tolist() == [[[1, 1, 2, 21, 1]]]


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, np.inf])
def test_a_width_that_is_none(wrong):
    with pytest.raises(ConfigError, match="bin width"):
        fixed_bin_size(np.ones((1, 2, 2)), np.ones((1, 2, 2), bool), wrong)


def test_levels_of_no_region():
    with pytest.raises(ConfigError, match="empty mask"):
        fixed_bin_number(np.ones((1, 2, 2)), np.zeros((1, 2, 2), bool), 4)


# ------------------------------------------------------------------------------------------------ shape


@pytest.mark.parametrize(("spacing", "rough"), [((1.0, 1.0, 1.0), 1.10), ((2.0, 0.5, 0.5), 1.20)])
def test_a_ball_is_a_ball(spacing, rough):
    """Volumes to 2 %: a digital ball's own error at radius 12. The steps leave the area too large, thick slices more."""
    radius = 12.0
    found = morphology(ball(radius, spacing=spacing), spacing)
    volume, area = 4 / 3 * np.pi * radius**3, 4 * np.pi * radius**2
    assert found["volume_voxels_mm3"] == pytest.approx(volume, rel=0.02)
    assert found["volume_mesh_mm3"] == pytest.approx(volume, rel=0.02)
    assert area < found["surface_area_mm2"] < rough * area
    assert found["maximum_3d_diameter_mm"] == pytest.approx(2 * radius, abs=max(spacing))
    # a solid ellipsoid's variance along an axis is a²/5: 4√λ is 4a/√5
    assert found["major_axis_length_mm"] == pytest.approx(4 * radius / np.sqrt(5), rel=0.02)
    assert found["elongation"] == pytest.approx(1, abs=0.02) and found["flatness"] == pytest.approx(
        1, abs=0.03
    )


def test_axes_of_an_ellipsoid():
    found = morphology(ball(10.0, (3.0, 2.0, 1.0)), (1.0, 1.0, 1.0))
    assert found["elongation"] == pytest.approx(2 / 3, rel=0.01)
    assert found["flatness"] == pytest.approx(1 / 3, rel=0.01)
    assert found["sphericity"] < morphology(ball(10.0), (1.0, 1.0, 1.0))["sphericity"]


@given(
    hnp.arrays(bool, (3, 4, 3)).filter(lambda m: m.any()),
    st.floats(0.5, 4),
    st.permutations([0, 1, 2]),
)
def test_shape_scales_with_the_unit_and_does_not_turn_with_the_grid(mask, scale, order):
    found = morphology(mask, (1.0, 2.0, 1.5))
    spacing = np.array((1.0, 2.0, 1.5))
    larger = morphology(mask.transpose(order), tuple(scale * spacing[list(order)]))
    power = {"mm3": 3, "mm2": 2, "mm": 1}
    for name in found.keys() & larger.keys() - {"volume_density_ellipsoid", "area_density_ellipsoid"}:
        times = scale ** power.get(name.rsplit("_", 1)[-1], -1 if name == "surface_to_volume_ratio" else 0)
        # which way marching cubes cuts a cell with opposite corners inside depends on the axes' order
        if name in (
            "maximum_3d_diameter_mm",
            "major_axis_length_mm",
            "volume_voxels_mm3",
            "flatness",
            "elongation",
        ):
            assert larger[name] == pytest.approx(found[name] * times, rel=1e-6, abs=1e-6)


def test_the_area_of_an_ellipsoid_as_the_manual_has_it():
    """Exact for a ball; of others an approximation, held to Carlson's exact form (DLMF 19.33.1)."""
    assert shape.ellipsoid_area(3.0, 3.0, 3.0) == pytest.approx(4 * np.pi * 9)
    for a, b, c in ((3.0, 2.9, 2.8), (3.0, 2.5, 2.2), (5.7, 4.65, 4.27)):
        exact = 4 * np.pi * elliprg((a * b) ** 2, (a * c) ** 2, (b * c) ** 2)
        assert shape.ellipsoid_area(a, b, c) == pytest.approx(exact, rel=0.05)


def test_one_voxel_has_a_volume_and_no_axes():
    mask = np.zeros((3, 3, 3), bool)
    mask[1, 1, 1] = True
    found = morphology(mask, (2.0, 1.0, 1.0), np.ones((3, 3, 3)))
    assert found["volume_voxels_mm3"] == 2.0 and found["major_axis_length_mm"] == 0.0
    assert found["centre_of_mass_shift_mm"] == 0.0
    assert "volume_density_ellipsoid" not in found


def test_the_shape_of_nothing():
    with pytest.raises(DataError, match="empty mask"):
        morphology(np.zeros((2, 2, 2), bool), (1.0, 1.0, 1.0))


# ------------------------------------------------------------------------------------- where they lie


@given(hnp.arrays(np.float64, (3, 3, 3), elements=st.integers(-9, 9)).filter(lambda image: np.ptp(image) > 0))
def test_autocorrelation_of_pairs_one_by_one(image):
    mask = np.ones(image.shape, bool)
    mask[0, 0, 0] = False
    points, values = np.argwhere(mask) * (2.0, 1.0, 1.0), image[mask]
    found = spatial_autocorrelation(image, mask, (2.0, 1.0, 1.0))
    if np.ptp(values) == 0:
        assert found == {}
        return
    weights = products = differences = 0.0
    for i, a in enumerate(points):
        for j, b in enumerate(points):
            if i != j:
                weight = 1 / np.linalg.norm(a - b)
                weights += weight
                products += weight * (values[i] - values.mean()) * (values[j] - values.mean())
                differences += weight * (values[i] - values[j]) ** 2
    square = ((values - values.mean()) ** 2).sum()
    assert found["morans_i"] == pytest.approx(len(values) * products / weights / square, abs=1e-9)
    assert found["gearys_c"] == pytest.approx((len(values) - 1) * differences / 2 / weights / square)


@given(hnp.arrays(np.float64, (3, 4, 5), elements=st.integers(-9, 9)))
def test_peaks_are_means_of_voxels_there(image):
    mask = np.ones(image.shape, bool)
    found = intensity_peaks(image, mask, (2.0, 2.0, 2.0))
    points = np.argwhere(mask) * 2.0
    means = [
        image[mask][np.linalg.norm(points - p, axis=1) <= local_intensity.PEAK_RADIUS_MM].mean()
        for p in points
    ]
    assert found["global_intensity_peak"] == pytest.approx(max(means), abs=1e-9)
    brightest = [mean for mean, value in zip(means, image[mask], strict=True) if value == image.max()]
    assert found["local_intensity_peak"] == pytest.approx(max(brightest), abs=1e-9)


def test_of_one_voxel_no_autocorrelation_and_of_none_no_peak():
    one = np.zeros((3, 3, 3), bool)
    one[1, 1, 1] = True
    assert spatial_autocorrelation(np.ones((3, 3, 3)), one, (1.0, 1.0, 1.0)) == {}
    with pytest.raises(DataError, match="empty mask"):
        intensity_peaks(np.ones((3, 3, 3)), ~np.ones((3, 3, 3), bool), (1.0, 1.0, 1.0))


# ------------------------------------------------------------------------------------------------- GLCM


@given(hnp.arrays(np.int64, st.tuples(st.integers(2, 8), st.integers(2, 8)), elements=st.integers(1, 5)))
def test_co_occurrence_in_a_plane_is_scikit_images(levels):
    """Its four angles at distance 1 are our four lines; its own properties check three features."""
    theirs = graycomatrix(
        (levels - 1).astype(np.uint8), [1], [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4], levels=5, symmetric=True
    )
    merged = theirs.sum(axis=(2, 3)).astype(float)
    most = levels.max()
    ours = matrices(levels[None], "2d_slice_merged")[0]
    assert (ours == merged[:most, :most]).all()
    found = co_occurrence(levels[None], "2d_slice_merged")
    whole = (merged / merged.sum())[:, :, None, None]
    assert found["contrast"] == pytest.approx(graycoprops(whole, "contrast")[0, 0])
    assert found["inverse_difference_moment"] == pytest.approx(graycoprops(whole, "homogeneity")[0, 0])
    assert found["correlation"] == pytest.approx(graycoprops(whole, "correlation")[0, 0], abs=1e-9)


@given(LEVELS)
def test_turning_the_volume_changes_no_merged_feature(levels):
    found = co_occurrence(levels, "3d_merged")
    turned = co_occurrence(levels.transpose(2, 0, 1)[::-1], "3d_merged")
    for name, value in found.items():
        assert turned[name] == pytest.approx(value, nan_ok=True, abs=1e-9)


@given(LEVELS.filter(lambda levels: np.count_nonzero(levels) == levels.size))
def test_features_that_are_the_same_of_two_names(levels):
    """IBSI itself notes these identities (3.6.4, 3.6.9, 3.6.13, 3.6.21)."""
    found = co_occurrence(levels, "3d_merged")
    assert found["difference_average"] == pytest.approx(found["dissimilarity"])
    assert found["sum_average"] == pytest.approx(2 * found["joint_average"])
    assert found["cluster_tendency"] == pytest.approx(found["sum_variance"], abs=1e-9)
    assert found["contrast"] == pytest.approx(found["difference_variance"] + found["difference_average"] ** 2)


def test_one_level_is_correlated_and_says_nothing():
    found = co_occurrence(np.ones((2, 3, 3), np.int64))
    assert found["correlation"] == 1 and found["joint_entropy"] == 0 and found["contrast"] == 0
    assert found["information_correlation_1"] == found["information_correlation_2"] == 0


def test_a_single_voxel_has_no_pair():
    levels = np.zeros((3, 3, 3), np.int64)
    levels[1, 1, 1] = 2
    assert all(np.isnan(value) for value in co_occurrence(levels).values())


def test_thirteen_lines_in_a_volume_and_four_in_a_plane():
    lines = directions(volumetric=True)
    assert len(lines) == 13 and len(directions(volumetric=False)) == 4
    assert not {tuple(-step for step in line) for line in lines} & set(lines)


@pytest.mark.parametrize(("name", "distance"), [("4d", 1), ("3d_merged", 0)])
def test_an_aggregation_that_is_none(name, distance):
    with pytest.raises(ConfigError, match="2d_averaged"):
        matrices(np.ones((2, 2, 2), np.int64), name, distance)
