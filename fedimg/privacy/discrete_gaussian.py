"""Exact samples of the discrete Gaussian, P(k) ∝ exp(−k²/2s²) over the integers.

Canonne, Kamath & Steinke 2020 (arXiv 2004.00010), algorithms 2 and 3: a discrete Laplace draw, accepted with
probability exp(−(|k| − s²/t)²/2s²). Many draws go at once in floating point, and still no probability is
rounded: a coin of probability p = exp(−x) is a uniform number of unboundedly many bits compared with p. Its
first 64 bits decide wherever they fall outside an interval around p that is far wider than the floating
point's error; for the rest, about one coin in 10¹², more bits are drawn and compared in exact arithmetic.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fedimg.errors import ConfigError
from fedimg.privacy.entropy import Entropy
from fedimg.values import Vector

Integers = npt.NDArray[np.int64]
Exponent = Callable[[int], Fraction]
"""From a coin's place to its exact x."""

# Half-width of the undecided interval, relative to p. For p ≥ 2⁻⁶⁴ the float64 error of x is below 2⁻⁴⁴ (the
# exponents below are at most 45) and that of exp below 2⁻⁵², so 2⁻⁴⁰ contains the true p with room.
_DOUBT = 2.0**-40
_WORD = 2.0**64
# Shares of draws that are accepted, for wide noise: √(π/2e), and 1 − 1/e.
_KEPT_GAUSSIAN, _KEPT_LAPLACE = 0.76, 0.63


def discrete_gaussian(size: int, variance: int, entropy: Entropy) -> Integers:
    """(size,) independent exact draws with parameter s² = `variance`, a positive integer below 2⁹⁰."""
    if not 0 < variance < 1 << 90:
        raise ConfigError("a variance parameter between 1 and 2^90", f"{variance}", "check the noise")
    scale = math.isqrt(variance) + 1
    parts, wanted = [np.zeros(0, dtype=np.int64)], size
    centre, twice = float(Fraction(variance, scale)), 2.0 * variance
    while wanted:
        draws = discrete_laplace(_enough(wanted, _KEPT_GAUSSIAN), scale, entropy)
        magnitude = np.abs(draws)

        def exact(i: int, magnitude: Integers = magnitude) -> Fraction:
            return (int(magnitude[i]) - Fraction(variance, scale)) ** 2 / (2 * variance)

        kept = draws[bernoulli_exp((magnitude - centre) ** 2 / twice, exact, entropy)][:wanted]
        parts.append(kept)
        wanted -= len(kept)
    return np.concatenate(parts)


def discrete_laplace(size: int, scale: int, entropy: Entropy) -> Integers:
    """(size,) draws of P(k) ∝ exp(−|k|/scale)."""
    parts, wanted = [np.zeros(0, dtype=np.int64)], size
    while wanted:
        low = uniform_below(scale, _enough(wanted, _KEPT_LAPLACE), entropy)
        low = low[bernoulli_exp(low / scale, _over(low, scale), entropy)]
        magnitude = low + scale * geometric(len(low), entropy)
        negative = np.frombuffer(entropy.bytes(len(magnitude)), dtype=np.uint8) & 1 == 1
        kept = np.where(negative, -magnitude, magnitude)[~(negative & (magnitude == 0))][:wanted]
        parts.append(kept)
        wanted -= len(kept)
    return np.concatenate(parts)


def geometric(size: int, entropy: Entropy) -> Integers:
    """(size,) draws of P(k) = (1 − 1/e)·e^−k: how many of e^−1, e^−2, … lie above a uniform number.

    64 bits of it decide unless they are those of one of the powers; then more are drawn.
    """
    words, powers = np.frombuffer(entropy.bytes(8 * size), dtype="<u8"), _powers()
    place = np.searchsorted(powers, words, side="right")
    result = (len(powers) - place).astype(np.int64)
    for i in np.flatnonzero(powers[np.maximum(place, 1) - 1] == words).tolist():
        result[i] = rank(int(words[i]), entropy)
    return result


def rank(word: int, entropy: Entropy) -> int:
    """How many of e^−1, e^−2, … lie above the uniform number that begins with the 64 bits of `word`."""
    bits, found = 64, 0
    while True:
        low, high = exp_bounds(Fraction(found + 1), bits)
        if Fraction(word + 1, 1 << bits) <= low:
            found += 1
        elif Fraction(word, 1 << bits) >= high:
            return found
        else:
            word, bits = (word << 64) | int.from_bytes(entropy.bytes(8), "little"), bits + 64


@lru_cache(maxsize=1)
def _powers() -> npt.NDArray[np.uint64]:
    """⌊2⁶⁴·e^−k⌋, ascending, down to the first that is 0: no power is a fraction of 2⁶⁴."""
    found: list[int] = []
    while not found or found[-1]:
        low, high = (math.floor(bound * 2**64) for bound in exp_bounds(Fraction(len(found) + 1), 128))
        if low != high:
            raise ArithmeticError("bounds of a power of e that are too wide")
        found.append(low)
    return np.array(found[::-1], dtype=np.uint64)


def _enough(wanted: int, share: float) -> int:
    """So many draws that about `wanted` of them are kept: a second pass for a few costs as much as the first."""
    return math.ceil(wanted / share + 4 * math.sqrt(wanted)) + 8


def uniform_below(bound: int, size: int, entropy: Entropy) -> Integers:
    """(size,) integers, each of 0..bound−1 equally likely; `bound` < 2⁶³."""
    # words beyond the last whole multiple of the bound are thrown away
    most = np.uint64((1 << 64) // bound * bound - 1)
    parts, wanted = [np.zeros(0, dtype=np.int64)], size
    while wanted:
        words = np.frombuffer(entropy.bytes(8 * wanted), dtype="<u8")
        kept = (words[words <= most] % np.uint64(bound)).astype(np.int64)
        parts.append(kept)
        wanted -= len(kept)
    return np.concatenate(parts)


def bernoulli_exp(
    exponents: Vector, exact: Exponent, entropy: Entropy, doubt: float = _DOUBT
) -> npt.NDArray[np.bool_]:
    """(n,) coins, coin i true with probability exp(−exact(i)), to the last bit.

    `exponents` are float64 approximations of `exact(i)` ≥ 0. `doubt` may be any relative interval that is wide
    enough: a wider one is slower and gives the same coins from the same bits.
    """
    words = np.frombuffer(entropy.bytes(8 * len(exponents)), dtype="<u8")
    chance, value = np.exp(-exponents), words.astype(np.float64)
    # the uniform number lies in [word, word + 1)/2⁶⁴; float64 keeps a word to 2⁻⁵³ of itself
    heads = (value + 1) * (1 + 2.0**-50) <= chance * (1 - doubt) * _WORD
    tails = value * (1 - 2.0**-50) >= (chance * (1 + doubt) + 2.0**-100) * _WORD
    result = np.asarray(heads, dtype=np.bool_)
    for i in np.flatnonzero(~(heads | tails)).tolist():
        result[i] = _decided(int(words[i]), exact(i), entropy)
    return result


def _decided(word: int, exponent: Fraction, entropy: Entropy) -> bool:
    """Whether a uniform number that begins with the 64 bits of `word` is below exp(−exponent)."""
    bits = 64
    while True:
        low, high = exp_bounds(exponent, bits)
        if Fraction(word + 1, 1 << bits) <= low:
            return True
        if Fraction(word, 1 << bits) >= high:
            return False
        word, bits = (word << 64) | int.from_bytes(entropy.bytes(8), "little"), bits + 64


def exp_bounds(exponent: Fraction, bits: int) -> tuple[Fraction, Fraction]:
    """Two numbers around exp(−exponent), closer to each other than 2⁻ᵇⁱᵗˢ."""
    with decimal.localcontext() as context:
        # three decimal digits for ten bits; the exponent's own digits come on top
        context.prec = bits * 3 // 10 + 20 + len(str(math.ceil(exponent)))
        context.Emin, context.Emax = decimal.MIN_EMIN, decimal.MAX_EMAX
        context.rounding = decimal.ROUND_HALF_EVEN
        quotient = decimal.Decimal(exponent.numerator) / decimal.Decimal(exponent.denominator)
        above, below = quotient.next_plus(), max(quotient.next_minus(), decimal.Decimal(0))
        low, high = (-above).exp().next_minus(), (-below).exp().next_plus()
    return max(Fraction(low), Fraction(0)), Fraction(high)


def _over(numerators: Integers, denominator: int) -> Exponent:
    return lambda i: Fraction(int(numerators[i]), denominator)
