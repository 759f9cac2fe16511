"""Bodies in millimetres: what is drawn has the place and the volume it was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.cohort.canvas import Canvas


def canvas(side=64, slices=32, field=64.0, depth=62.0) -> Canvas:
    return Canvas.of((slices, side, side), (field, field, depth))


@given(st.tuples(*(st.floats(-8, 8) for _ in range(3))), st.tuples(*(st.floats(7, 18) for _ in range(3))))
def test_an_ellipsoid_has_its_volume_and_its_middle(centre, axes):
    own = canvas()
    region, share = own.ball(centre, axes)
    whole = np.zeros(own.values.shape)
    whole[region] = share
    voxel = own.edge**2 * own.step_mm
    assert whole.sum() * voxel == pytest.approx(4 / 3 * np.pi * np.prod(axes), rel=0.06)
    for axis, at, middle in zip((2, 1, 0), (own.x, own.y, own.z), centre, strict=False):
        weights = whole.sum(tuple({0, 1, 2} - {axis}))
        assert (weights * at).sum() / weights.sum() == pytest.approx(middle, abs=0.3)


def test_a_tube_has_its_radius_along_its_way_and_touches_nothing_far():
    own = canvas()
    own.tube((-15, 0, -10), (15, 0, 10), (5, 5), 100.0)
    x, y, z = own.grid
    along = np.array([30, 0, 20]) / np.hypot(30, 20)
    t = np.clip(((x + 15) * along[0] + (z + 10) * along[2]), 0, np.hypot(30, 20))
    distance = np.sqrt((x + 15 - t * along[0]) ** 2 + y**2 + (z + 10 - t * along[2]) ** 2)
    assert (own.values[distance < 4] == 100).all()
    assert (own.values[distance > 6] == -1000).all()


def test_what_lies_outside_the_field_is_cut_and_no_error():
    own = canvas()
    own.ball((60, 0, 0), (10, 10, 10), 100.0)
    own.tube((500, 0, 0), (600, 0, 0), (4, 4), 100.0)
    assert (own.values == -1000).all()
    own.ball((30, 0, 0), (10, 10, 10), 100.0)
    assert own.values.max() == 100 and own.values[:, :, :40].max() == -1000


def test_slices_lie_from_the_first_to_the_last():
    own = Canvas.of((16, 8, 8), (80.0, 80.0, 150.0), (1.0, 2.0, 3.0))
    assert own.step_mm == pytest.approx(10) and own.edge == 10
    assert own.z[[0, -1]].tolist() == [-72, 78]
    assert own.x.mean() == pytest.approx(1) and own.y.mean() == pytest.approx(2)
    assert Canvas.of((1, 8, 8), (80.0, 80.0, 0.0), (0.0, 0.0, 5.0)).z.tolist() == [5]


def test_a_texture_is_smooth_over_a_cell_and_of_unit_size():
    own = canvas()
    fields = [own.texture(np.random.default_rng(k), 16) for k in range(20)]
    assert fields[0].shape == own.values.shape
    assert 0.5 < np.std(fields) < 1.1 and abs(np.mean(fields)) < 0.1
    assert max(np.abs(np.diff(field, axis=2)).max() for field in fields) < 0.7
