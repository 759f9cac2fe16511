"""The sampler against the exact distribution, and its coins against exact arithmetic."""

import decimal
import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedimg.errors import ConfigError
from fedimg.privacy.discrete_gaussian import (
    bernoulli_exp,
    discrete_gaussian,
    discrete_laplace,
    exp_bounds,
    geometric,
    rank,
    uniform_below,
)
from fedimg.privacy.entropy import InsecureSeededEntropy, KeyedEntropy, OsEntropy

# Seeds are fixed, so a test fails or passes for good; with fresh seeds it would fail once in a million runs.
FALSE_ALARM = 1e-6


class Words:
    """Entropy that hands out chosen 64-bit words, then a seeded stream."""

    insecure = True

    def __init__(self, *words):
        self.head = np.array(words, dtype="<u8").tobytes()
        self.tail = InsecureSeededEntropy(5)
        self.drawn = 0

    def bytes(self, n):
        self.drawn += n
        head, self.head = self.head[:n], self.head[n:]
        return head + self.tail.bytes(n - len(head))


def chi_square(draws, probabilities):
    """p-value of counts at the integers in `probabilities`, everything else together in one more cell."""
    counts = [int((draws == k).sum()) for k in probabilities]
    expected = [p * len(draws) for p in probabilities.values()]
    counts.append(len(draws) - sum(counts))
    expected.append(len(draws) - sum(expected))
    return stats.chisquare(counts, expected).pvalue


def normal_masses(variance, most):
    weights = {k: math.exp(-k * k / (2 * variance)) for k in range(-40 * most, 40 * most + 1)}
    total = math.fsum(weights.values())
    return {k: weights[k] / total for k in range(-most, most + 1)}


@pytest.mark.parametrize(("variance", "most"), [(1, 3), (4, 6), (90, 25)])
def test_draws_have_the_exact_masses_and_no_other_variance(variance, most):
    """χ² at the integers within about 3 s; a variance 8 % off is rejected."""
    draws = discrete_gaussian(40_000, variance, InsecureSeededEntropy(1, str(variance)))
    assert chi_square(draws, normal_masses(variance, most)) > FALSE_ALARM
    assert chi_square(draws, normal_masses(variance * 1.08, most)) < FALSE_ALARM
    assert chi_square(draws, normal_masses(variance / 1.08, most)) < FALSE_ALARM


def test_laplace_draws_have_the_exact_masses():
    scale, draws = 3, discrete_laplace(40_000, 3, InsecureSeededEntropy(2))
    norm = (1 - math.exp(-1 / scale)) / (1 + math.exp(-1 / scale))
    masses = {k: norm * math.exp(-abs(k) / scale) for k in range(-12, 13)}
    assert chi_square(draws, masses) > FALSE_ALARM
    assert chi_square(draws, {k: m * math.exp(-abs(k) / 60) for k, m in masses.items()}) < FALSE_ALARM


def test_large_draws_are_spread_like_the_gaussian_they_stand_for():
    """At s = 2²¹ the law is N(0, s²) to 10⁻¹⁰: Kolmogorov-Smirnov, which rejects 3 % more."""
    variance = 1 << 42
    draws = discrete_gaussian(20_000, variance, InsecureSeededEntropy(3)) / 2.0**21
    assert stats.kstest(draws, "norm").pvalue > FALSE_ALARM
    assert abs(draws.var() - 1) < 5.5 * math.sqrt(2 / 20_000)
    assert stats.kstest(draws * 1.06, "norm").pvalue < 0.01


@settings(max_examples=100, deadline=None)
@given(numerator=st.integers(0, 10**9), denominator=st.integers(1, 10**8), below=st.booleans())
def test_a_coin_agrees_with_exact_arithmetic_at_the_very_edge_of_its_probability(
    numerator, denominator, below
):
    """The first 64 bits are those of exp(−x) itself, so floating point cannot tell: the next 64 decide."""
    exponent = Fraction(numerator, denominator) % 40
    low, high = exp_bounds(exponent, 400)
    assert high - low < Fraction(1, 1 << 400)
    word = int(low * (1 << 128)) + (-1 if below else 1)
    if not 0 <= word < 1 << 128:  # exp(0) = 1 has nothing above it
        return
    entropy = Words(word >> 64, word % (1 << 64))
    found = bernoulli_exp(np.array([float(exponent)]), lambda _i: exponent, entropy)
    assert bool(found[0]) == below
    assert entropy.drawn == 16


@settings(max_examples=50, deadline=None)
@given(exponents=st.lists(st.fractions(0, 50, max_denominator=10**6), min_size=1, max_size=40))
def test_floating_point_decides_no_coin_otherwise_than_exact_arithmetic_would(exponents):
    approximate = np.array([float(x) for x in exponents])
    fast = bernoulli_exp(approximate, exponents.__getitem__, InsecureSeededEntropy(7))
    # an interval as wide as all probabilities: every coin is decided by fractions, from the same 64 bits
    slow = bernoulli_exp(approximate, exponents.__getitem__, InsecureSeededEntropy(7), doubt=2.0)
    assert fast.tolist() == slow.tolist()


@settings(max_examples=50, deadline=None)
@given(exponent=st.fractions(0, 700, max_denominator=10**9), bits=st.sampled_from([64, 128, 512]))
def test_bounds_of_exp_hold_and_are_tight(exponent, bits):
    """Against the series with 2·bits more digits, by another way: exp(−x) = exp(−x/2^k)^(2^k)."""
    low, high = exp_bounds(exponent, bits)
    with decimal.localcontext() as context:
        context.prec = 2 * bits + 60
        part = (-decimal.Decimal(exponent.numerator) / decimal.Decimal(exponent.denominator)) / 1024
        term = total = decimal.Decimal(1)
        for n in range(1, 3 * bits):
            term = term * part / n
            total += term
        truth = Fraction(total**1024)
    assert low <= truth <= high
    assert high - low < Fraction(1, 1 << bits)


@pytest.mark.parametrize("bound", [1, 6, 10, 1 << 22])
def test_uniform_numbers_are_below_their_bound_and_even(bound):
    draws = uniform_below(bound, 12_000, InsecureSeededEntropy(4))
    assert draws.min() >= 0
    assert draws.max() < bound
    cells = min(bound, 12)
    counts = np.bincount(draws * cells // bound, minlength=cells)
    assert bound == 1 or stats.chisquare(counts).pvalue > FALSE_ALARM


def test_words_beyond_the_last_whole_multiple_are_thrown_away():
    """2⁶⁴ = 6·k + 4: the four largest words would favour 0 to 3."""
    assert uniform_below(6, 1, Words(2**64 - 1, 2**64 - 4, 2**64 - 5)).tolist() == [5]


def test_a_hundred_thousand_draws_take_about_a_second():
    begin = time.process_time()
    draws = discrete_gaussian(100_000, 3 << 41, OsEntropy())
    assert time.process_time() - begin < 5
    assert draws.shape == (100_000,)


def test_no_draws_are_no_draws_and_no_variance_is_no_noise():
    assert discrete_gaussian(0, 5, OsEntropy()).shape == (0,)
    for variance in (0, -1, 1 << 90):
        with pytest.raises(ConfigError, match="a variance parameter between 1 and"):
            discrete_gaussian(1, variance, OsEntropy())


def test_geometric_draws_have_the_exact_masses():
    draws = geometric(60_000, InsecureSeededEntropy(8))
    masses = {k: (1 - math.exp(-1)) * math.exp(-k) for k in range(8)}
    assert chi_square(draws, masses) > FALSE_ALARM
    assert chi_square(draws, {k: (1 - 0.35) * 0.35**k for k in range(8)}) < FALSE_ALARM


@pytest.mark.parametrize("power", [1, 2, 7, 30, 44, 50])
@pytest.mark.parametrize("below", [True, False])
def test_a_uniform_number_that_begins_like_a_power_of_e_is_placed_by_more_of_its_bits(power, below):
    """Beyond 44 the first 64 bits are all zero."""
    low, high = exp_bounds(Fraction(power), 400)
    word = int(low * (1 << 192)) + (-1 if below else 1)
    assert high - low < Fraction(1, 1 << 400)
    parts = [word >> 128, word >> 64 & (1 << 64) - 1, word & (1 << 64) - 1]
    entropy = Words(*parts)
    assert geometric(1, entropy).tolist() == [power if below else power - 1]
    assert entropy.drawn in (16, 24)
    assert rank(parts[0], Words(*parts[1:])) == (power if below else power - 1)


def test_all_other_numbers_are_placed_by_their_first_bits():
    words = [1 << 63, (1 << 64) - 1, 2**64 // 3, 5, 10**6, 10**12]
    found = geometric(len(words), Words(*words))
    expected = [math.floor(64 * math.log(2) - math.log(word + 0.5)) for word in words]
    assert found.tolist() == expected


def test_noise_from_a_key_is_the_same_wherever_it_is_made_and_another_from_another_key():
    first, again, other = (discrete_gaussian(3000, 1 << 40, KeyedEntropy(bytes([k]) * 32)) for k in (1, 1, 2))
    assert np.array_equal(first, again)
    assert abs(float(np.corrcoef(first, other)[0, 1])) < 0.1
    assert stats.kstest(first / 2.0**20, "norm").pvalue > FALSE_ALARM
    whole, pieces = KeyedEntropy(b"k" * 32), KeyedEntropy(b"k" * 32)
    assert whole.bytes(1000) == pieces.bytes(10) + pieces.bytes(7) + pieces.bytes(983)
    # published in RFC 8439 for a key of zeros, a counter of 0 and a nonce of zeros
    assert KeyedEntropy(bytes(32)).bytes(16).hex() == "76b8e0ada0f13d90405d6ae55386bd28"
