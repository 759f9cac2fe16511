import math

import numpy as np
import pytest
import torch

from fedimg.errors import ConfigError
from fedimg.privacy.noise import InsecureSeededEntropy, OsEntropy, add_noise, gaussian, grid_step
from fedimg.values import ClippedSum


class Bits:
    """Entropy that hands out chosen words."""

    insecure = True

    def __init__(self, *words):
        self.words = words

    def fill(self, out):
        out[:] = np.array(self.words, dtype=np.int64).tobytes()


def test_the_transform_is_box_muller_of_the_bits():
    """By hand: u = (2^62 + ½)/2^63 ≈ ½, angle 2π/4, so (r·cos, r·sin) = (0, √(2 ln 2))."""
    for k in (2**62, -(2**62)):
        x = gaussian(2, 3.0, Bits(k, 2**62))
        assert x == pytest.approx([0.0, 3.0 * math.sqrt(2 * math.log(2))], abs=1e-12)


def test_the_ends_of_the_uniform_range_give_finite_draws_and_the_tail_reaches_nine_sigma():
    for k in (0, -1):  # u = ½/2⁶³
        smallest = gaussian(2, 1.0, Bits(k, 0))
        assert smallest == pytest.approx([math.sqrt(2 * 64 * math.log(2)), 0.0])
    for k in (2**63 - 1, -(2**63)):
        assert np.abs(gaussian(2, 1.0, Bits(k, 2**61))).max() == 0


@pytest.mark.parametrize("size", [0, 1, 2, 7])
def test_any_size_is_served(size):
    assert gaussian(size, 1.0, OsEntropy()).shape == (size,)


def test_noise_is_added_with_the_stated_spread_and_lies_on_the_grid():
    total = ClippedSum(np.linspace(-5, 5, 1000), 0.1)
    noised, std = add_noise(total, 1.3, InsecureSeededEntropy(1))
    assert std == pytest.approx(0.13)
    steps = noised / grid_step(std)
    assert (steps == np.rint(steps)).all()
    assert (
        np.abs(noised - total.vector - gaussian(1000, std, InsecureSeededEntropy(1))).max()
        <= grid_step(std) / 2
    )


@pytest.mark.parametrize("std", [1e-8, 0.13, 1.0, 3.7, 1e5])
def test_the_grid_is_a_power_of_two_a_million_times_finer_than_the_noise(std):
    mantissa, _ = math.frexp(grid_step(std))
    assert mantissa == 0.5
    assert 2**-21 < grid_step(std) / std <= 2**-20


@pytest.mark.parametrize("noise_multiplier", [0.0, math.inf, math.nan])
def test_no_noise_is_no_mechanism(noise_multiplier):
    with pytest.raises(ConfigError, match="noise of positive, finite spread"):
        add_noise(ClippedSum(np.zeros(3), 1.0), noise_multiplier, OsEntropy())


def test_the_global_generators_are_neither_read_nor_moved():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the global state is what is being watched
    before, before_np = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = gaussian(100, 1.0, OsEntropy())
    torch.manual_seed(0)
    assert (first != gaussian(100, 1.0, OsEntropy())).any()
    assert torch.equal(before, torch.get_rng_state())
    assert (before_np == np.random.get_state()[1]).all()  # noqa: NPY002
