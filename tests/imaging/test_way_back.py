"""A prepared image taken back to its source lies where it came from: ramps say where each voxel was read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedimg.imaging import preprocessing
from fedimg.imaging.config import ImagingConfig, IntensityConfig
from fedimg.imaging.resampling import Grid
from fedimg.imaging.way_back import largest_part, source_voxels, taken_back, way_of

PLAIN = IntensityConfig(mean=0.0, std=1.0)


@st.composite
def geometries(draw):
    """Shape, spacing and a signed permutation of axes as an affine; 2 or 3 dimensions, a size or a spacing."""
    dimensions = draw(st.sampled_from([2, 3]))
    depth = draw(st.integers(3, 14)) if dimensions == 3 else draw(st.integers(1, 3))
    shape = (depth, draw(st.integers(12, 40)), draw(st.integers(12, 40)))
    spacing = tuple(draw(st.floats(0.6, 3.0)) for _ in range(3))
    affine = np.eye(4)
    columns = draw(st.permutations([0, 1, 2]))
    for column, (axis, mm) in enumerate(zip(columns, reversed(spacing), strict=True)):
        affine[:3, column] = 0
        affine[axis, column] = mm * draw(st.sampled_from([-1, 1]))
    size = tuple(draw(st.integers(8, 36)) for _ in range(dimensions))
    fit = draw(st.sampled_from(["letterbox", "stretch"]))
    mm = draw(st.none() | st.tuples(*[st.floats(0.7, 2.5)] * dimensions))
    config = ImagingConfig(dimensions=dimensions, image_size=size, fit=fit, spacing_mm=mm, intensity=PLAIN)
    return shape, spacing, affine, config


@settings(max_examples=150)
@given(geometries())
def test_every_prepared_voxel_shows_the_place_that_the_way_says(drawn):
    shape, spacing, affine, config = drawn
    way = way_of(shape, spacing, affine, config)
    for axis in range(3 - config.dimensions, 3):
        source = way.order[axis]
        n = shape[source]
        ramp = np.broadcast_to(
            np.arange(n, dtype=np.float32).reshape([-1 if k == source else 1 for k in range(3)]) / n, shape
        ).copy()
        seen = preprocessing.placed(Grid(ramp, spacing), affine, config).values_DHW
        places = source_voxels(way, axis, np.arange(seen.shape[axis]))
        if axis in way.flips:
            places = n - 1 - places
        # in the middle of the others, where nothing is padded; away from the edges, where values are repeated
        middle = [length // 2 for length in seen.shape]
        along = seen[tuple(slice(None) if k == axis else middle[k] for k in range(3))] * n
        margin = 4 * max(1.0, way.scale[axis])
        inner = (places > margin) & (places < n - 1 - margin)
        # means over areas take whole voxels: half of one off at most; linear interpolation is exact
        close = 0.02 * max(1.0, way.scale[axis]) if config.spacing_mm is not None else 0.51
        assert np.abs(along[inner] - places[inner]).max(initial=0) <= close


@settings(max_examples=150)
@given(geometries(), st.data())
def test_a_mask_placed_forward_and_taken_back_lies_over_itself(drawn, data):
    shape, spacing, affine, config = drawn
    way = way_of(shape, spacing, affine, config)
    mask = np.zeros(shape, np.float32)
    # a box of at least three prepared voxels a side, within what the prepared image shows
    scale = {way.order[axis]: max(1.0, way.scale[axis]) for axis in range(3)}
    where = []
    for axis, n in enumerate(shape):
        least = 1 if config.dimensions == 2 and axis == 0 else int(np.ceil(3 * scale[axis]))
        assume(least <= n)
        length = data.draw(st.integers(least, n))
        start = data.draw(st.integers(0, n - length))
        where.append(slice(start, start + length))
    mask[tuple(where)] = 1
    everything = preprocessing.placed(Grid(np.ones(shape, np.float32), spacing), affine, config).values_DHW
    seen = taken_back((everything > 0.5).astype(np.uint8), way) > 0
    assume((mask[seen] > 0).sum() > 0.9 * mask.sum())  # it was not cropped away
    forward = preprocessing.placed(Grid(mask, spacing), affine, config).values_DHW > 0.5
    back = taken_back(forward, way) & seen
    kept = (mask > 0) & seen
    dice = 2 * (back & kept).sum() / (back.sum() + kept.sum())
    assert back.shape == shape
    assert dice > 0.6
    centres = [np.mean(np.argwhere(one), axis=0) for one in (back, kept)]
    assert np.abs(centres[0] - centres[1]).max() <= max(scale.values())


def test_taken_back_by_a_wrong_way_does_not_lie_over_it():
    """What the property above would not let pass: an axis that runs the other way."""
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    config = ImagingConfig(image_size=(16, 16), intensity=PLAIN)
    mask = np.zeros((1, 32, 32), np.float32)
    mask[0, 4:12, 2:10] = 1
    forward = preprocessing.placed(Grid(mask, (1.0, 1.0, 1.0)), affine, config).values_DHW > 0.5
    right, wrong = (
        way_of((1, 32, 32), (1, 1, 1), affine, config),
        way_of((1, 32, 32), (1, 1, 1), np.eye(4), config),
    )
    assert (taken_back(forward, right) == (mask > 0)).all()
    assert not (taken_back(forward, wrong) & (mask > 0)).any()


def test_smooth_values_keep_their_range_and_are_nothing_outside():
    config = ImagingConfig(image_size=(8, 8), spacing_mm=(1.0, 1.0), intensity=PLAIN)
    way = way_of((1, 16, 16), (1, 1, 1), np.eye(4), config)  # the middle is cut out
    found = taken_back(np.full((1, 8, 8), 0.7, np.float32), way, smooth=True)
    assert found.dtype == np.float32
    assert (found[0, 4:12, 4:12] == np.float32(0.7)).all()
    assert found.sum() == pytest.approx(0.7 * 64, rel=1e-5)


def test_the_largest_part_is_one_part():
    mask = np.zeros((3, 9, 9), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True  # by their corners: one part of two
    mask[:, 5:7, 5:7] = True
    found = largest_part(mask)
    assert found.sum() == 12
    assert not largest_part(np.zeros((2, 2), bool)).any()
