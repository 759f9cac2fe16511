"""The secure sums of one run, as both sides derive them from the terms and the pinned roster.

With `distributed` a sum is the release: what sites put in is whole steps of the patients' grid, and the noise that
the plan names is in what is opened, a share from each site.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fedimg.errors import PolicyRefused
from fedimg.home import SiteHome
from fedimg.models.classical_config import CLASSICAL
from fedimg.privacy.calibration import EVALUATE, PrivacyPlan, common_plan
from fedimg.privacy.integers import integer_grid
from fedimg.privacy.noise_shares import SAMPLER, NoiseShares, keyed_noise, most_steps
from fedimg.privacy.policy import SitePolicy
from fedimg.privacy.request import DISTRIBUTED
from fedimg.secagg.encoding import Encoded, Encoding, OpenedSum
from fedimg.secagg.graph import sparse
from fedimg.secagg.groups import grouped
from fedimg.secagg.plan import SumPlan
from fedimg.secagg.roster import Roster
from fedimg.terms import Terms
from fedimg.values import Vector

# Counts of patients in a histogram, and their noise, are far below; its words have 64 bits.
_MOST_COUNT = 2.0**30
# Standard deviations of a share that an honest site's word has room for: beyond is once in 10³².
_DEVIATIONS = 12


@dataclass(frozen=True)
class RunSums:
    """Plans, encodings and weights; everything public, and equal at every site that has pinned the same roster.

    `roster` is of those who are added up: all sites, or a group of them. `update_size` is that of an update.
    """

    terms: Terms
    roster: Roster
    update_size: int
    _plans: dict[str, SumPlan] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def threshold(self) -> int:
        return self.terms.secagg.threshold_among(len(self.roster.identities))

    @cached_property
    def _graph(self) -> tuple[int, int]:
        return sparse(len(self.roster.identities), self.threshold, self.terms.secagg.colluders)

    @property
    def shares(self) -> NoiseShares | None:
        """How the noise is divided with `distributed`; None where each site adds its own."""
        if self.terms.privacy.mode != DISTRIBUTED:
            return None
        return NoiseShares(
            len(self.roster.identities),
            self.threshold,
            self.terms.secagg.colluders,
            max(self.update_size, self._cells),
        )

    @property
    def _cells(self) -> int:
        return math.prod(self.terms.measure.shape)

    @cached_property
    def common(self) -> PrivacyPlan | None:
        """The plan whose noise every site adds a share of, for all sites' patients; None without shares."""
        if self.shares is None:
            return None
        return common_plan(self.terms.privacy, int(sum(self.roster.weights.values())), self.shares)

    def allowed(self, policy: SitePolicy) -> None:
        """Raises PolicyRefused where a site's rules, as they stand now, do not allow these sums."""
        if self.threshold < policy.min_sites_in_sum:
            raise PolicyRefused(
                f"a sum of at least {policy.min_sites_in_sum} sites (this site's policy, min_sites_in_sum)",
                f"secagg.threshold={self.threshold}",
                "raise secagg.threshold",
            )
        if self.shares is not None:
            policy.check_shared_noise(self.terms.secagg.colluders)
        if self._graph[0] and self.shares is not None:
            raise PolicyRefused(
                "keys exchanged among everybody with privacy=distributed, whose noise must withstand liars",
                f"{self._graph[0]} neighbours of {len(self.roster.identities)} sites",
                "choose privacy=per_site, or fewer sites",
            )
        if self._graph[0] and not policy.allow_sparse_sum:
            raise PolicyRefused(
                "keys exchanged among everybody (this site's policy, allow_sparse_sum)",
                f"{self._graph[0]} neighbours of {len(self.roster.identities)} sites",
                "allow it, which trusts the coordinator to follow the protocol, or take part with fewer sites",
            )

    def check_plan(self, plan: PrivacyPlan | None) -> None:
        """Refuse a site's plan whose noise is not the one that these sums count on.

        A run that is resumed keeps its plan; the roster, or an accountant, may have changed since. Raises PolicyRefused.
        """
        expected = None if self.common is None else _noise_of(self.common)
        found = None if plan is None or plan.shares is None else _noise_of(plan)
        if found != expected:
            raise PolicyRefused(
                "the noise, the sites and the threshold that this run's plan was made for",
                "others",
                "start a new run: what was set aside for this one is divided otherwise",
            )

    def plan(self, task: str) -> SumPlan:
        """Of sums of updates ("train"), or of histograms ("evaluate"). Raises ConfigError."""
        if task not in self._plans:
            degree, shares = self._graph
            self._plans[task] = SumPlan(
                self.terms.run_id,
                self.roster.identities,
                self.threshold,
                self.terms.secagg.colluders,
                self.update_size if task == "train" else self._cells,
                self.encoding(task).word_bits,
                f"{self.terms.digest} {task} {sorted(self.roster.weights.items())} {self._noise(task)}",
                degree,
                shares,
            )
        return self._plans[task]

    def _noise(self, task: str) -> str:
        """σ to six digits, and the parts of a share: sites that would add other noise do not add up."""
        if self.common is None:
            return "of each site's own"
        return f"{SAMPLER} {_mechanism(self.common, task)[0]:.6g} {self._parts(task)}"

    def _parts(self, task: str) -> tuple[int, ...]:
        """Variances, in squared steps, of what a site adds; () where the noise is its own."""
        if self.common is None or self.shares is None:
            return ()
        return self.shares.parts(*_mechanism(self.common, task))

    def encoding(self, task: str) -> Encoding:
        sites = len(self.roster.identities)
        if self.common is not None:
            _, norm = _mechanism(self.common, task)
            spread = math.isqrt(sum(self._parts(task))) + 1
            most = most_steps(norm, int(max(self.roster.weights.values()))) + _DEVIATIONS * spread
            return Encoding(integer_grid(norm), most, sites, 64)
        if task == "evaluate":
            return Encoding.finest(_MOST_COUNT, sites, 64)
        words = 64 if self.terms.model.name in CLASSICAL else 32
        return Encoding.finest(self.terms.secagg.clamp, sites, words)

    def encoded(self, name: str, task: str, vector: Vector) -> Encoded:
        """What a site puts into a sum of released vectors: its update times its public share, or its histogram."""
        share = self.roster.share(name) if task == "train" else 1.0
        return Encoded(self.encoding(task).encode(np.asarray(vector, dtype=np.float64) * share))

    def mean(self, opened: OpenedSum, where: slice | None = None) -> Vector:
        """The weighted mean of the survivors' updates; with `distributed` of gradients, by Σ q·n̄ over survivors.

        `where`: of which parameters sites have put gradients in; None: of all.
        """
        if self.common is not None:
            patients = sum(self.roster.weights[name] for name in opened.survivors)
            return self.total("train", opened, where) / (self.common.sampling_rate * patients)
        mass = sum(self.roster.share(name) for name in opened.survivors)
        return self.total("train", opened) / mass

    def histogram_std(self, own: float, opened: OpenedSum) -> float:
        """Standard deviation of the noise in a cell of an opened histogram, by that of a site's own plan."""
        if self.common is None:
            return own * math.sqrt(len(opened.survivors))
        parts = self._parts(EVALUATE)
        unneeded = sum(parts[number] for unused in opened.excess.values() for number, _ in unused)
        variance = sum(parts) * len(opened.survivors) - unneeded
        return math.sqrt(variance) * self.encoding(EVALUATE).step

    def total(self, task: str, opened: OpenedSum, where: slice | None = None) -> Vector:
        """The sum in reals, less noise that was for drop-outs only.

        What honest sites cannot have put in, because they clamp, is clamped.
        """
        encoding, parts, steps = self.encoding(task), self._parts(task), opened.total.copy()
        noised = steps[where] if where is not None else steps
        for unused in opened.excess.values():
            for number, key in unused:
                if number < len(parts):
                    noised -= keyed_noise(key, parts[number], noised.size)
        most = len(opened.survivors) * encoding.most
        return np.clip(steps, -most, most).astype(np.float64) * encoding.step


def sums_of(terms: Terms, roster: Roster, update_size: int) -> tuple[RunSums, ...]:
    """Of each group of sites; of all together without groups. Raises ConfigError."""
    return tuple(RunSums(terms, group, update_size) for group in grouped(roster, terms.secagg.groups))


def agreed(home: SiteHome, name: str, terms: Terms, policy: SitePolicy, update_size: int) -> RunSums | None:
    """What a site agrees to, before any sum; None where the terms ask for none.

    Raises PolicyRefused, ConfigError.
    """
    if terms.secagg.name == "none":
        if terms.privacy.mode == DISTRIBUTED:
            raise PolicyRefused("secure sums with privacy=distributed", "secagg=none", "set secagg=pairwise")
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
    groups = sums_of(terms, roster, update_size)
    sums = next(group for group in groups if name in group.roster.identities)
    if sums.shares is not None and roster.weights[name] != policy.declared_patients:
        raise PolicyRefused(
            f"this site's declared size in its roster, {policy.declared_patients}, by which sums are divided",
            f"{roster.weights[name]:g}",
            "provision the site again, with aggregation.weights=declared",
        )
    sums.allowed(policy)
    for task in ("train", "evaluate") if terms.privacy.evaluations else ("train",):
        sums.plan(task)  # the numbers fit together, or this says what does not
    return sums


def _mechanism(plan: PrivacyPlan, task: str) -> tuple[float, float]:
    """(σ, C) of the releases of a task."""
    if task == EVALUATE:
        return plan.evaluation_noise_multiplier, 1.0
    return plan.noise_multiplier, plan.l2_clip_norm


def _noise_of(plan: PrivacyPlan) -> tuple[object, ...]:
    return plan.shares, plan.sampling_rate, plan.noise_multiplier, plan.evaluation_noise_multiplier
