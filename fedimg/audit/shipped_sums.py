"""Shipped releases that are one noised sum a round, as the battery takes them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import numpy as np

from fedimg.audit.mechanism import Round
from fedimg.audit.shipped import ShippedSession
from fedimg.values import SiteDataset, Vector

Release = Callable[[int], tuple[Vector, str]]
"""Number of a round → (P,), what leaves in it, and the name of its entry in the ledger."""


class SumSession(ShippedSession):
    """Rounds of one release each; a step of several is their total."""

    def step(self, steps: int = 1) -> Round:
        release, total, names = self._release_on(self.run.dataset), np.zeros(self.run.setting.size), []
        for _ in range(steps):
            vector, name = release(self._next_round())
            total += vector
            names.append(name)
        return Round(self._tensors(total, tuple(names)), steps)

    def _begin(self, dataset: SiteDataset) -> None:
        self._release_on(dataset)(self._next_round())

    @abstractmethod
    def _release_on(self, dataset: SiteDataset) -> Release: ...
