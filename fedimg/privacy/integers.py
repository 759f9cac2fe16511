"""Patients' vectors as integers: sums without rounding, and a sensitivity that holds to the last bit.

Floating-point sums depend on the order of the patients and round by more when they are larger, so that
removing one patient may move the sum by more than their share (Casacuberta et al. 2022, arXiv 2207.10635).
Integers do neither: each patient's clipped vector is rounded to a public grid, toward zero, so that no norm
grows, and its integer norm is checked in exact arithmetic before it is added.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch

# C is 2²⁰ to 2²¹ grid steps: rounding costs a patient at most √P · 2⁻²⁰ of C.
STEPS_BITS = 20
_TRIES = 3


def integer_grid(l2_clip_norm: float) -> float:
    """γ, the public grid for patients' vectors of norm ≤ C: a power of two."""
    return math.ldexp(1.0, math.floor(math.log2(l2_clip_norm)) - STEPS_BITS)


def squared_bound(l2_clip_norm: float) -> int:
    """The largest Σk² that a patient's integers may have: ⌊(C/γ)²⌋, of the float64 C as it is."""
    return math.floor((Fraction(l2_clip_norm) / Fraction(integer_grid(l2_clip_norm))) ** 2)


def as_integers(vector: torch.Tensor, l2_clip_norm: float) -> torch.Tensor:
    """(P,) float64 of norm about ≤ C → (P,) int64 with Σk² ≤ (C/γ)², certainly.

    Where floating-point clipping left a norm above the bound by its rounding, the vector is shrunk by 2⁻³⁰ and
    rounded again; one that still does not fit, or is not finite, becomes zero.
    """
    steps = vector / integer_grid(l2_clip_norm)  # exact: a power of two
    bound = squared_bound(l2_clip_norm)
    for _ in range(_TRIES):
        # in float64 first: only sums that cannot overflow are formed in int64
        if not bool(torch.linalg.vector_norm(steps) <= 1.01 * math.sqrt(bound)):
            break
        integers = steps.trunc().to(torch.int64)
        if int(integers.square().sum()) <= bound:
            return integers
        steps = steps * (1 - 2.0**-30)
    return torch.zeros(vector.shape, dtype=torch.int64, device=vector.device)
