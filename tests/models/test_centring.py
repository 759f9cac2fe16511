"""A head behind a centre, and rounds that bring the centre to the mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import ConfigError
from fedimg.models import ModelConfig, build_model
from fedimg.models.centring import CentredLinear, CentrePart, HeadPart, half_square, stage, stage_ends


@given(rounds=st.integers(1, 40), seed=st.integers(0, 1000))
def test_the_steps_make_the_mean_of_what_the_rounds_said_each_by_its_radius(rounds, seed):
    """Noise is in proportion to the radius, so the inverse of its variance is 1/R²."""
    said = np.random.default_rng(seed).normal(size=rounds)
    centre, waiting = 5.0, 0.0
    for number, value in enumerate(said, start=1):
        waiting += stage(number, rounds, 49).step * (value - centre)
        if number in stage_ends(rounds):
            centre, waiting = centre + waiting, 0.0
    assert waiting == 0.0
    weights = [stage(number, rounds, 49).radius ** -2 for number in range(1, rounds + 1)]
    assert centre == pytest.approx(np.average(said, weights=weights), abs=1e-9)


def test_noise_that_is_many_times_the_radius_is_averaged_and_not_run_after():
    """Clipped ways back would be too short for a centre that had moved with the first round's noise."""
    rng, features, rounds = np.random.default_rng(0), 400, 200
    mean = np.full(features, 0.5)
    centre, waiting = np.zeros(features), np.zeros(features)
    for number in range(1, rounds + 1):
        now = stage(number, rounds, features)
        way = mean - centre
        way *= min(1.0, now.radius / np.linalg.norm(way))
        waiting += now.step * (way + rng.normal(size=features) * 4 * now.radius / math.sqrt(features))
        if number in stage_ends(rounds):
            centre, waiting = centre + waiting, np.zeros(features)
    best = 4.0 / math.sqrt(sum(stage(n, rounds, 1).radius ** -2 for n in range(1, rounds + 1)))
    assert np.std(centre - mean) == pytest.approx(best, rel=0.1)


def test_the_second_half_of_the_rounds_looks_nearer():
    radii = [stage(number, 5, 100).radius for number in range(1, 6)]
    assert radii == [10.0, 10.0, 10.0, 5.0, 5.0]


def test_the_logits_are_those_of_a_linear_layer_on_features_less_the_centre():
    head = CentredLinear(6, 3)
    with torch.no_grad():
        head.centre.copy_(torch.arange(6.0))
    features = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    expected = (features - torch.arange(6.0)) @ head.weight.T + head.bias
    assert torch.allclose(head(features), expected, atol=1e-6)
    flat = torch.cat([head.weight.reshape(-1), head.bias])
    part = HeadPart(len(flat), head.centre.detach(), "head")
    assert torch.allclose(part.apply(flat, features), expected, atol=1e-6)


def test_the_loss_of_a_centre_has_the_scaled_way_to_it_as_its_gradient():
    part, centre = CentrePart(6, 0.25, "centre"), torch.arange(6.0, requires_grad=True)
    features = torch.randn(1, 6, generator=torch.Generator().manual_seed(1))
    half_square(part.apply(centre, features), torch.zeros(1)).sum().backward()
    assert centre.grad is not None
    assert torch.allclose(centre.grad, 0.25 * (torch.arange(6.0) - features[0]), atol=1e-6)


def test_normalised_features_lie_within_the_first_radius():
    network = build_model(ModelConfig(name="scattering", image_size=(28, 28), centring_rounds=2), 0)
    images = torch.randn(5, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [0.01, 1, 10, 100, 1]
    ).view(5, 1, 1, 1)
    features = network.features(images)
    assert float(features.norm(dim=1).max()) <= math.sqrt(features.shape[1])
    assert network.layout.names[-1] == "centre"
    assert not network.linear
    assert network.centring_rounds == 2


def test_a_network_without_a_centre_refuses_centring_rounds():
    with pytest.raises(ConfigError, match=r"model\.centring_rounds=0"):
        build_model(ModelConfig(name="cnn", image_size=(16, 16), centring_rounds=2), 0)
