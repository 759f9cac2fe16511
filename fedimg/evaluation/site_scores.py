"""What the sites' noised histograms add up to after one round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch

from fedimg.evaluation.measure import Measure
from fedimg.values import EvaluationReport, Vector


@dataclass(frozen=True)
class SiteScores:
    """One declared evaluation at the sites: what they released, added up. All figures are derived from it.

    Attributes:
        round: after which the model was evaluated.
        histogram: (rows, bins) float64, the sum of the sites' noised tables.
        noise_std: of the noise in each cell of the sum.
    """

    round: int
    histogram: Vector
    noise_std: float

    def report(self, measure: Measure) -> EvaluationReport:
        """The same figures each time: post-processing of the release."""
        return measure.of_release(self.histogram, self.noise_std)

    def state(self) -> dict[str, torch.Tensor]:
        """As float64 tensors, for a checkpoint."""
        numbers = torch.tensor([self.round, self.noise_std], dtype=torch.float64)
        return {"histogram": torch.from_numpy(self.histogram.copy()), "round_and_noise_std": numbers}

    @classmethod
    def restored(cls, state: Mapping[str, torch.Tensor]) -> Self | None:
        """Inverse of `state`; None for a checkpoint without any."""
        if not state:
            return None
        number, noise_std = state["round_and_noise_std"].tolist()
        return cls(int(number), state["histogram"].numpy(), noise_std)
