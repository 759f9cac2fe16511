"""Sizes, ratios and tissue held to shapes and values that are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.cohort.anatomy import chest_cr
from fedimg.dicom.acquisition import PARAMETERS
from fedimg.errors import ConfigError, DataError
from fedimg.imaging.measurements import REGISTRY, Case, measure
from fedimg.imaging.measurements.hounsfield import RANGES_HU, tissue_fractions
from fedimg.imaging.measurements.lesion import longest_diameters_mm, volume_ml
from fedimg.imaging.measurements.registry import ACQUISITION
from fedimg.imaging.measurements.thorax import cardiothoracic_ratio, heuristic_cardiothoracic_ratio


def ellipse(height, width, centre, axes):
    y, x = np.mgrid[:height, :width]
    return ((y - centre[0]) / axes[0]) ** 2 + ((x - centre[1]) / axes[1]) ** 2 <= 1


def box(depth, height, width, size):
    mask = np.zeros((depth, height, width), bool)
    mask[2 : 2 + size[0], 3 : 3 + size[1], 4 : 4 + size[2]] = True
    return mask


# ---------------------------------------------------------------------------------------------- lesions


@given(st.tuples(*[st.integers(1, 6)] * 3), st.tuples(*[st.floats(0.2, 5)] * 3))
def test_the_volume_of_a_box(size, spacing):
    mask = box(10, 10, 12, size)
    assert volume_ml(mask, spacing) == pytest.approx(np.prod(size) * np.prod(spacing) / 1000)


@pytest.mark.parametrize(("long", "short"), [(20, 8), (30, 30)])
def test_diameters_of_an_ellipse(long, short):
    """To one pixel, in mm."""
    mask = np.zeros((3, 80, 80), bool)
    mask[1] = ellipse(80, 80, (40, 40), (short, long))
    found = longest_diameters_mm(mask, (3.0, 0.5, 0.5))
    assert found == pytest.approx((long, short), abs=0.6)


def test_a_pixel_is_as_wide_as_a_pixel_and_slices_do_not_make_it_longer():
    mask = np.zeros((9, 5, 5), bool)
    mask[:, 2, 2] = True
    assert longest_diameters_mm(mask, (10.0, 2.0, 2.0)) == pytest.approx((2.0, 2.0))


def test_two_lesions_are_not_one_long_one():
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 5:10, 5:10] = mask[0, 30:33, 30:33] = True
    assert longest_diameters_mm(mask, (1.0, 1.0, 1.0))[0] < 7.1  # the larger one's diagonal


@given(st.permutations([1, 2]), st.floats(0.5, 3))
def test_diameters_do_not_turn_with_the_image_and_grow_with_its_pixels(order, scale):
    mask = np.zeros((1, 30, 30), bool)
    mask[0] = ellipse(30, 30, (14, 15), (5, 11))
    turned = mask.transpose(0, *order)
    first = longest_diameters_mm(mask, (1.0, 1.0, 1.0))
    assert longest_diameters_mm(turned, (1.0, scale, scale)) == pytest.approx(
        tuple(scale * d for d in first), rel=1e-6
    )


def test_of_no_lesion_everything_is_nothing():
    mask = np.zeros((2, 4, 4), bool)
    assert longest_diameters_mm(mask, (1.0, 1.0, 1.0)) == (0.0, 0.0) and volume_ml(mask, (1.0, 1.0, 1.0)) == 0
    found = measure(Case(np.zeros((2, 4, 4)), (1.0, 1.0, 1.0), "HU", {"lesion": mask}))
    assert found["lesion_volume_ml"] == 0.0 and "hu_mean" not in found and "shape_sphericity" not in found


# ----------------------------------------------------------------------------------------------- thorax


def test_the_ratio_of_known_widths():
    heart, chest = np.zeros((60, 100), bool), np.zeros((60, 100), bool)
    heart[30:50, 40:65] = True
    heart[35, 30:70] = True  # 40 wide in all
    chest[5:55, 10:90] = True
    assert cardiothoracic_ratio(heart, chest) == pytest.approx(0.5)
    assert cardiothoracic_ratio(heart, np.zeros_like(chest)) is None


def test_the_heuristic_on_a_drawn_chest():
    """Lungs from 15 to 85 of 100 columns, and a heart 30 wide between them low down: 30/70."""
    image = np.full((100, 100), 0.6)
    image[10:80, 15:85] = 0.1
    image[10:80, 45:55] = 0.6
    image[50:80, 35:65] = 0.6
    assert heuristic_cardiothoracic_ratio(image) == pytest.approx(30 / 70, abs=0.05)


def test_the_heuristic_grows_with_the_heart_and_fails_where_there_are_no_lungs():
    rng = np.random.default_rng(3)
    found = [heuristic_cardiothoracic_ratio(chest_cr(rng, 128, None, 1.0).values) for _ in range(8)]
    known = [value for value in found if value is not None]
    assert len(known) >= 6 and all(0.1 < value < 0.8 for value in known)
    assert heuristic_cardiothoracic_ratio(np.zeros((64, 64))) is None
    assert heuristic_cardiothoracic_ratio(rng.normal(size=(64, 64))) is None
    assert heuristic_cardiothoracic_ratio(np.full((64, 64), np.nan)) is None


# --------------------------------------------------------------------------------------------- Hounsfield


def test_tissues_by_their_public_limits():
    values = np.array([-1000, -500, -499, -190, -30, -29, 150, 151, 3000, -191])
    found = tissue_fractions(values)
    assert found == pytest.approx({"lung": 0.2, "fat": 0.2, "soft_tissue": 0.2, "bone": 0.2})


@given(st.integers(-2000, 4000))
def test_a_value_is_of_one_tissue_at_most(value):
    assert sum(tissue_fractions(np.array([value])).values()) in (0.0, 1.0)


def test_units_decide():
    image, mask = np.full((1, 4, 4), 40.0), np.ones((1, 4, 4), bool)
    names = ("hu_mean", "hu_sd", "hu_p50", "lesion_soft_tissue_fraction", "body_soft_tissue_fraction")
    in_hu = measure(Case(image, (1.0, 1.0, 1.0), "HU", {"lesion": mask}), names)
    assert in_hu == pytest.approx(dict(zip(names, (40.0, 0.0, 40.0, 1.0, 1.0), strict=True)))
    assert measure(Case(image, (1.0, 1.0, 1.0), "arbitrary", {"lesion": mask}), names) == {}


# ---------------------------------------------------------------------------------------------- registry


def test_every_measurement_gives_a_finite_number_or_nothing():
    rng = np.random.default_rng(0)
    image, mask = rng.normal(size=(4, 20, 20)) * 100, box(4, 20, 20, (2, 6, 5))
    case = Case(
        image, (2.0, 1.0, 1.0), "HU", {"lesion": mask, "heart": mask, "thorax": mask},
        {"tube_voltage_kv": 120.0, "convolution_kernel": "SOFT"},
    )  # fmt: skip
    found = measure(case)
    assert found["tube_voltage_kv"] == 120.0 and found["convolution_kernel"] == "SOFT"
    assert found["cardiothoracic_ratio"] == 1.0
    assert all(isinstance(value, str) or np.isfinite(value) for value in found.values())
    assert set(found) == set(REGISTRY) - set(ACQUISITION) - {"cardiothoracic_ratio_heuristic"} | {
        "tube_voltage_kv",
        "convolution_kernel",
    }


def test_names_carry_their_units_and_those_of_files_are_the_files_own():
    assert set(ACQUISITION) == set(PARAMETERS) <= set(REGISTRY)
    for name, measurement in REGISTRY.items():
        suffix = name.rsplit("_", 1)[-1]
        if suffix in ("ml", "mm", "mgy", "kv", "ma", "ms", "mas", "t") and measurement.unit != "IBSI":
            assert measurement.unit.lower() == suffix
    assert set(RANGES_HU) == {"lung", "fat", "soft_tissue", "bone"}


def test_a_name_that_is_none():
    with pytest.raises(ConfigError, match="did you mean lesion_volume_ml"):
        measure(Case(np.zeros((1, 2, 2)), (1.0, 1.0, 1.0)), ["lesion_volume_m"])


@pytest.mark.parametrize(
    "masks",
    [
        {"lesion": np.zeros((1, 2, 3), bool)},
        {"liver": np.zeros((1, 2, 2), bool)},
        {"lesion": np.zeros((1, 2, 2))},
    ],
)
def test_masks_that_do_not_fit(masks):
    with pytest.raises(DataError, match="boolean masks"):
        Case(np.zeros((1, 2, 2)), (1.0, 1.0, 1.0), masks=masks)
