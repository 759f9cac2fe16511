"""Numbers beside an image: two planes each, whatever stands in the table."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import ConfigError, DataError
from fedimg.imaging import features
from fedimg.imaging.augmentation import augment, draw
from fedimg.imaging.config import AugmentationConfig, ImagingConfig
from fedimg.imaging.patients import dataset_from_arrays
from fedimg.values import Volume

BOUNDS = {"age": (0.0, 100.0), "marker": (-2.0, 5.0)}
CONFIG = ImagingConfig(image_size=(8, 8), features=BOUNDS)
values = st.floats(allow_nan=True, allow_infinity=True)


@given(st.dictionaries(st.sampled_from(["age", "marker", "other"]), values))
def test_a_value_is_a_share_of_its_bounds_and_presence_is_one_or_zero(given_values):
    found = features.values(tuple(given_values.items()), BOUNDS)
    assert found.shape == (4,) and found.dtype == np.float32
    for place, (name, (low, high)) in enumerate(BOUNDS.items()):
        value = given_values.get(name, math.nan)
        there = math.isfinite(value)
        share = 0.0 if not there else np.interp(value, [low, high], [0, 1])  # numpy's own clipped line
        assert found[2 * place : 2 * place + 2] == pytest.approx([share, float(there)], abs=1e-6)


@given(st.lists(st.floats(-2, 5), min_size=1, max_size=5))
def test_of_several_files_a_feature_is_the_mean(found):
    class Record:
        def __init__(self, value):
            self.features = (("marker", value),)

    ((name, mean),) = features.of_records([Record(value) for value in found])
    assert (name, mean) == ("marker", pytest.approx(np.mean(found), abs=1e-9))


def test_planes_are_constant_and_lie_behind_the_image():
    volume = Volume(np.ones((1, 1, 8, 8), np.float32), (1, 1, 1), "p", 0)
    (made,) = features.with_planes([volume], (("marker", 1.5),), CONFIG)
    assert made.image_CDHW.shape == (5, 1, 8, 8) and CONFIG.shape == (5, 8, 8)
    assert made.image_CDHW[:, 0, 0, 0].tolist() == [1, 0, 0, 0.5, 1]
    assert not np.ptp(made.image_CDHW.reshape(5, -1), axis=1).any()
    assert features.with_planes([volume], (("marker", 1.5),), replace(CONFIG, features={})) == [volume]


def test_arrays_have_no_features_and_no_modality():
    pixels = np.zeros((2, 1, 8, 8), np.uint8)
    found = dataset_from_arrays(pixels, np.array([0, 1]), ["a", "b"], CONFIG).images
    assert found.shape == (2, 5, 8, 8) and not found[:, 1:].any()
    together = ImagingConfig(image_size=(8, 8), unit="patient", together=("CT",))
    with pytest.raises(DataError, match="which say what modality they are"):
        dataset_from_arrays(pixels, np.array([0, 1]), ["a", "b"], together)


@pytest.mark.parametrize(
    "bad",
    [{"Age": (0.0, 1.0)}, {"age": (1.0, 1.0)}, {"age": (0.0, math.inf)}, {"age": (math.nan, 1.0)},
     {"age": (-1.7e308, 1.7e308)}, {f"f{k}": (0.0, 1.0) for k in range(65)}, {"a-b": (0.0, 1.0)}],
)  # fmt: skip
def test_names_and_bounds_that_are_none_are_refused(bad):
    with pytest.raises(ConfigError, match="features"):
        ImagingConfig(features=bad)


# ------------------------------------------------------------------------------------ augmentation

EVERYTHING = AugmentationConfig(
    copies=2, rotation_degrees=20, shift_fraction=0.2, flip=True, gain=0.3, bias=0.3, noise_std=0.3
)
PLACED = ImagingConfig(
    image_size=(8, 8), unit="patient", together=("CT", "MR"), features=BOUNDS, augmentation=EVERYTHING
)


def example(presence=(1, 1), count=3):
    """CT, MR, presence of both, age and whether it is there, marker and whether it is there."""
    images = torch.randn((count, 8, 8, 8), generator=torch.Generator().manual_seed(0))
    images[:, 2:] = torch.tensor([*presence, 0.3, 1, 0, 0]).reshape(6, 1, 1)
    images[:, :2] *= torch.tensor(presence).reshape(2, 1, 1)
    return images


def test_presence_and_features_are_never_moved_or_noised_and_a_missing_block_stays_zero():
    images = example((1, 0))
    config = PLACED.varied
    doubled = images.repeat_interleave(2, dim=0)
    out = augment(doubled, config, draw(images, config, torch.Generator().manual_seed(1)))
    assert torch.equal(out[:, 2:], doubled[:, 2:])
    assert not out[:, 1].any()
    assert not torch.isclose(out[:, 0], doubled[:, 0]).all()
    # the same pixels as an image alone, from the same draws
    draws = draw(images, config, torch.Generator().manual_seed(1))
    alone = draws._replace(normal=draws.normal[:, :2])
    assert torch.equal(out[:, 0], augment(doubled[:, :2], EVERYTHING, alone)[:, 0])


def test_dropped_modalities_are_missing_ones_at_the_public_rate_and_one_always_stays():
    images = example(count=4000)
    config = replace(PLACED, augmentation=AugmentationConfig(modality_dropout=0.3)).varied
    out = augment(images, config, draw(images, config, torch.Generator().manual_seed(5)))
    there = out[:, 2:4, 0, 0]
    for place in (0, 1):
        gone = there[:, place] == 0
        assert not out[gone, place].any() and torch.equal(out[~gone, place], images[~gone, place])
        # p = .3 · .7: both dropped means that none is; 4.5 standard deviations of 4,000 draws
        assert abs(float(gone.float().mean()) - 0.21) < 4.5 * (0.21 * 0.79 / 4000) ** 0.5
    assert (there.sum(dim=1) >= 1).all()
    assert torch.equal(out[:, 4:], images[:, 4:])
    again = augment(images, config, draw(images, config, torch.Generator().manual_seed(5)))
    assert torch.equal(out, again)
    half = augment(images[:9], config, type(draw(images, config, torch.Generator().manual_seed(5)))(
        *(part[:9] for part in draw(images, config, torch.Generator().manual_seed(5)))))  # fmt: skip
    assert torch.equal(half, out[:9])  # each by its own draws alone


def test_dropout_of_the_only_modality_that_is_there_changes_nothing():
    images = example((0, 1), count=50)
    config = replace(PLACED, augmentation=AugmentationConfig(modality_dropout=0.9)).varied
    assert torch.equal(augment(images, config, draw(images, config, torch.Generator())), images)


def test_it_runs_under_vmap():
    images = torch.stack([example(), example((1, 0))])
    config = replace(PLACED, augmentation=replace(EVERYTHING, modality_dropout=0.5)).varied
    draws = [draw(images[0], replace(config, copies=1), torch.Generator().manual_seed(s)) for s in (1, 2)]
    stacked = type(draws[0])(*(torch.stack(parts) for parts in zip(*draws, strict=True)))
    mapped = torch.func.vmap(lambda x, d: augment(x, config, d))(images, stacked)
    for k in range(2):
        torch.testing.assert_close(mapped[k], augment(images[k], config, draws[k]), atol=1e-6, rtol=0)
