"""What a run asks for of its secure sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedimg.errors import ConfigError
from fedimg.secagg.plan import usual_threshold


@dataclass(frozen=True)
class SecaggConfig:
    """Secure aggregation of the sites' updates and histograms.

    Attributes:
        name: "none": the coordinator sees every site's released update. "pairwise": it sees their sum only. "auto":
            pairwise with 3 to 50 sites, unless the rest of a run's settings stands against it; settled before the
            sites are asked.
        threshold: t, how many sites must survive a round for its sum to be opened; None: ⌊2K/3⌋ + 1.
        colluders: c, how many sites may help a coordinator that lies without anything but a sum being seen.
        clamp: the largest magnitude that a coordinate of one site's update can have in a sum; larger ones are
            clamped. With K sites a step of the grid is about K · clamp · 2⁻³¹.
        groups: so many groups of sites with a sum each, over which `aggregation.robust` takes its median or trimmed
            mean; a threshold and colluders are of each group. With shared noise each group's sum carries the whole
            noise, so that the mean over all carries √groups more than one sum would.
        void_rounds: so many rounds after each other may be void before the run stops.
    """

    name: Literal["auto", "none", "pairwise"] = "auto"
    threshold: int | None = None
    colluders: int = 1
    clamp: float = 4.0
    groups: int = 1
    void_rounds: int = 3

    def threshold_among(self, sites: int) -> int:
        """t of the K sites of a sum: as set, or the usual one."""
        return self.threshold or usual_threshold(sites)

    def __post_init__(self) -> None:
        if not 0 < self.clamp <= 2.0**20:
            raise ConfigError("secagg.clamp: a number in (0, 2^20]", f"{self.clamp}", "set secagg.clamp")
        if self.colluders < 1 or self.void_rounds < 1 or self.groups < 1:
            raise ConfigError("secagg.colluders, groups and void_rounds ≥ 1", "less", "correct secagg")
