"""Noise of which every site adds a share, and what its law costs beyond the Gaussian's.

h sites each add discrete Gaussian noise N_ℤ(0, v) with v = ⌈S²/h⌉, S the noise's standard deviation in steps of
the patients' grid. What is opened then carries at least h shares: more are further noise, added afterwards.

From that sum of shares to the Gaussian that accountants know it is two small steps, in n coordinates over all
releases. Let p, d and r be the laws of the sum of h shares, of N_ℤ(0, S²) and of N(0, S²) rounded to integers.

    |log p/d| ≤ n·τ, τ = 10·Σ_{k<h} exp(−2π²v·k/(k+1))   (Kairouz, Liu & Steinke 2021, arXiv 2102.06387, Theorem 1)

    With φ the density of N(0, S²), r(k)/φ(k) = E[exp(−u²/2S²)·cosh(ku/S²)] for u uniform on [−½, ½], and d(k)/φ(k) =
    1/(1 + 2Σ exp(−2π²S²m²)) by Poisson summation; with 1 ≤ cosh x ≤ exp(x²/2) and η = 3·exp(−2π²S²),
    log d/r ≤ n/8S²   and   log r/d ≤ n·η + ‖k‖²/8S⁴,
    and under r, ‖k‖² ≤ S²·(√(n + 2√(nx) + 2x) + √n/2S)² but for a probability of e^−x (Laurent & Massart 2000,
    Lemma 1, and rounding moves a coordinate by at most ½).

r on sums of integers is post-processing of the Gaussian mechanism: its privacy loss distribution stands. If that is
(ε, δ'), the shares' mechanism is (ε + up + down, e^up·(δ' + e^(ε+down)·e^−x)): apply the bounds to the joint law of
samples and noise over all releases, one hypothesis at a time. The ledger's Rényi filter needs the first step only,
since its bound holds for d itself; with S of 2¹⁷ steps and more that step is far below any float.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fedimg.errors import ConfigError
from fedimg.privacy.discrete_gaussian import Integers, discrete_gaussian
from fedimg.privacy.entropy import Entropy
from fedimg.privacy.integers import STEPS_BITS, integer_grid
from fedimg.values import ClippedSum

LEAST_STEPS = 3
"""A share's standard deviation is at least so many steps of the grid."""
MOST_SITES = 10_000
_TAIL = 200.0  # x: an event of probability 10⁻⁸⁷
_MOST_EPSILON = 100.0  # with more nothing is promised


@dataclass(frozen=True, slots=True)
class NoiseShares:
    """How a run's noise is divided.

    Attributes:
        honest: h, how many sites' shares together are the noise that is accounted for.
        coordinates: of one release, the longest.
    """

    honest: int
    coordinates: int

    def __post_init__(self) -> None:
        if not 2 <= self.honest <= MOST_SITES or self.coordinates < 1:
            raise ConfigError(
                f"noise in 2 to {MOST_SITES} shares, over at least one coordinate",
                f"{self.honest} shares over {self.coordinates}",
                "correct the secure sum's threshold and colluders",
            )


@dataclass(frozen=True, slots=True)
class Closeness:
    """How far the shares' noise is from the Gaussian's, over all releases.

    `up` bounds log p/r. `down` bounds log r/p but for a probability of e^−200.
    """

    up: float
    down: float

    def epsilon(self, of_gaussian: float) -> float:
        """ε of the shares' mechanism where the Gaussian's is `of_gaussian` at `inner` δ; infinite beyond 100."""
        total = of_gaussian + self.up + self.down
        return total if total <= _MOST_EPSILON else math.inf

    def inner(self, delta: float) -> float:
        """The δ' at which the Gaussian's ε is taken, so that `delta` holds for the shares."""
        inner = delta * math.exp(-self.up) - math.exp(_MOST_EPSILON - _TAIL)
        if not inner > 0:
            raise ConfigError("a δ above 10^-40", f"{delta:g}", "set privacy.delta")
        return inner


def closeness(noise_multiplier: float, coordinates: int) -> Closeness:
    """For `coordinates` noised ones in all releases together: C is at least 2²⁰ steps."""
    return closeness_at(noise_multiplier * 2.0**STEPS_BITS, coordinates)


def closeness_at(std: float, coordinates: int, sites: int = MOST_SITES) -> Closeness:
    """For noise of `std` steps, in shares of at most so many sites."""
    n = float(coordinates)
    if std**2 / sites < LEAST_STEPS**2:
        return Closeness(math.inf, math.inf)
    # Σ_{k<h} is at most h times its largest term, that of k = 1
    shares = n * 10 * sites * math.exp(-(math.pi**2) * std**2 / sites)
    lattice = n * 3 * math.exp(-2 * math.pi**2 * std**2)
    spread = math.sqrt(n + 2 * math.sqrt(n * _TAIL) + 2 * _TAIL) + math.sqrt(n) / (2 * std)
    return Closeness(n / (8 * std**2) + shares, spread**2 / (8 * std**2) + lattice + shares)


def share_variance(noise_multiplier: float, l2_clip_norm: float, honest: int) -> int:
    """v, in squared steps of the patients' grid: the next integer above σ²C²/(γ²h). Raises ConfigError below 3²."""
    std = Fraction(noise_multiplier) * Fraction(l2_clip_norm) / Fraction(integer_grid(l2_clip_norm))
    variance = math.ceil(std**2 / honest)
    if variance < LEAST_STEPS**2:
        raise ConfigError(
            f"a share of the noise of at least {LEAST_STEPS} steps of the grid",
            f"{math.sqrt(variance):.2g}",
            "ask for more noise, or fewer sites",
        )
    return variance


def noised_steps(
    total: ClippedSum, noise_multiplier: float, honest: int, units: int, entropy: Entropy
) -> Integers:
    """A site's sum in whole steps of the patients' grid, with its share of the noise.

    Args:
        total: of whole steps. units: the declared size: a coordinate beyond so many patients' largest is clamped
            before the noise, which is 1-Lipschitz and so moves no sensitivity; nothing is clamped after it.

    Raises:
        ConfigError: the sum is not of integers, or the share is too little noise.
    """
    grid = integer_grid(total.sensitivity)
    steps = total.vector / grid  # exact: a power of two
    if not (steps == np.rint(steps)).all():
        raise ConfigError(
            "a sum of patients' integers", "values between grid points", "clip with integers=True"
        )
    most = most_steps(total.sensitivity, units)
    variance = share_variance(noise_multiplier, total.sensitivity, honest)
    drawn = discrete_gaussian(steps.size, variance, entropy)
    return np.asarray(np.clip(steps, -most, most).astype(np.int64) + drawn, dtype=np.int64)


def most_steps(l2_clip_norm: float, units: int) -> int:
    """The largest magnitude of a coordinate of `units` patients' clipped sum, in steps."""
    return math.ceil(units * l2_clip_norm / integer_grid(l2_clip_norm))
