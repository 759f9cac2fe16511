"""One flat vector, and a network that is a pure function of it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from fedimg.errors import ModelError
from fedimg.models import Layout, ModelConfig, build_model

SMALL = ModelConfig(name="cnn", width=4, image_size=(12, 12))


def _images(count, shape, seed=0):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def _vector(network, seed=1):
    """Parameters away from the zero head, so that every layer has a gradient."""
    noise = torch.randn(network.number_of_parameters, generator=torch.Generator().manual_seed(seed))
    return torch.from_numpy(network.initial.copy()).float() + 0.1 * noise


@given(shapes=st.lists(st.lists(st.integers(1, 4), max_size=3).map(tuple), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_flatten_undoes_unflatten(shapes):
    layout = Layout(tuple(f"w{i}" for i in range(len(shapes))), tuple(shapes))
    flat = torch.arange(float(layout.offsets[-1]))
    parts = layout.unflatten(flat)
    assert [tuple(p.shape) for p in parts.values()] == shapes
    assert torch.equal(layout.flatten(parts), flat)


def test_apply_is_the_module_with_these_weights():
    network = build_model(SMALL, 3)
    flat, images = _vector(network), _images(5, (1, 12, 12))
    module = nn.Module.__new__(type(network._module))
    module.__init__(SMALL)
    module.load_state_dict(network.state_dict(flat.double().numpy()))
    assert torch.equal(network.apply(flat, images), module(images))


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_vmap_of_grad_equals_one_autograd_call_an_example(dimensions, standardise):
    config = ModelConfig(
        name="cnn",
        width=4,
        dimensions=dimensions,
        image_size=(12,) * dimensions,
        weight_standardisation=standardise,
    )
    network = build_model(config, 0)
    flat, images = _vector(network), _images(4, config.image_shape)
    labels = torch.tensor([0, 1, 1, 0])

    def loss(parameters, image, label):
        return F.cross_entropy(network.apply(parameters, image[None]), label[None])

    rows = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(flat, images, labels)
    for row, image, label in zip(rows, images, labels, strict=True):
        leaf = flat.clone().requires_grad_()
        expected = torch.autograd.grad(loss(leaf, image, label), leaf)[0]
        assert float((row - expected).norm()) < 1e-5 * float(expected.norm())


def test_the_scattering_head_is_affine_in_its_features_and_starts_at_one_half():
    network = build_model(ModelConfig(name="scattering", image_size=(20, 20)), 0)
    features = network.features(_images(3, (1, 20, 20)))
    assert network.linear
    assert features.shape == (3, 81 * 5 * 5)
    assert np.array_equal(network.probabilities(network.initial, features), np.full((3, 2), 0.5))
    vector = np.linspace(-1, 1, network.number_of_parameters)
    weights = vector[:-2].reshape(2, -1).astype(np.float32)
    expected = features.numpy() @ weights.T + vector[-2:].astype(np.float32)
    found = network.apply(torch.from_numpy(vector).float(), features).numpy()
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_scattering_features_are_normalised_in_groups_of_three_channels():
    network = build_model(ModelConfig(name="scattering", image_size=(20, 20)), 0)
    groups = network.features(_images(2, (1, 20, 20)) + 5).reshape(2, 27, 3 * 25)
    assert torch.allclose(groups.mean(dim=2), torch.zeros(2, 27), atol=1e-5)
    # At most 1: the ε = 1e-5 inside the normalisation shows where a group hardly varies.
    assert bool((groups.var(dim=2, correction=0) < 1 + 1e-4).all())


def test_features_of_a_plain_network_are_its_images():
    network = build_model(SMALL, 0)
    images = _images(2, (1, 12, 12))
    assert network.features(images) is images
    assert network.feature_shape == (1, 12, 12)


def test_a_site_without_images_has_features_and_scores():
    network = build_model(ModelConfig(name="scattering", image_size=(20, 20)), 0)
    features = network.features(torch.zeros(0, 1, 20, 20))
    assert features.shape == (0, 2025)
    assert network.probabilities(network.initial, features).shape == (0, 2)


def test_probabilities_sum_to_one_and_do_not_depend_on_the_parts():
    network = build_model(SMALL, 0)
    images = _images(300, (1, 12, 12))
    vector = _vector(network).double().numpy()
    scores = network.probabilities(vector, images)
    assert np.allclose(scores.sum(axis=1), 1)
    assert np.allclose(scores[270:], network.probabilities(vector, images[270:]), atol=1e-6)


def test_threads_may_share_a_network():
    network = build_model(SMALL, 0)
    images = _images(2, (1, 12, 12))
    vectors = [_vector(network, seed) for seed in range(4)]
    expected = [network.apply(v, images) for v in vectors]
    failures: list[int] = []

    def work(number):
        same = [torch.equal(network.apply(vectors[number], images), expected[number]) for _ in range(25)]
        if not all(same):
            failures.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_vector_of_another_network_is_refused():
    network = build_model(SMALL, 0)
    size = network.number_of_parameters
    with pytest.raises(ModelError) as refusal:
        network.apply(torch.zeros(size + 1), torch.zeros(1, 1, 12, 12))
    assert str(refusal.value) == (
        f"expected a parameter vector of {size} values; found shape ({size + 1},); use vectors of this network"
    )


def test_images_of_another_size_are_refused():
    with pytest.raises(ModelError, match=r"expected images of shape \(1, 12, 12\); found \(1, 13, 12\)"):
        build_model(SMALL, 0).features(torch.zeros(1, 1, 13, 12))


def test_parameters_under_other_names_are_refused():
    network = build_model(SMALL, 0)
    parts = network.state_dict(network.initial)
    parts["other"] = parts.pop("head.bias")
    with pytest.raises(ModelError, match="with other names or shapes"):
        network.layout.flatten(parts)
