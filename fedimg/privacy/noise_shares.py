"""Noise of which every site adds a share, and what its law costs beyond the Gaussian's.

Of K sites at least t survive a sum, and c of those may know what they put in. If d drop out, the K − c − d honest
ones that are left must have the whole noise among them: a share of variance u_d = ⌈S²/(K − c − d)⌉ each, S the noise's
standard deviation in steps of the patients' grid. Nobody knows d beforehand. So a site adds one share for d = 0
and, for each further drop-out that the threshold allows, what a share has then to be wider by; each of these is drawn
from a key of its own. Once t sites have signed the list of survivors, the site shows the keys of those that it did
not take, and the coordinator subtracts them (Jiang, Wang & Chen 2024, "Dordis: Efficient Federated Learning with
Dropout-Resilient Differential Privacy", arXiv 2209.12528). A key that is not shown leaves more noise, never less.

From the sum of such discrete Gaussians to the Gaussian that accountants know it is two small steps, in n
coordinates over all releases. Let p, d and r be the laws of that sum, of N_ℤ(0, S²) and of N(0, S²) rounded to integers.

    Adding N_ℤ(0, a) and N_ℤ(0, b) is within 5·exp(−2π²ab/(a + b)) of N_ℤ(0, a + b), in |log| of every
    probability (Kairouz, Liu & Steinke 2021, arXiv 2102.06387, Theorem 9). So |log p/d| ≤ n·τ, with τ so much for
    each of the parts that are added up.

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

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedimg.errors import ConfigError
from fedimg.privacy.discrete_gaussian import Integers, discrete_gaussian
from fedimg.privacy.entropy import Entropy, KeyedEntropy
from fedimg.privacy.integers import STEPS_BITS, in_steps, integer_grid, std_in_steps
from fedimg.values import ClippedSum

LEAST_STEPS = 3
"""A share's standard deviation is at least so many steps of the grid."""
MOST_SITES = 50
KEY_BYTES = 32
SAMPLER = "sampler 1"
"""Another name whenever the same key gives other noise: sites and coordinator must draw alike."""
# A site's own share and what it is wider by for each drop-out: fewer than a third of all drop out.
_MOST_PARTS = MOST_SITES * (MOST_SITES // 3 + 1)
_TAIL = 200.0  # x: an event of probability 10⁻⁸⁷
_MOST_EPSILON = 100.0  # with more nothing is promised


@dataclass(frozen=True, slots=True)
class NoiseShares:
    """How a run's noise is divided: K sites, t of which survive, c of which collude; `coordinates` of the longest release."""

    sites: int
    threshold: int
    colluders: int
    coordinates: int

    def __post_init__(self) -> None:
        sound = self.colluders >= 1 and self.threshold - self.colluders >= 2
        if not (sound and self.threshold <= self.sites <= MOST_SITES and self.coordinates >= 1):
            raise ConfigError(
                f"noise in the shares of at most {MOST_SITES} sites, two honest ones of which survive",
                f"K = {self.sites}, t = {self.threshold}, c = {self.colluders}",
                "correct the secure sum's threshold and colluders",
            )

    def parts(self, noise_multiplier: float, l2_clip_norm: float) -> tuple[int, ...]:
        """(1 + K − t,) variances of what a site adds, in squared steps of the patients' grid: u_0, and u_d − u_{d−1}.

        Raises ConfigError where one of them is less than 3² steps.
        """
        std = std_in_steps(noise_multiplier, l2_clip_norm)
        shares = [
            math.ceil(std**2 / (self.sites - self.colluders - dropped))
            for dropped in range(self.sites - self.threshold + 1)
        ]
        found = (shares[0], *(wide - narrow for narrow, wide in itertools.pairwise(shares)))
        if min(found) < LEAST_STEPS**2:
            raise ConfigError(
                f"shares of the noise of at least {LEAST_STEPS} steps of the grid",
                f"{math.sqrt(min(found)):.2g}",
                "ask for more noise, or fewer sites",
            )
        return found


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

    def profile(
        self, epsilons: npt.NDArray[np.float64], deltas: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Points (ε, δ) that hold for the shares' mechanism, from those of the Gaussian."""
        tail = np.exp(epsilons + self.down - _TAIL)
        return epsilons + self.up + self.down, math.exp(self.up) * (deltas + tail)

    def inner(self, delta: float) -> float:
        """The δ' at which the Gaussian's ε is taken, so that `delta` holds for the shares."""
        inner = delta * math.exp(-self.up) - math.exp(_MOST_EPSILON - _TAIL)
        if not inner > 0:
            raise ConfigError("a δ above 10^-40", f"{delta:g}", "set privacy.delta")
        return inner


def closeness(noise_multiplier: float, coordinates: int) -> Closeness:
    """For `coordinates` noised ones in all releases together: C is at least 2²⁰ steps."""
    return closeness_at(noise_multiplier * 2.0**STEPS_BITS, coordinates)


def closeness_at(
    std: float, coordinates: int, least: float | None = None, parts: int = _MOST_PARTS
) -> Closeness:
    """For noise of `std` steps in all, in so many parts of at least the variance `least`."""
    n = float(coordinates)
    narrow = std**2 / MOST_SITES**2 - 1 if least is None else least  # variances are rounded up to integers
    if narrow < LEAST_STEPS**2:
        return Closeness(math.inf, math.inf)
    # ab/(a + b) is at least half of the smaller one
    shares = n * parts * 5 * math.exp(-(math.pi**2) * narrow)
    lattice = n * 3 * math.exp(-2 * math.pi**2 * std**2)
    spread = math.sqrt(n + 2 * math.sqrt(n * _TAIL) + 2 * _TAIL) + math.sqrt(n) / (2 * std)
    return Closeness(n / (8 * std**2) + shares, spread**2 / (8 * std**2) + lattice + shares)


def noised_steps(
    total: ClippedSum, noise_multiplier: float, shares: NoiseShares, units: int, entropy: Entropy
) -> tuple[Integers, tuple[bytes, ...]]:
    """A site's sum in whole steps of the patients' grid, with its share of the noise for the most drop-outs.

    Args:
        total: of whole steps. units: the declared size: a coordinate beyond so many patients' largest is clamped
            before the noise, which is 1-Lipschitz and so moves no sensitivity; nothing is clamped after it.

    Returns:
        The steps, and for d = 1, …, K − t the key of what is in them for the d-th drop-out only.

    Raises:
        ConfigError: the sum is not of integers, or a share is too little noise.
    """
    steps, most = in_steps(total), most_steps(total.sensitivity, units)
    own, *further = shares.parts(noise_multiplier, total.sensitivity)
    noised = np.clip(steps, -most, most).astype(np.int64) + discrete_gaussian(steps.size, own, entropy)
    keys = tuple(entropy.bytes(KEY_BYTES) for _ in further)
    for key, variance in zip(keys, further, strict=True):
        noised += keyed_noise(key, variance, steps.size)
    return np.asarray(noised, dtype=np.int64), keys


def keyed_noise(key: bytes, variance: int, size: int) -> Integers:
    """(size,) draws of N_ℤ(0, variance) that follow from the key, to the last bit, wherever they are made."""
    return discrete_gaussian(size, variance, KeyedEntropy(key))


def most_steps(l2_clip_norm: float, units: int) -> int:
    """The largest magnitude of a coordinate of `units` patients' clipped sum, in steps."""
    return math.ceil(units * l2_clip_norm / integer_grid(l2_clip_norm))
