"""The filter bank against scipy, and a heat map's loss and peaks against plain counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fedimg.errors import ConfigError
from fedimg.imaging.findings import heat_map
from fedimg.models import ModelConfig, build_model
from fedimg.models.filter_bank import FilterBank
from fedimg.models.heat_map import MOST_FOUND, centre_heat_map, found
from fedimg.models.losses import binary_cross_entropy, huber, squared_error
from fedimg.models.outputs import activated


def bank(dimensions, side, scales=2):
    return FilterBank(
        ModelConfig(
            name="filter_bank",
            task="segmentation",
            dimensions=dimensions,
            image_size=(side,) * dimensions,
            scales=scales,
        )
    )


@pytest.mark.parametrize("dimensions", [2, 3])
def test_smoothing_and_gradients_are_scipy_s(dimensions):
    image = np.random.default_rng(0).random((14,) * dimensions).astype(np.float32)
    features = bank(dimensions, 14, scales=1)(torch.from_numpy(image)[None, None])[0].numpy()
    step = 2 + dimensions
    for place, sigma in enumerate((1.0, 2.0)):
        smooth = ndimage.gaussian_filter(
            image.astype(float), sigma, mode="nearest", radius=math.ceil(3 * sigma)
        )
        assert np.abs(features[1 + place * step] - smooth).max() < 1e-5
        first = [
            ndimage.correlate1d(smooth, [-0.5, 0, 0.5], axis=axis, mode="nearest")
            for axis in range(dimensions)
        ]
        length = sigma * np.sqrt(sum(one**2 for one in first))
        assert np.abs(features[2 + place * step] - length).max() < 1e-4


def test_curvatures_tell_a_blob_from_a_line():
    """At a bright blob both eigenvalues are negative, on a bright line one is about nothing."""
    axis = torch.arange(33, dtype=torch.float32) - 16
    blob = torch.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / 18)
    line = torch.exp(-(axis[:, None] ** 2) / 18).expand(33, 33)
    low, high = (bank(2, 33)(torch.stack([blob, line])[:, None])[:, k, 16, 16] for k in (7, 8))
    assert high[0] < -0.1
    assert low[1] < -0.1
    assert abs(high[1]) < 0.02


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_the_head_gives_outputs_of_every_voxel_and_is_fit_for_privacy(dimensions, task):
    config = ModelConfig(
        name="filter_bank",
        task=task,
        classes=3,
        dimensions=dimensions,
        image_size=(8,) * dimensions,
        width=4,
        scales=1,
    )
    network = build_model(config, 0)
    features = network.features(torch.rand(2, 1, *config.image_size))
    vector = np.random.default_rng(0).normal(0, 0.1, network.number_of_parameters)
    logits = network.apply(torch.from_numpy(vector).float(), features)
    assert logits.shape == (2, *config.output_shape)
    assert network.number_of_parameters < 600
    assert len(network.outputs(vector, features[:0])) == 0
    expected = (
        (2, 8, 8, 8)[: dimensions + 1] if task == "segmentation" else (2, 2 * MOST_FOUND, 2 + 2 * dimensions)
    )
    assert network.outputs(vector, features).shape == expected


def plain_loss(outputs, labels, kinds):
    """The same sum, voxel by voxel and class by class."""
    total = count = 0.0
    for place in np.ndindex(labels.shape[1:]):
        heats = [labels[(kind, *place)] for kind in range(kinds)]
        for kind, heat in enumerate(heats):
            p = 1 / (1 + math.exp(-(outputs[(kind, *place)] + math.log(0.01 / 0.99))))
            if heat == 1:
                count += 1
                total -= (1 - p) ** 2 * math.log(p)
            else:
                total -= (1 - heat) ** 4 * p**2 * math.log(1 - p)
        if 1 in heats:
            sizes = range(kinds, len(labels))
            total += 0.1 * sum(abs(outputs[(k, *place)] - labels[(k, *place)] / 8) for k in sizes)
    return total / max(1, count)


@given(st.integers(0, 3), st.sampled_from([(1, 2), (3, 2), (2, 3)]), st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_a_heat_map_s_loss_is_the_paper_s_sum(findings, kinds_axes, seed):
    generator, (kinds, axes) = np.random.default_rng(seed), kinds_axes
    drawn = np.zeros((6,) * axes, np.uint16)
    for number in range(findings):
        at = generator.integers(0, 4, axes)
        where = tuple(slice(a, a + n) for a, n in zip(at, (2, 3, 2), strict=False))
        drawn[where] = 256 * generator.integers(1, kinds + 1) - 1 - number
    labels = heat_map(drawn, kinds).astype(float)
    outputs = generator.normal(0, 1, labels.shape)
    loss = centre_heat_map(torch.from_numpy(outputs)[None], torch.from_numpy(labels)[None])
    assert loss.shape == (1,)
    assert float(loss[0]) == pytest.approx(plain_loss(outputs, labels, kinds), rel=1e-6)


def test_peaks_come_back_with_their_sizes_best_first():
    outputs = torch.full((1, 3, 20, 20), -9.0)
    for score, (y, x), size in ((6.0, (4, 5), (8, 4)), (8.0, (12, 15), (2, 6))):
        outputs[0, 0, y, x] = score
        outputs[0, 0, y, x + 1] = score - 1  # a neighbour that is no peak
        outputs[0, 1:, y, x] = torch.tensor(size) / 8.0
    best = found(outputs)[0]
    assert best[0, 1:].tolist() == [12, 15, 2, 6, 1]
    assert best[1, 1:].tolist() == [4, 5, 8, 4, 1]
    assert best[0, 0] > best[1, 0] > 0.5 > best[2, 0]


def test_peaks_of_every_class_come_back_with_their_class():
    outputs = torch.full((2, 2 + 3, 8, 8, 8), -9.0)
    for score, kind, place, size in ((5.0, 1, (1, 2, 3), (4, 2, 6)), (7.0, 0, (6, 5, 4), (8, 8, 2))):
        outputs[(0, kind, *place)] = score
        outputs[(0, slice(2, None), *place)] = torch.tensor(size) / 8.0
    best = found(outputs)[0]
    assert best[0, 1:].tolist() == [6, 5, 4, 8, 8, 2, 1]
    assert best[1, 1:].tolist() == [1, 2, 3, 4, 2, 6, 2]
    assert (best[1:, 0] <= best[:-1, 0]).all()
    assert sorted(set(best[:, -1].tolist())) == [1, 2]


def test_losses_of_numbers_and_findings_by_hand():
    logits, there = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    expected = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert float(binary_cross_entropy(logits, there)[0]) == pytest.approx(expected)
    outputs, truth = torch.tensor([[0.55], [0.9]]), torch.tensor([0.5, 0.5])
    assert squared_error(outputs, truth).tolist() == pytest.approx([0.0025, 0.16])
    assert huber(outputs, truth).tolist() == pytest.approx([0.00125, 0.1 * (0.4 - 0.05)])


def test_outputs_of_each_task():
    assert activated(
        "segmentation", torch.tensor([[[0.0, 2.0]], [[1.0, 0.0]]]).permute(1, 0, 2)
    ).tolist() == [[1, 0]]
    assert float(activated("multilabel", torch.zeros(1, 1))[0, 0]) == 0.5
    assert float(activated("regression", torch.tensor([[0.3]]))[0, 0]) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("cnn", "segmentation"),
        ("basic_unet", "regression"),
        ("ridge", "multilabel"),
        ("scattering", "detection"),
    ],
)
def test_a_network_of_another_task_is_refused_by_name(name, task):
    config = ModelConfig(name=name, task=task, image_size=(32, 32))
    with pytest.raises(ConfigError, match=f"model.task={task}"):
        build_model(config, 0)


def test_a_range_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="target_range"):
        ModelConfig(task="regression", target_range=(2.0, 2.0))
