"""What is released, in the only numbers that its cost depends on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedimg.errors import ConfigError

# Below this noise the distributions cover thousands of ε; it is called non-private (privacy design §3).
LEAST_NOISE_MULTIPLIER = 0.2
LAWS = ("gaussian", "discrete_gaussian")


@dataclass(frozen=True, slots=True)
class Event:
    """`count` releases with Gaussian noise on a Poisson sample of patients.

    Attributes:
        noise_multiplier: noise standard deviation ÷ sensitivity.
        sampling_rate: chance of a patient to be in one release; 1 where all are.
        count: number of such releases.
        law: of the noise. A Gaussian that is rounded afterwards is "gaussian"; "discrete_gaussian" has no known
            privacy loss distribution here and is accounted by Rényi divergences.
        coordinates: of one release whose noise is a sum of sites' shares; accountants add what such noise costs
            beyond the Gaussian's (`noise_shares`). 0: the noise is one site's own.
    """

    noise_multiplier: float
    sampling_rate: float
    count: int
    law: str = "gaussian"
    coordinates: int = 0

    def __post_init__(self) -> None:
        if self.law not in LAWS:
            raise ConfigError(" or ".join(LAWS), self.law, "use a law of noise that an accountant knows")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0):
            raise ConfigError("a finite noise multiplier ≥ 0", f"{self.noise_multiplier}", "check the plan")
        if not 0 < self.sampling_rate <= 1:
            raise ConfigError("a sampling rate in (0, 1]", f"{self.sampling_rate}", "check the plan")
        if self.coordinates < 0 or (self.coordinates and self.law != "gaussian"):
            raise ConfigError("shares of a noise that is Gaussian in sum", self.law, "check the plan")
        if self.count < 0:
            raise ConfigError("a number of releases ≥ 0", f"{self.count}", "check the plan")


def merged(events: Sequence[Event]) -> tuple[Event, ...]:
    """Equal events as one, in a fixed order: composition does not depend on the order."""
    counts: dict[tuple[float, float, str, int], int] = {}
    for event in events:
        key = (event.noise_multiplier, event.sampling_rate, event.law, event.coordinates)
        counts[key] = counts.get(key, 0) + event.count
    return tuple(Event(s, q, n, law, size) for (s, q, law, size), n in sorted(counts.items()) if n)


def check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ConfigError("a δ between 0 and 1", f"{delta}", "set privacy.delta, at most 1/(10 · patients)")
