"""The secure sums of one run, as both sides derive them from the terms and the pinned roster."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fedimg.errors import PolicyRefused
from fedimg.home import SiteHome
from fedimg.privacy.policy import SitePolicy
from fedimg.secagg.encoding import Encoding, OpenedSum, Words
from fedimg.secagg.graph import sparse
from fedimg.secagg.plan import SumPlan
from fedimg.secagg.roster import Roster
from fedimg.terms import Terms
from fedimg.values import Vector

# Counts of patients in a histogram, and their noise, are far below; its words have 64 bits.
_MOST_COUNT = 2.0**30


@dataclass(frozen=True)
class RunSums:
    """Plans, encodings and weights; everything public, and equal at every site that has pinned the same roster.

    `parameters` is the length of an update.
    """

    terms: Terms
    roster: Roster
    parameters: int
    _plans: dict[str, SumPlan] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def threshold(self) -> int:
        return self.terms.secagg.threshold_among(len(self.roster.identities))

    @cached_property
    def _graph(self) -> tuple[int, int]:
        return sparse(len(self.roster.identities), self.threshold, self.terms.secagg.colluders)

    def allowed(self, policy: SitePolicy) -> None:
        """Raises PolicyRefused where a site's rules, as they stand now, do not allow these sums."""
        if self.threshold < policy.min_sites_in_sum:
            raise PolicyRefused(
                f"a sum of at least {policy.min_sites_in_sum} sites (this site's policy, min_sites_in_sum)",
                f"secagg.threshold={self.threshold}",
                "raise secagg.threshold",
            )
        if self._graph[0] and not policy.allow_sparse_sum:
            raise PolicyRefused(
                "keys exchanged among everybody (this site's policy, allow_sparse_sum)",
                f"{self._graph[0]} neighbours of {len(self.roster.identities)} sites",
                "allow it, which trusts the coordinator to follow the protocol, or take part with fewer sites",
            )

    def plan(self, task: str) -> SumPlan:
        """Of sums of updates ("train"), or of histograms ("evaluate"). Raises ConfigError."""
        if task not in self._plans:
            degree, shares = self._graph
            cells = self.terms.model.classes * self.terms.bins
            self._plans[task] = SumPlan(
                self.terms.run_id,
                self.roster.identities,
                self.threshold,
                self.terms.secagg.colluders,
                self.parameters if task == "train" else cells,
                self.encoding(task).word_bits,
                f"{self.terms.digest} {task} {sorted(self.roster.weights.items())}",
                degree,
                shares,
            )
        return self._plans[task]

    def encoding(self, task: str) -> Encoding:
        sites = len(self.roster.identities)
        if task == "evaluate":
            return Encoding.finest(_MOST_COUNT, sites, 64)
        return Encoding.finest(self.terms.secagg.clamp, sites)

    def words(self, name: str, task: str, vector: Vector) -> Words:
        """What a site puts into a sum: its update times its public share, or its histogram."""
        share = self.roster.share(name) if task == "train" else 1.0
        return self.encoding(task).encode(np.asarray(vector, dtype=np.float64) * share)

    def mean(self, opened: OpenedSum) -> Vector:
        """The weighted mean of the survivors' updates."""
        mass = sum(self.roster.share(name) for name in opened.survivors)
        return self.total("train", opened) / mass

    def total(self, task: str, opened: OpenedSum) -> Vector:
        """The sum in reals. What honest sites cannot have put in, because they clamp, is clamped."""
        encoding = self.encoding(task)
        most = len(opened.survivors) * encoding.most
        return np.clip(opened.total, -most, most).astype(np.float64) * encoding.step


def agreed(home: SiteHome, name: str, terms: Terms, policy: SitePolicy, parameters: int) -> RunSums | None:
    """What a site agrees to, before any sum; None where the terms ask for none.

    Raises PolicyRefused, ConfigError.
    """
    if terms.secagg.name == "none":
        if policy.require_secure_sum:
            raise PolicyRefused(
                "secure sums (this site's policy, require_secure_sum)", "secagg=none", "set secagg=pairwise"
            )
        return None
    roster = Roster.load(home.roster)
    if roster.identities.get(name) != home.signing_key.public_bytes:
        raise PolicyRefused(
            "this site's own name and key in its roster", "others", "provision the site again"
        )
    sums = RunSums(terms, roster, parameters)
    sums.allowed(policy)
    for task in ("train", "evaluate"):
        sums.plan(task)  # the numbers fit together, or this says what does not
    return sums
