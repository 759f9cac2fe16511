"""Gaussian noise from the operating system's entropy.

Never torch's or NumPy's generators: their states are small, seedable and shared with code that
has nothing to do with privacy. The transform is exact in the sense that every draw is a
deterministic function of fresh uniform bits; the result is rounded to a public grid, so that the
low-order bits of a float64 sum tell nothing (Mironov 2012, "On significance of the least
significant bits for differential privacy").
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from fedimg.errors import ConfigError
from fedimg.privacy.discrete_gaussian import discrete_gaussian
from fedimg.privacy.entropy import Entropy, InsecureSeededEntropy, OsEntropy
from fedimg.privacy.integers import in_steps, integer_grid, std_in_steps
from fedimg.values import ClippedSum, Vector

__all__ = ["Entropy", "InsecureSeededEntropy", "OsEntropy", "add_noise", "gaussian", "grid_step"]

# Grid steps per noise standard deviation: 2^20 costs a relative variance of 1/(12·2^40).
GRID_BITS = 20
# Values noised at once: enough for several threads, and few enough to stay in the processor's cache.
_BLOCK = 1 << 18


def gaussian(size: int, std: float, entropy: Entropy) -> Vector:
    """(size,) independent draws of N(0, std²) in float64, by the Box–Muller transform.

    With 64-bit words k from -2⁶³ on, the radius is that of u = |k + ½|/2⁶³, so the tail reaches 9.4 standard
    deviations (missing mass 10⁻²⁰); the angle, 2π·k/2⁶⁴, is rounded to float64. Both of a pair's outputs
    are used once. torch computes the functions, several at once; it draws nothing.
    """
    if not (math.isfinite(std) and std >= 0):
        raise ConfigError("a finite noise standard deviation ≥ 0", f"{std}", "check the privacy settings")
    values = np.empty(size)
    for part, drawn in _blocks(size, std, entropy):
        values[part] = drawn.numpy()
    return values


def _blocks(size: int, std: float, entropy: Entropy) -> Iterator[tuple[slice, torch.Tensor]]:
    """`gaussian`, block by block in the same memory: fresh memory for each would cost more than the functions."""
    most = (min(size, _BLOCK) + 1) // 2
    words, drawn = torch.empty((2 * most,), dtype=torch.int64), torch.empty((2 * most,), dtype=torch.float64)
    space = torch.empty((2 * most,), dtype=torch.float64)
    memory = memoryview(words.numpy().data).cast("B")
    for start in range(0, size, _BLOCK):
        number = min(_BLOCK, size - start)
        pairs = (number + 1) // 2
        entropy.fill(memory[: 16 * pairs])
        radius, angle = space[: 2 * pairs].copy_(words[: 2 * pairs]).view(2, pairs)
        # u rounds to exactly 1 with probability 2⁻⁵³; log(1) = 0 is then the right limit, never log(0)
        radius.add_(0.5).abs_().mul_(2.0**-63).log_().mul_(-2.0).sqrt_().mul_(std)
        angle.mul_(2.0 * math.pi * 2.0**-64)
        values = drawn[: 2 * pairs].view(2, pairs)
        torch.cos(angle, out=values[0])
        torch.sin(angle, out=values[1])
        values.mul_(radius)
        yield slice(start, start + number), drawn[:number]


def grid_step(std: float) -> float:
    """The public grid for noise of this size: a power of two, 2⁻²⁰ to 2⁻²¹ of `std`."""
    return math.ldexp(1.0, math.floor(math.log2(std)) - GRID_BITS)


def add_noise(
    total: ClippedSum, noise_multiplier: float, entropy: Entropy, noise: str = "gaussian"
) -> tuple[Vector, float]:
    """`total` plus noise of standard deviation noise_multiplier · sensitivity.

    Args:
        noise: "gaussian": N(0, s²) is added and the result rounded to the grid. "strict": `total` must be whole
            steps of the patients' grid, and N(0, s²) in such steps is rounded before it is added, which equals
            rounding the noised sum. "discrete_gaussian": the same with exact discrete Gaussian noise.

    Returns:
        The (P,) noised sum and the standard deviation of its noise.

    Raises:
        ConfigError: the noise would have no spread: a noise multiplier of 0 is no mechanism. Or an integer
            noise for a sum that is not of integers.
    """
    std = noise_multiplier * total.sensitivity
    if not (math.isfinite(std) and std > 0):
        raise ConfigError(
            "noise of positive, finite spread", f"{std}", "set privacy.epsilon and the clip norm"
        )
    if noise != "gaussian":
        return _on_integers(total, noise_multiplier, entropy, noise), std
    step, noised = grid_step(std), np.empty_like(total.vector)
    clean, out = torch.from_numpy(total.vector), torch.from_numpy(noised)
    for part, drawn in _blocks(noised.size, std, entropy):
        torch.mul(drawn.add_(clean[part]).div_(step).round_(), step, out=out[part])
    return noised, std


def _on_integers(total: ClippedSum, noise_multiplier: float, entropy: Entropy, noise: str) -> Vector:
    grid, steps = integer_grid(total.sensitivity), in_steps(total)
    if noise == "strict":
        drawn = np.rint(gaussian(steps.size, noise_multiplier * (total.sensitivity / grid), entropy))
    elif noise == "discrete_gaussian":
        # the next integer above the variance: never less noise than was accounted for
        variance = math.ceil(std_in_steps(noise_multiplier, total.sensitivity) ** 2)
        drawn = discrete_gaussian(steps.size, variance, entropy).astype(np.float64)
    else:
        raise ConfigError("noise gaussian, strict or discrete_gaussian", noise, "set privacy.noise")
    return np.asarray((steps + drawn) * grid, dtype=np.float64)
