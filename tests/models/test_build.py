"""From a configuration to a network."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from fedimg.errors import ConfigError, ModelError
from fedimg.models import Architecture, ModelConfig, build_model, extension_digests
from fedimg.models.build import _check_frozen

SMALL = ModelConfig(name="cnn", width=4, image_size=(12, 12))


def test_a_seed_gives_the_same_weights_and_another_seed_others():
    first, again, other = (build_model(SMALL, s).initial for s in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1.0


def test_the_global_generator_is_left_alone():
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    build_model(dataclasses.replace(SMALL, width=8), 5)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_weights_do_not_depend_on_the_global_generator():
    torch.manual_seed(1)
    first = build_model(dataclasses.replace(SMALL, classes=3), 5).initial
    build_model(SMALL, 1), build_model(SMALL, 2)  # two others: the first one is no longer remembered
    torch.manual_seed(2)
    assert np.array_equal(first, build_model(dataclasses.replace(SMALL, classes=3), 5).initial)


def test_a_network_is_built_once_for_all_sites():
    assert build_model(SMALL, 5) is build_model(SMALL, 5)


def test_the_cnn_has_the_promised_size():
    # 9·(1·16 + 16·32 + 32·64 + 64·64) filters, 2·(16 + 32 + 64 + 64) scales and shifts, 2·128 + 2 head.
    assert build_model(ModelConfig(name="cnn"), 0).number_of_parameters == 60048 + 352 + 258
    assert (
        build_model(ModelConfig(name="scattering", image_size=(28, 28)), 0).number_of_parameters == 2 * 3970
    )


def test_the_digest_names_the_architecture_and_not_the_seed():
    digest = build_model(SMALL, 0).digest
    assert digest == build_model(SMALL, 1).digest
    assert digest != build_model(dataclasses.replace(SMALL, width=8), 0).digest


def test_a_typo_names_the_nearest_network():
    with pytest.raises(ConfigError) as refusal:
        build_model(dataclasses.replace(SMALL, name="scatering"), 0)
    assert str(refusal.value) == (
        "expected a network that exists (basic_unet, cnn, decision_tree, densenet121, efficientnet_b0, extra_trees, filter_bank, "
        "gradient_boosting, kmeans, logistic, pca, resnet18, ridge, scattering, segresnet, svm, unet); found scatering; did you mean scattering?"
    )


def test_built_in_networks_need_no_extension():
    assert extension_digests(SMALL) == {}
    with pytest.raises(ConfigError, match="did you mean cnn"):
        extension_digests(dataclasses.replace(SMALL, name="cn"))


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"dimensions": 4}, "model.dimensions"),
        ({"dimensions": 3}, "model.dimensions"),
        ({"image_size": (0, 12)}, "model.image_size"),
        ({"classes": 1}, "model.classes"),
        ({"width": 0}, "model.width"),
        ({"scales": 7}, "model.scales"),
        ({"orientations": 0}, "model.orientations"),
        ({"channels": 0}, "model.channels"),
    ],
)
def test_a_configuration_out_of_range_names_its_key(values, key):
    with pytest.raises(ConfigError, match=key):
        dataclasses.replace(SMALL, **values)


def test_a_frozen_part_that_mixes_images_is_refused():
    centred = Architecture(nn.Linear(9, 2), lambda x: (x - x.mean(0)).flatten(1), (9,))
    with pytest.raises(ModelError, match="features that move with the batch"):
        _check_frozen(centred, (1, 3, 3), (9,))


def test_a_frozen_part_that_acts_at_random_is_refused():
    random = Architecture(nn.Linear(9, 2), lambda x: (x + torch.rand_like(x)).flatten(1), (9,))
    with pytest.raises(ModelError, match="the same each time"):
        _check_frozen(random, (1, 3, 3), (9,))
