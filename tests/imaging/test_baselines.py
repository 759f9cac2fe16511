"""Traditional baselines in the form of a network's outputs: on what they were made for they find it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.errors import ConfigError
from fedimg.evaluation import measure_of
from fedimg.imaging.baselines import MOST_FOUND, TRADITIONAL, places, voxels
from fedimg.imaging.findings import heat_map

SHAPES = {2: (64, 64), 3: (6, 48, 48)}


def bodies(shape, count, generator):
    """A grey body in black air, and a bright ball in it; where the ball is."""
    axes = np.ogrid[tuple(slice(0, side) for side in shape)]
    images, drawn = [], []
    for _ in range(count):
        body = sum(((a - s / 2) / (0.45 * s)) ** 2 for a, s in zip(axes[-2:], shape[-2:], strict=True)) <= 1
        centre = [s / 2 + generator.uniform(-0.1, 0.1) * s for s in shape]
        ball = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) <= (0.07 * shape[-1]) ** 2
        image = generator.normal(0, 0.02, shape) + np.where(body, 0.5, 0.0) + np.where(ball, 0.5, 0.0)
        images.append(image)
        drawn.append(ball)
    return np.stack(images)[:, None], np.stack(drawn).astype(np.int64)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("name", TRADITIONAL)
def test_a_bright_ball_in_a_body_is_outlined_and_located(name, dimensions):
    images, drawn = bodies(SHAPES[dimensions], 4, np.random.default_rng(0))
    first = np.arange(5)
    found = voxels(name, images)
    assert found.dtype == np.int16
    dice = measure_of("segmentation", 2, 20).of_outputs(found, drawn, first, bootstrap=0, seed=0)
    located = measure_of("detection", 2, 20).of_outputs(
        places(name, images), np.stack([heat_map(one) for one in drawn]), first, bootstrap=0, seed=0
    )
    # a threshold alone also takes what else is brighter than the mean; three dimensions have thick slices
    assert dice.metrics["dice"].value > 0.5
    assert located.metrics["sensitivity_at_1"].value == 1


@given(st.sampled_from(TRADITIONAL), st.sampled_from([0.0, 1.0, -3.0]), st.integers(1, 3))
@settings(max_examples=15)
def test_of_nothing_nothing_is_found_and_outputs_are_finite(name, level, channels):
    images = np.full((2, channels, 32, 32), level)
    assert not voxels(name, images).any()
    found = places(name, images)
    assert found.shape == (2, MOST_FOUND, 6)
    assert np.isfinite(found).all()
    assert not found[:, :, 0].any()


def test_an_image_s_answer_does_not_hang_on_the_others():
    images, _ = bodies((32, 32), 3, np.random.default_rng(1))
    for name in TRADITIONAL:
        together = places(name, images)
        assert np.array_equal(together[1:2], places(name, images[1:2]))
        assert (np.diff(together[:, :, 0]) <= 0).all()
        assert ((together[:, :, 0] >= 0) & (together[:, :, 0] < 1)).all()
    with pytest.raises(ConfigError, match="a traditional baseline"):
        voxels("magic", images)
