"""Radiomics of whole images in batches: held to the one-image implementation, to invariants, and to what they cost."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.filters import threshold_otsu

from fedimg.errors import ConfigError
from fedimg.imaging.radiomics import (
    co_occurrence,
    fixed_bin_number,
    intensity_histogram,
    intensity_statistics,
)
from fedimg.models import ModelConfig, build_model
from fedimg.models.classical_config import ClassicalConfig
from fedimg.models.foreground import shape_of_foreground
from fedimg.models.radiomic_features import DISTANCES, LARGEST, LEVELS, RadiomicFeatures, radiomics, ranges

SIZES = {2: (9, 12), 3: (6, 7, 8)}


def config(dimensions, channels=1, size=None):
    return ModelConfig(dimensions=dimensions, channels=channels, image_size=size or SIZES[dimensions])


def pictures(dimensions, count=3, channels=1):
    elements = st.floats(-2, 2, width=32, allow_subnormal=False)
    return hnp.arrays(np.float32, (count, channels, *SIZES[dimensions]), elements=elements)


def textured(dimensions, count, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, 1, *SIZES[dimensions]))
    return np.clip(ndimage.gaussian_filter(noise, (0, 0, *[1.0] * dimensions)) * 4, -2, 2).astype(np.float32)


# ------------------------------------------------------------------------------------- the other way


@pytest.mark.parametrize("dimensions", [2, 3])
@given(data=st.data())
def test_statistics_and_texture_are_those_of_the_one_image_implementation(dimensions, data):
    """`fedimg.imaging.radiomics`, which reproduces IBSI's digital phantom."""
    image = data.draw(pictures(dimensions, 1))[0, 0].astype(np.float64)
    found = {name: values[0] for name, values in radiomics(image[None]).items()}
    stack = image if dimensions == 3 else image[None]
    statistics = intensity_statistics(image)
    for ours, theirs in (
        ("mean", "mean"),
        ("skewness", "skewness"),
        ("excess_kurtosis", "excess_kurtosis"),
        ("percentile_10", "percentile_10"),
        ("median", "median"),
        ("percentile_90", "percentile_90"),
    ):
        assert found[ours] == pytest.approx(statistics[theirs], rel=1e-6, abs=1e-6)
    assert found["deviation"] ** 2 == pytest.approx(statistics["variance"], abs=1e-9)
    levels = fixed_bin_number(stack, np.ones(stack.shape, bool), LEVELS)
    assert found["entropy"] == pytest.approx(intensity_histogram(levels)["entropy"], abs=1e-9)
    for distance in DISTANCES:
        texture = co_occurrence(levels, "3d_merged" if dimensions == 3 else "2d_slice_merged", distance)
        for name in (
            "correlation",
            "contrast",
            "inverse_difference_moment",
            "joint_entropy",
            "information_correlation_1",
        ):
            assert found[f"{name}_{distance}"] == pytest.approx(texture[name], abs=1e-9)


@given(pictures(2, 1))
def test_the_threshold_is_otsus(images):
    """Separates as well as scikit-image's on the same 64 bins: equal variance between classes is an equal answer."""
    image = images[0, 0].astype(np.float64)
    if np.ptp(image) < 1e-3:
        return
    share = (image - image.min()) / np.ptp(image)
    cells = np.minimum(np.floor(64 * share), 63)
    found = shape_of_foreground(share[None])

    def between(front):
        w = front.mean()
        return w * (1 - w) * (cells[front].mean() - cells[~front].mean()) ** 2 if 0 < w < 1 else 0.0

    best = between(cells > threshold_otsu(cells.astype(np.uint8)))
    assert found["separability"][0] * cells.var() == pytest.approx(best, rel=1e-9, abs=1e-9)


def test_the_shape_of_a_drawn_rectangle():
    share = np.zeros((1, 20, 20))
    share[0, 4:8, 2:14] = 1.0  # 4 × 12
    found = {name: values[0] for name, values in shape_of_foreground(share).items()}
    assert found["foreground"] == pytest.approx(48 / 400)
    assert found["separability"] == pytest.approx(1)
    assert found["centre_h"] == pytest.approx(6 / 20 - 0.5) and found["centre_w"] == pytest.approx(
        8 / 20 - 0.5
    )
    # a row of n pixels has variance (n² − 1)/12
    assert found["elongation"] == pytest.approx(np.sqrt((4**2 - 1) / (12**2 - 1)))
    assert found["compactness"] == pytest.approx(4 * np.sqrt(48) / (2 * (4 + 12)))
    assert found["pieces"] == 1 and found["largest_piece"] == 1
    assert found["greatest_thickness"] == pytest.approx(2 / 20)


def test_pieces_of_a_volume():
    share = np.zeros((1, 8, 8, 8))
    share[0, 1:3, 1:3, 1:3] = share[0, 5:7, 5:6, 5:6] = 1.0
    found = {name: values[0] for name, values in shape_of_foreground(share).items()}
    assert found["pieces"] == 2 and found["largest_piece"] == pytest.approx(8 / 10)
    assert found["compactness"] == pytest.approx(6 * 10 ** (2 / 3) / (24 + 10))


# ------------------------------------------------------------------------------------------ invariants


@pytest.mark.parametrize("dimensions", [2, 3])
@given(data=st.data())
def test_numbers_are_bounded_and_of_one_image_alone(dimensions, data):
    images = torch.from_numpy(data.draw(pictures(dimensions)))
    features = RadiomicFeatures(config(dimensions))
    found = features(images)
    assert found.shape == (3, features.size) and found.dtype == torch.float32
    assert torch.isfinite(found).all() and found.abs().max() <= LARGEST
    assert torch.equal(found[1:2], features(images[1:2]))
    assert torch.equal(found.flip(0), features(images.flip(0)))


@given(pictures(2, 2))
def test_gain_and_offset_move_only_what_is_in_units(images):
    """All but the five that say how bright and how wide an image is."""
    images = images[images.reshape(2, -1).std(axis=1) > 0.1].astype(np.float64)
    if not len(images):
        return
    found, scaled = radiomics(images[:, 0]), radiomics(4.0 * images[:, 0])
    for name in found.keys() - {"mean", "deviation", "percentile_10", "median", "percentile_90"}:
        assert scaled[name] == pytest.approx(found[name], abs=1e-6)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_names_and_order_are_fixed(dimensions):
    named = ranges(dimensions)
    assert len(named) == {2: 35, 3: 38}[dimensions]
    assert list(named)[:2] == ["mean", "deviation"]
    assert named.keys() <= radiomics(textured(dimensions, 2)[:, 0].astype(float)).keys()


def test_an_image_that_is_not_finite_spoils_no_other():
    images = torch.from_numpy(textured(2, 3))
    features = RadiomicFeatures(config(2))
    whole = features(images)
    images[1, 0, 0, 0] = float("nan")
    found = features(images)
    assert torch.isnan(found[1]).all()
    assert torch.equal(found[[0, 2]], whole[[0, 2]])


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (3, 3), (2, 1, 1)])
def test_images_too_small_for_a_distance(size):
    features = RadiomicFeatures(config(len(size), size=size))
    found = features(torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(1)))
    assert torch.isfinite(found).all()
    assert torch.isfinite(features(torch.zeros(2, 1, *size))).all()


def test_every_channel_has_its_own():
    images = torch.from_numpy(np.concatenate([textured(2, 2, 1), textured(2, 2, 2)], axis=1))
    both = RadiomicFeatures(config(2, channels=2))(images)
    alone = RadiomicFeatures(config(2))
    assert torch.equal(both, torch.cat([alone(images[:, :1]), alone(images[:, 1:])], dim=1))


def test_many_images_in_parts_are_the_same(monkeypatch):
    images = torch.from_numpy(textured(2, 5))
    features = RadiomicFeatures(config(2))
    whole = features(images)
    monkeypatch.setattr(features, "_at_once", 2)
    assert torch.equal(features(images), whole)


# -------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("name", ["decision_tree", "extra_trees", "gradient_boosting", "ridge", "kmeans"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_networks_take_them(name, dimensions):
    own = ClassicalConfig(features="radiomics", projected=0)
    made = build_model(
        ModelConfig(name=name, dimensions=dimensions, image_size=SIZES[dimensions], classical=own), 0
    )
    assert made.feature_shape == ({2: 35, 3: 38}[dimensions],)
    images = torch.from_numpy(textured(dimensions, 2))
    assert torch.equal(made.features(images), RadiomicFeatures(config(dimensions))(images))


def test_other_features_are_another_network():
    digests = {
        build_model(ModelConfig(name="decision_tree", image_size=(16, 16), classical=ClassicalConfig(features=kind)), 0).digest
        for kind in ("radiomics", "scattering", "pixels")
    }  # fmt: skip
    assert len(digests) == 3


def test_more_numbers_than_there_are():
    own = ClassicalConfig(features="radiomics", projected=36)
    with pytest.raises(ConfigError, match="up to the 35 numbers"):
        build_model(ModelConfig(name="decision_tree", image_size=(16, 16), classical=own), 0)


def test_an_unknown_kind_of_feature():
    with pytest.raises(ConfigError, match="scattering or radiomics or pixels"):
        ClassicalConfig(features="radiomic")
