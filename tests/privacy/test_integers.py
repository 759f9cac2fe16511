"""Integer sums: the bound on a patient holds to the last bit, and chunks and order change nothing."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.errors import ConfigError
from fedimg.privacy.batches import gather
from fedimg.privacy.clipping import clipped_sum, clipped_vectors
from fedimg.privacy.engines import PatientGradients, PatientLoss
from fedimg.privacy.entropy import InsecureSeededEntropy, OsEntropy
from fedimg.privacy.integers import as_integers, integer_grid, squared_bound
from fedimg.privacy.noise import add_noise
from fedimg.values import ClippedSum

FLAT = torch.linspace(-1, 1, 10)


def exact_norm_squared(integers, clip):
    return sum(int(k) ** 2 for k in integers) * Fraction(integer_grid(clip)) ** 2


@settings(max_examples=100, deadline=None)
@given(
    clip=st.floats(1e-6, 1e6),
    seed=st.integers(0, 999),
    size=st.integers(1, 300),
    excess=st.floats(-1e-3, 1e-6),
)
def test_a_vector_that_floats_left_above_c_is_within_it_as_integers(clip, seed, size, excess):
    vector = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    vector *= clip * (1 + excess) / vector.norm()
    integers = as_integers(vector, clip)
    assert torch.equal(integers, integers.round())
    assert exact_norm_squared(integers, clip) <= Fraction(clip) ** 2
    if excess <= 0:
        steps = integers * integer_grid(clip)
        assert (steps.abs() <= vector.abs()).all()
        assert (vector - steps).abs().max() <= integer_grid(clip) * (1 + 1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, 10.0, 1e300])
def test_a_vector_that_is_not_clipped_or_not_finite_becomes_zero(value):
    assert not as_integers(torch.tensor([0.1, value], dtype=torch.float64), 1.0).any()


@pytest.mark.parametrize("clip", [0.1, 1.0, 3.7])
def test_the_bound_in_steps_is_exact(clip):
    steps = Fraction(clip) / Fraction(integer_grid(clip))
    assert 2**20 <= steps < 2**21
    assert squared_bound(clip) <= steps**2 < squared_bound(clip) + 1


def total(network, dataset, clip, *, who=None, chunk=0, engine="autograd", integers=True):
    who = np.arange(dataset.number_of_patients) if who is None else np.asarray(who, np.int64)
    batch = gather(dataset, who, 99, None, OsEntropy())
    gradients = PatientGradients(network, PatientLoss(), engine, chunk)
    return clipped_sum(gradients, FLAT, batch, clip, integers=integers).vector


@pytest.mark.parametrize("clip", [0.01, 0.3])
def test_removing_one_patient_takes_away_their_own_integers_exactly(linear, patients, clip):
    """In floats only to rounding; here bit by bit, in whichever order and chunks."""
    dataset = patients([1, 3, 2, 1, 3], scale=4.0)
    alone = [total(linear, dataset, clip, who=[u]) for u in range(5)]
    grid = integer_grid(clip)
    for vector in alone:
        assert exact_norm_squared(vector / grid, clip) <= Fraction(clip) ** 2
    for count in range(6):
        for chosen in itertools.combinations(range(5), count):
            expected = sum((alone[u] for u in chosen), np.zeros(10))
            assert np.array_equal(total(linear, dataset, clip, who=chosen), expected)
    for chunk in (1, 2, 7):
        assert np.array_equal(total(linear, dataset, clip, chunk=chunk), sum(alone))


@pytest.mark.parametrize("engine", ["vmap", "bookkeeping", "closed_form"])
def test_integers_differ_from_floats_by_rounding_whatever_the_engine(linear, patients, engine):
    dataset = patients([1, 3, 2, 1, 3])
    found = total(linear, dataset, 0.3, engine=engine)
    assert np.array_equal(found / integer_grid(0.3), np.rint(found / integer_grid(0.3)))
    plain = total(linear, dataset, 0.3, integers=False)
    assert np.abs(found - plain).max() <= 5 * integer_grid(0.3) + 1e-5


def test_vectors_of_a_histogram_are_summed_as_integers_too():
    vectors = np.array([[0.6, 0.8], [3.0, 4.0], [np.nan, 0.0], [0.0, -0.25]])
    found = clipped_vectors(vectors, 1.0, integers=True).vector
    assert found == pytest.approx([1.2, 1.35], abs=4 * integer_grid(1.0))
    assert np.array_equal(found / integer_grid(1.0), np.rint(found / integer_grid(1.0)))


@pytest.mark.parametrize("noise", ["strict", "discrete_gaussian"])
def test_noise_on_integers_is_of_integers_and_of_the_stated_spread(noise):
    """Σ(r/s)² ~ χ² with 4,000 degrees: within 5 standard deviations, chance 6·10⁻⁷; σ·1.15 is rejected."""
    total = ClippedSum(np.arange(4000) * integer_grid(0.3), 0.3)
    noised, std = add_noise(total, 1.7, InsecureSeededEntropy(3), noise)
    assert std == pytest.approx(0.51)
    steps = noised / integer_grid(0.3)
    assert np.array_equal(steps, np.rint(steps))
    statistic = float((((noised - total.vector) / std) ** 2).sum())
    assert abs(statistic - 4000) < 5 * math.sqrt(8000)
    assert abs(statistic * 1.15**2 - 4000) > 5 * math.sqrt(8000)


@pytest.mark.parametrize("noise", ["strict", "discrete_gaussian"])
def test_integer_noise_refuses_a_sum_between_the_grid_points(noise):
    with pytest.raises(ConfigError, match="a sum of patients' integers; found values between grid points"):
        add_noise(ClippedSum(np.array([1e-9]), 1.0), 1.0, OsEntropy(), noise)


def test_an_unknown_noise_is_refused():
    with pytest.raises(ConfigError, match="noise gaussian, strict or discrete_gaussian; found laplace"):
        add_noise(ClippedSum(np.zeros(1), 1.0), 1.0, OsEntropy(), "laplace")
