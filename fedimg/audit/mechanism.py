"""What the conformance battery may ask of a DP-SGD-like mechanism: the adapter.

The battery sees a mechanism through these types and nothing else. To connect another library, or to plant a
bug, subclass `Mechanism` and `Session`. Only `open`, `claim` and `step` must be there: whatever else a
mechanism cannot do raises `NotCheckable`, and the checks that need it say so; they never pass for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedimg.privacy.entropy import Entropy
from fedimg.values import Vector


class NotCheckable(Exception):
    """The mechanism has no such hook. The text says what is missing; the check's verdict is no pass."""


@dataclass(frozen=True)
class Unit:
    """One unit of privacy (a patient) as the battery makes it up.

    Attributes:
        gradients: (M, P), what each of the unit's M images alone contributes, before any averaging and
            clipping. Rows may hold NaN or infinities.
        label: its class.
    """

    gradients: Vector
    label: int = 0


@dataclass(frozen=True)
class Setting:
    """What a session is asked to run with.

    Attributes:
        l2_clip_norm, noise_multiplier, sampling_rate: C, σ, q. `noise_multiplier` may be tiny: that is how the
            battery turns the noise off.
        declared_units: n̄, the public size; a session's actual number of units differs on purpose.
        tensors: sizes of the network's tensors in the order of the flat vector; P is their sum. The last is a bias.
        images_per_unit: at most so many images of a unit enter a step.
        releases, retries: what is declared, and how many may be redone after a crash.
    """

    l2_clip_norm: float
    noise_multiplier: float
    sampling_rate: float
    declared_units: int
    tensors: tuple[int, ...]
    images_per_unit: int = 4
    releases: int = 100_000
    retries: int = 8

    @property
    def size(self) -> int:
        """P."""
        return sum(self.tensors)


@dataclass(frozen=True)
class Shares:
    """Secure aggregation: every site adds only a share of the noise.

    Attributes:
        threshold: t, the fewest survivors with which a sum is opened. colluders: c, sites that subtract their own.
        share_count: h, the number of shares that the variance is divided among; at most t − c keeps the promise.
    """

    threshold: int
    colluders: int
    share_count: int


@dataclass(frozen=True)
class Claim:
    """What a session says publicly of its releases. The battery holds the mechanism to it.

    Attributes:
        l2_clip_norm, noise_multiplier, sampling_rate, declared_units: as in `Setting`.
        divisor: the public constant that a noised sum is divided by (1 where the sum itself is sent).
        unit: whose presence is protected: "patient" or "image".
        shares: None where each site adds the whole noise.
        grid: step of the public grid that released sums are rounded to; 0: none.
    """

    l2_clip_norm: float
    noise_multiplier: float
    sampling_rate: float
    declared_units: int
    divisor: float
    unit: str = "patient"
    shares: Shares | None = None
    grid: float = 0.0

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on one release's sum, as claimed."""
        std = self.noise_multiplier * self.l2_clip_norm
        return std if self.shares is None else std / self.shares.share_count**0.5


@dataclass(frozen=True)
class Tensor:
    """One tensor as it leaves the site.

    Attributes:
        value: flattened, in units of the mean update: (Σ of the releases) ÷ `Claim.divisor`.
        releases: names of the releases that it is made of; empty: of none.
    """

    name: str
    value: Vector
    releases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Round:
    """All that leaves the site in one round.

    Attributes:
        tensors: in the order of `Setting.tensors`, then whatever else leaves.
        steps: number of noised sums that are added up in it.
        metadata: everything else that is sent and is not a name of a release.
        messages: vectors sent in this round.
    """

    tensors: tuple[Tensor, ...]
    steps: int = 1
    metadata: Mapping[str, Any] = field(default_factory=dict)
    messages: int = 1

    @property
    def vector(self) -> Vector:
        """All tensors, one after the other."""
        return np.concatenate([np.asarray(t.value, dtype=np.float64).ravel() for t in self.tensors])


@dataclass(frozen=True)
class Recorded:
    """What the ledger on the disk says about one run."""

    count: int
    noise_multiplier: float
    sampling_rate: float
    names: frozenset[str]


class Session(ABC):
    """One site's part in one run, on units that the battery made up."""

    @property
    @abstractmethod
    def claim(self) -> Claim:
        """What is said publicly, as the mechanism derives it for this site."""

    @abstractmethod
    def step(self, steps: int = 1) -> Round:
        """The next round, of so many noised steps; their sum is what leaves.

        The units' gradients do not depend on the model, so the expected sum is known to the battery.
        Raises anything where the mechanism refuses.
        """

    def restart(self) -> Session:
        """The process ends here; another one goes on with the same run from what is on the disk."""
        raise NotCheckable("no restart")

    def crash(self) -> Session:
        """Begin a step and die between the ledger's charge and the release; then restart."""
        raise NotCheckable("no ledger")

    def recorded(self) -> Recorded:
        """What the ledger on the disk holds for this run, read afresh."""
        raise NotCheckable("no ledger")

    def roll_back(self) -> bool:
        """Put an older copy of the ledger back and go on; whether the mechanism refused."""
        raise NotCheckable("no ledger")

    def close(self) -> None:
        """Free what the session holds."""
        return


class Mechanism(ABC):
    """A mechanism under test. `name` stands in reports."""

    name: str = "mechanism"

    @abstractmethod
    def open(self, setting: Setting, units: tuple[Unit, ...], site: str = "a") -> Session:
        """A session of a new run at a site that holds `units`, with the randomness of production."""

    def open_with(self, setting: Setting, units: tuple[Unit, ...], entropy: Entropy) -> Session:
        """The same with all randomness from `entropy`: what comes from elsewhere is found out."""
        del setting, units, entropy
        raise NotCheckable("no seam for randomness")

    def natural(self, engine: int, left_out: int | None) -> tuple[Vector, float]:
        """An un-noised sum over some generated patients with a real network, and C.

        Args:
            engine: which way of computing gradients, from 0; beyond the last raises IndexError.
            left_out: index of the patient who is not there; None: all are.
        """
        del engine, left_out
        raise NotCheckable("no network of its own")

    def ledger_key(self, patient: str, project: str) -> bytes:
        """Under what a patient's spending is kept, where a project of this name asks."""
        del patient, project
        raise NotCheckable("no spending by patient")
