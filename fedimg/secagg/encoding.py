"""Real vectors as words modulo 2ᵏ, and back: fixed point with room for the sum.

The grid is a power of two, fixed from public bounds: K sites' largest values together stay below half of the
words, so a sum never wraps. A larger coordinate is clamped, never refused: a refusal would be an answer about
that site's values. Clamping is 1-Lipschitz, so it moves no sensitivity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedimg.errors import ConfigError
from fedimg.values import Integers, MaskedUpdate, Masking, Vector, Words

__all__ = ["Encoded", "Encoding", "Integers", "OpenedSum", "Words", "centred", "word_type"]

WORD_BITS = (32, 64)


@dataclass(frozen=True, slots=True)
class Encoding:
    """Which reals a word stands for.

    Attributes:
        step: γ, the value of one. A power of two, so scaling is exact.
        most: the largest magnitude of one site's coordinate, in steps.
        summands: K, how many sites' vectors may be added up.
        word_bits: k, 32 or 64.
    """

    step: float
    most: int
    summands: int
    word_bits: int = 32

    def __post_init__(self) -> None:
        if self.word_bits not in WORD_BITS:
            _refuse("word_bits", "32 or 64", self.word_bits)
        if not (self.step > 0 and math.isfinite(self.step) and math.frexp(self.step)[0] == 0.5):
            _refuse("step", "a power of two", self.step)
        if self.most < 1 or self.most >= 1 << 52:  # whole steps are exact in float64 below 2⁵²
            _refuse("most", "at least one step and less than 2^52", self.most)
        if self.summands < 1 or self.summands * self.most >= 1 << (self.word_bits - 1):
            _refuse("most", f"room for the sum of {self.summands} in {self.word_bits} bits", self.most)

    @classmethod
    def finest(cls, bound: float, summands: int, word_bits: int = 32) -> Encoding:
        """The smallest step with which `summands` coordinates of magnitude ≤ `bound` fit."""
        if not (bound > 0 and math.isfinite(bound)) or summands < 1:
            _refuse("bound", "a finite number > 0", bound)
        room = min(((1 << (word_bits - 1)) - 1) // summands, (1 << 52) - 1)
        exponent = math.ceil(math.log2(bound / room))
        while math.ceil(bound / math.ldexp(1.0, exponent)) > room:
            exponent += 1
        step = math.ldexp(1.0, exponent)
        return cls(step, math.ceil(bound / step), summands, word_bits)

    def encode(self, vector: Vector) -> Words:
        """(P,) reals → words: rounded to the nearest step and clamped; what is not a number becomes zero."""
        bound = self.most * self.step
        steps = np.clip(vector, -bound, bound)
        np.multiply(steps, 1.0 / self.step, out=steps)  # exact: a power of two
        np.rint(steps, out=steps)
        steps[np.isnan(steps)] = 0.0
        return steps.astype(np.int64).astype(word_type(self.word_bits))

    def decode(self, words: Words) -> Vector:
        """(P,) words of a sum → reals."""
        return centred(words).astype(np.float64) * self.step


@dataclass(frozen=True, slots=True, repr=False)
class Encoded:
    """A released or open vector as words, to be masked."""

    words: Words
    excess: tuple[bytes, ...] = ()

    def mask(self, masking: Masking) -> MaskedUpdate:
        return masking(self.words)


@dataclass(frozen=True, slots=True)
class OpenedSum:
    """Σ over `survivors` of what they put in, (P,) integers.

    `excess`: survivor → (d, key) of what is in its part for the d-th drop-out, and is not needed.
    """

    total: Integers
    survivors: tuple[str, ...]
    excess: Mapping[str, tuple[tuple[int, bytes], ...]] = field(default_factory=dict, repr=False)


def word_type(word_bits: int) -> np.dtype[Any]:
    return np.dtype(f"<u{word_bits // 8}")


def centred(words: Words) -> Integers:
    """Words modulo 2ᵏ as the integers in [−2ᵏ⁻¹, 2ᵏ⁻¹) that they stand for."""
    signed: Integers = words.view(f"<i{words.dtype.itemsize}").astype(np.int64)
    return signed


def _refuse(name: str, expected: str, found: object) -> None:
    raise ConfigError(f"{name} of the encoding: {expected}", f"{found}", "correct the plan of the secure sum")
