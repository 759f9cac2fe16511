import numpy as np
import pytest

from fedimg.errors import ConfigError
from fedimg.privacy.entropy import InsecureSeededEntropy, OsEntropy
from fedimg.privacy.sampling import poisson_sample


class Words:
    insecure = True

    def __init__(self, *words):
        self.words = words

    def bytes(self, n):
        return np.array(self.words, dtype="<u8").tobytes()


def test_a_coin_is_an_exact_comparison_of_64_bits():
    """q = ¼: heads are the words below 2^62, and no other."""
    words = Words(0, 2**62 - 1, 2**62, 2**63, 2**64 - 1)
    assert poisson_sample(5, 0.25, words).tolist() == [0, 1]


def test_rates_are_never_rounded_up():
    """0.1 as float64 times 2^64 is an integer; 2^-70 rounds down to never."""
    from fractions import Fraction

    edge = int(Fraction(0.1) * 2**64)
    assert poisson_sample(2, 0.1, Words(edge - 1, edge)).tolist() == [0]
    assert poisson_sample(1, 2.0**-70, Words(0)).tolist() == []


def test_rate_one_takes_everybody_and_nobody_is_nobody():
    assert poisson_sample(4, 1.0, Words(*[2**64 - 1] * 4)).tolist() == [0, 1, 2, 3]
    assert poisson_sample(0, 0.5, OsEntropy()).tolist() == []


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(rate):
    with pytest.raises(ConfigError, match=r"a sampling rate in \(0, 1\]"):
        poisson_sample(3, rate, OsEntropy())


def test_the_batch_size_varies_and_may_be_zero():
    entropy = InsecureSeededEntropy(0)
    sizes = [poisson_sample(10, 0.1, entropy).size for _ in range(200)]
    assert min(sizes) == 0
    assert len(set(sizes)) > 3
