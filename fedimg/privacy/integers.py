"""Patients' vectors as integers: sums without rounding, and a sensitivity that holds to the last bit.

Floating-point sums depend on the order of the patients and round by more when they are larger, so that
removing one patient may move the sum by more than their share (Casacuberta et al. 2022, arXiv 2207.10635).
Integers do neither: each patient's clipped vector is rounded to a public grid, toward zero, so that no norm
grows, and its integer norm is checked in exact arithmetic before it is added.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch

from fedimg.errors import ConfigError
from fedimg.values import ClippedSum, Vector

# C is 2²⁰ to 2²¹ grid steps: rounding costs a patient at most √P · 2⁻²⁰ of C.
STEPS_BITS = 20
_TRIES = 3
# Integers below are float64 numbers, and so are their sums with noise.
_EXACT = 2.0**52


def integer_grid(l2_clip_norm: float) -> float:
    """γ, the public grid for patients' vectors of norm ≤ C: a power of two."""
    return math.ldexp(1.0, math.floor(math.log2(l2_clip_norm)) - STEPS_BITS)


@lru_cache(maxsize=64)
def squared_bound(l2_clip_norm: float) -> int:
    """The largest Σk² that a patient's integers may have: ⌊(C/γ)²⌋, of the float64 C as it is."""
    return math.floor((Fraction(l2_clip_norm) / Fraction(integer_grid(l2_clip_norm))) ** 2)


def as_integers(vectors: torch.Tensor, l2_clip_norm: float) -> torch.Tensor:
    """(…, P) float64 of norms about ≤ C → (…, P) float64 of whole numbers with Σk² ≤ (C/γ)² each, certainly.

    Where floating-point clipping left a norm above the bound by its rounding, the vector is shrunk by 2⁻³⁰ and
    rounded again; one that still does not fit, or is not finite, becomes zero. Floats hold these numbers and sums of
    their squares exactly, in any order: Σk² ≤ 1.03·2⁴² < 2⁵³.
    """
    grid, bound = integer_grid(l2_clip_norm), squared_bound(l2_clip_norm)
    integers, over = vectors, torch.ones_like(vectors[..., :1], dtype=torch.bool)
    for _ in range(_TRIES):
        integers = (vectors / grid).trunc_()  # exact: the grid is a power of two
        # only sums that are exact are formed
        beyond = ~(torch.linalg.vector_norm(integers, dim=-1, keepdim=True) <= 1.01 * math.sqrt(bound))
        if bool(beyond.any()):
            integers.masked_fill_(beyond, 0.0)
        over = torch.linalg.vecdot(integers, integers)[..., None] > bound
        if not bool(over.any()):
            return integers
        vectors = torch.where(over, vectors * (1 - 2.0**-30), vectors)
    return integers.masked_fill_(over, 0.0)


def in_steps(total: ClippedSum) -> Vector:
    """(P,) float64 of whole numbers: a sum of patients' integers. Raises ConfigError where it is none."""
    steps = total.vector / integer_grid(total.sensitivity)  # exact: a power of two
    if not (steps == np.rint(steps)).all() or not (np.abs(steps) < _EXACT).all():
        raise ConfigError(
            "a sum of patients' integers", "values between grid points", "clip with integers=True"
        )
    return np.asarray(steps, dtype=np.float64)


def std_in_steps(noise_multiplier: float, l2_clip_norm: float) -> Fraction:
    """σ·C/γ, exactly."""
    return Fraction(noise_multiplier) * Fraction(l2_clip_norm) / Fraction(integer_grid(l2_clip_norm))
