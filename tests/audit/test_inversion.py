"""Gradient inversion: exact without noise, and no better than the noise allows with it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.audit import inversion
from fedimg.audit.generated import radiographs
from fedimg.audit.inversion import cosine, expected_likeness, first_layer_input, from_noised, invert
from fedimg.audit.recipe import plan_for
from fedimg.errors import DataError
from fedimg.privacy.noise import InsecureSeededEntropy
from fedimg.privacy.plan import ReleaseSession


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_the_input_of_a_fully_connected_layer_follows_from_its_gradients(outputs, inputs, seed):
    """Whatever comes behind the layer: here a random smooth function of its output."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(inputs, generator=generator, dtype=torch.float64)
    weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64).requires_grad_()
    bias = torch.randn(outputs, generator=generator, dtype=torch.float64).requires_grad_()
    head = torch.randn(outputs, generator=generator, dtype=torch.float64)
    loss = (torch.sin(weight @ x + bias) * head).sum()
    by_weight, by_bias = (g.numpy() for g in torch.autograd.grad(loss, (weight, bias)))
    assert first_layer_input(by_weight, by_bias) == pytest.approx(x.numpy(), rel=1e-8, abs=1e-8)


def test_a_fitted_example_tells_nothing():
    with pytest.raises(DataError, match="a gradient that is not zero; found zero"):
        first_layer_input(np.zeros((2, 3)), np.zeros(2))


def test_a_private_update_hides_what_an_open_one_shows():
    claimed = plan_for(8.0, 2e-5, 100, 20, 0.2, 0.1)
    found = invert(radiographs(3, 0), claimed, InsecureSeededEntropy(0, "inversion"))
    assert found.held
    for case in found.cases:
        assert case.unnoised == pytest.approx(case.image, rel=1e-4, abs=1e-5)
        assert max(case.likeness[1:]) < 0.3
    assert found.as_dict()["likeness"]["unnoised_least"] > 0.999


@pytest.mark.parametrize("label", [0, 1])
def test_the_label_gives_the_sign(label):
    error = np.array([-0.5, 0.5]) if label == 0 else np.array([0.5, -0.5])
    x = np.array([1.0, 2.0, 3.0])
    update = np.concatenate([np.outer(error, x).ravel(), error])
    assert cosine(from_noised(update, label), x) == pytest.approx(1)


def test_the_expected_likeness_is_that_of_drawn_noise():
    generator, pixels = np.random.default_rng(0), 400
    x = generator.random(pixels)
    for noise, strength in ((0.05, 1.0), (0.5, 9.0)):
        found = [
            cosine(x, np.sqrt(strength) * x / np.linalg.norm(x) + noise * generator.normal(size=pixels))
            for _ in range(300)
        ]
        assert np.mean(found) == pytest.approx(expected_likeness(noise, pixels, strength), abs=0.01)


def test_too_little_noise_is_found(monkeypatch):
    """A mechanism with a 30th of its noise shows the picture, and the audit fails."""
    original = ReleaseSession.release

    def quiet(self, kind, clipped, noise_multiplier):
        return original(self, kind, clipped, noise_multiplier / 30)

    monkeypatch.setattr(ReleaseSession, "release", quiet)
    claimed = plan_for(8.0, 2e-5, 100, 5, 0.2, 0.1)
    found = invert(radiographs(2, 0), claimed, InsecureSeededEntropy(0, "inversion"))
    assert not found.held
    assert replace(found, cases=()).held
    assert inversion.PixelModel(4).number_of_parameters == 10
