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

import torch

# C is 2²⁰ to 2²¹ grid steps: rounding costs a patient at most √P · 2⁻²⁰ of C.
STEPS_BITS = 20
_TRIES = 3


def integer_grid(l2_clip_norm: float) -> float:
    """γ, the public grid for patients' vectors of norm ≤ C: a power of two."""
    return math.ldexp(1.0, math.floor(math.log2(l2_clip_norm)) - STEPS_BITS)


@lru_cache(maxsize=64)
def squared_bound(l2_clip_norm: float) -> int:
    """The largest Σk² that a patient's integers may have: ⌊(C/γ)²⌋, of the float64 C as it is."""
    return math.floor((Fraction(l2_clip_norm) / Fraction(integer_grid(l2_clip_norm))) ** 2)


def as_integers(vectors: torch.Tensor, l2_clip_norm: float) -> torch.Tensor:
    """(…, P) float64 of norms about ≤ C → (…, P) int64 with Σk² ≤ (C/γ)² each, certainly.

    Where floating-point clipping left a norm above the bound by its rounding, the vector is shrunk by 2⁻³⁰ and
    rounded again; one that still does not fit, or is not finite, becomes zero.
    """
    steps = vectors / integer_grid(l2_clip_norm)  # exact: a power of two
    bound = squared_bound(l2_clip_norm)
    integers = torch.zeros_like(steps, dtype=torch.int64)
    over = torch.ones_like(integers[..., :1], dtype=torch.bool)
    for _ in range(_TRIES):
        # in float64 first: only sums that cannot overflow are formed in int64
        finite = torch.linalg.vector_norm(steps, dim=-1, keepdim=True) <= 1.01 * math.sqrt(bound)
        integers = torch.where(finite, steps, 0.0).trunc_().to(torch.int64)
        over = integers.square().sum(dim=-1, keepdim=True) > bound
        if not bool(over.any()):
            return integers
        steps = torch.where(over, steps * (1 - 2.0**-30), steps)
    return torch.where(over, 0, integers)
