"""IBSI's digital phantom: published matrices and reference values, to the three digits in which they are given."""

import json
from math import floor, log10
from pathlib import Path

import numpy as np
import pytest

from fedimg.imaging.radiomics import (
    co_occurrence,
    first_order,
    fixed_bin_number,
    fixed_bin_size,
    glcm,
    glcm_features,
    histogram,
    intensity_histogram,
    intensity_peaks,
    intensity_statistics,
    local_intensity,
    morphology,
    shape,
    spatial_autocorrelation,
)

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "ibsi_digital_phantom.json").read_text())
IMAGE = np.array(VECTORS["image_DHW"])
MASK = np.array(VECTORS["mask_DHW"], dtype=bool)
LEVELS = np.where(MASK, IMAGE, 0)


def rounded(value):
    """To three significant digits, as the reference values are."""
    return value if value == 0 else round(value, 2 - floor(log10(abs(value))))


def agrees(found, reference, tolerance=0.0):
    return abs(rounded(found) - reference) <= tolerance + 1e-9


def matrix(cells):
    made = np.zeros((6, 6))
    for pair, count in cells.items():
        i, j = (int(level) - 1 for level in pair.split())
        made[i, j] = made[j, i] = count
    return made


def test_the_phantom_is_the_published_one():
    assert MASK.sum() == 74
    assert (glcm.matrices(LEVELS, "3d_merged")[0] == matrix(VECTORS["matrix_3d_merged"])).all()
    by_slice = np.stack([matrix(cells) for cells in VECTORS["matrices_2d_slice_merged"]])
    assert (glcm.matrices(LEVELS, "2d_slice_merged") == by_slice).all()


@pytest.mark.parametrize("name", first_order.CODES)
def test_statistics(name):
    assert agrees(intensity_statistics(IMAGE[MASK])[name], VECTORS["statistics"][name])


@pytest.mark.parametrize("name", histogram.CODES)
def test_histogram(name):
    assert agrees(intensity_histogram(LEVELS)[name], VECTORS["histogram"][name])


@pytest.mark.parametrize("name", shape.CODES)
def test_shape(name):
    reference, tolerance = VECTORS["shape"][name]
    found = morphology(MASK, tuple(VECTORS["spacing_mm"]), IMAGE)
    assert agrees(found[name], reference, tolerance)


@pytest.mark.parametrize("name", local_intensity.CODES)
def test_where_intensities_lie(name):
    measured = (IMAGE, MASK, tuple(VECTORS["spacing_mm"]))
    found = intensity_peaks(*measured) | spatial_autocorrelation(*measured)
    assert agrees(found[name], *VECTORS["local_intensity"][name])


@pytest.mark.parametrize("aggregation", VECTORS["co_occurrence"])
@pytest.mark.parametrize("name", glcm_features.CODES)
def test_co_occurrence(name, aggregation):
    assert agrees(co_occurrence(LEVELS, aggregation)[name], VECTORS["co_occurrence"][aggregation][name])


def test_a_slightly_wrong_value_is_seen():
    assert not agrees(intensity_statistics(IMAGE[MASK])["mean"] * 1.01, VECTORS["statistics"]["mean"])
    assert not agrees(
        morphology(~MASK, (2.0, 2.0, 2.0))["volume_mesh_mm3"], *VECTORS["shape"]["volume_mesh_mm3"]
    )
    other = np.where(MASK, IMAGE, 1)  # voxels outside of the region counted in
    assert not agrees(
        co_occurrence(other)["joint_entropy"], VECTORS["co_occurrence"]["3d_merged"]["joint_entropy"]
    )


def test_either_discretisation_leaves_the_phantom_as_it_is():
    assert (fixed_bin_size(IMAGE, MASK, 1.0) == LEVELS).all()
    assert (fixed_bin_number(IMAGE, MASK, 6) == LEVELS).all()
