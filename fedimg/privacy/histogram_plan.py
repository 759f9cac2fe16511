"""What one release of several histograms of the same patients costs, fixed before any data is read.

**Sensitivity.** A patient is one study, and falls into one bin of each of k histograms at most. So adding or removing
a patient moves the vector of all bins of all histograms by a vector of k ones at most, of L2 norm √k: the k histograms
are one release, not k. (Replacing one patient by another moves it by up to √(2k), which costs what noise of σ ÷ √2
would: ε is stated for adding or removing, as everywhere here.) `sensitivity` is √k rounded up, so that a patient's
vector is never scaled down and the sum stays one of whole numbers.

**Noise** is discrete Gaussian, accounted by Rényi divergences of integer orders (Canonne, Kamath & Steinke 2020).
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Final, Self

from fedimg.errors import ConfigError
from fedimg.privacy import accounting
from fedimg.privacy.events import Event
from fedimg.privacy.ledger import Allowance
from fedimg.privacy.renyi import epsilon_rdp

LAW: Final = "discrete_gaussian"
RELEASE: Final = "histograms"
ROLE: Final = "patients"


def sensitivity(histograms: int) -> float:
    """C ≥ √k, the smallest float64 of which that is true."""
    if histograms < 1:
        raise ConfigError("one histogram or more", f"{histograms}", "name a stream")
    bound = math.sqrt(histograms)
    while Fraction(bound) ** 2 < histograms:
        bound = math.nextafter(bound, math.inf)
    return bound


def epsilon_of(noise_multiplier: float, delta: float) -> float:
    """ε at δ of one release of all patients, for adding or removing one of them."""
    return epsilon_rdp((Event(noise_multiplier, 1.0, 1, LAW),), delta)


@dataclass(frozen=True, slots=True)
class HistogramPlan:
    """One release. Every number is public, and none comes from data.

    Attributes:
        subject: what it is of, in words that the ledger keeps by their digest. histograms: k.
        epsilon, delta: what it may cost one patient. noise_multiplier: σ ÷ `sensitivity`.
    """

    subject: str
    histograms: int
    epsilon: float
    delta: float
    noise_multiplier: float

    @classmethod
    def made(cls, subject: str, histograms: int, epsilon: float, delta: float) -> Self:
        """With the least noise (within 0.1 %) that keeps (ε, δ). Raises ConfigError for an ε that no noise can meet."""
        noise = accounting.calibrate(epsilon, delta, Event(1.0, 1.0, 1, LAW))
        return cls(subject, histograms, epsilon, delta, noise)

    @property
    def sensitivity(self) -> float:
        """Of the sum over patients, in L2."""
        return sensitivity(self.histograms)

    @property
    def allowances(self) -> tuple[Allowance, ...]:
        """What the ledger sets aside: one release, and none to be made twice. A further one is a further plan."""
        return (Allowance(RELEASE, self.noise_multiplier, 1.0, 1, 0, ROLE),)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, hex."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()
