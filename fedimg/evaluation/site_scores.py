"""What the sites' noised histograms add up to after one round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch

from fedimg.breakdown import Breakdown
from fedimg.evaluation import by_group
from fedimg.evaluation.measure import Measure
from fedimg.values import EvaluationReport, Vector

_OWN = "fedimg/at_sites/"
"""Begins its names in a checkpoint, beside those of the optimiser's own state."""
_SITE = "site/"
_MOST_SITES = 100


@dataclass(frozen=True)
class SiteScores:
    """One declared evaluation at the sites: what they released, added up. All figures are derived from it.

    Attributes:
        round: after which the model was evaluated.
        histogram: (rows, bins) float64, the sum of the sites' noised tables.
        noise_std: of the noise in each cell of the sum.
        by_site: each site's own table, where releases are per site; at most `_MOST_SITES`, else none.
    """

    round: int
    histogram: Vector
    noise_std: float
    by_site: Mapping[str, Vector] = field(default_factory=dict)

    @classmethod
    def added(cls, number: int, by_site: Mapping[str, Vector], noise_std: float) -> Self:
        """Of at least one site's release, each with the same noise in a cell."""
        total = np.sum(list(by_site.values()), axis=0)
        kept = by_site if len(by_site) <= _MOST_SITES else {}
        return cls(number, total, noise_std * len(by_site) ** 0.5, kept)

    def report(self, measure: Measure) -> EvaluationReport:
        """The same figures each time: post-processing of the release."""
        return measure.of_release(self.histogram, self.noise_std)

    def breakdowns(self, measure: Measure) -> tuple[Breakdown, ...]:
        """The same by groups of patients, and by site; why not by site where sums hide it."""
        groups = by_group.of_release(measure, self.histogram, self.noise_std)
        own = by_group.of_sites(measure, self.by_site, self.noise_std / max(1, len(self.by_site)) ** 0.5)
        if own is None and groups:
            own = Breakdown("sites", by_group.SITE, absent=by_group.NO_SITES)
        return groups if own is None else (*groups, own)

    def state(self) -> dict[str, torch.Tensor]:
        """As float64 tensors, for a checkpoint; see `restored` and `beside`."""
        numbers = torch.tensor([self.round, self.noise_std], dtype=torch.float64)
        own = {_SITE + name: torch.from_numpy(table.copy()) for name, table in self.by_site.items()}
        own |= {"histogram": torch.from_numpy(self.histogram.copy()), "round_and_noise_std": numbers}
        return {_OWN + name: tensor for name, tensor in own.items()}

    @classmethod
    def restored(cls, state: Mapping[str, torch.Tensor]) -> Self | None:
        """Inverse of `state`, out of a whole checkpoint; None for one without any."""
        held = {name.removeprefix(_OWN): value for name, value in state.items() if name.startswith(_OWN)}
        if not held:
            return None
        number, noise_std = held["round_and_noise_std"].tolist()
        own = {
            name.removeprefix(_SITE): table.numpy() for name, table in held.items() if name.startswith(_SITE)
        }
        return cls(int(number), held["histogram"].numpy(), noise_std, dict(sorted(own.items())))

    @staticmethod
    def beside(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What else a checkpoint has."""
        return {name: value for name, value in state.items() if not name.startswith(_OWN)}
