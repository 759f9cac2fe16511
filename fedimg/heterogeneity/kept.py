"""Parameters that stay at a site: normalisation (FedBN) or the head (FedPer).

Li et al. 2021, "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization", arXiv 2102.07623; here
the scales and shifts of group normalisation, which has no running statistics. Arivazhagan et al. 2019, "Federated
Learning with Personalization Layers" (FedPer), arXiv 1912.00818: the last layer.

With a site's own noise a patient's gradient is taken and clipped over *all* parameters, and the site moves its own ones
by the noised sum as well: it only does not send them. Were they moved by exact gradients, what the site sends in the
next round would depend on patients through them, without noise, and no accounting would cover it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedimg.heterogeneity.algorithm import Begun, Trained
from fedimg.heterogeneity.states import State
from fedimg.training.kept import Mask
from fedimg.values import Vector


@dataclass(frozen=True)
class KeptSite:
    """Attributes: mask: (P,) True for what stays."""

    mask: Mask

    def begin(self, state: State, sent: Vector) -> Begun:
        return Begun(self.own(state, sent))

    def own(self, state: State, shared: Vector) -> Vector:
        """The site's model: its own parameters among the shared ones."""
        vector = shared.copy()
        if "own" in state:
            vector[self.mask] = state["own"]
        return vector

    def end(self, state: State, trained: Trained) -> tuple[Vector, State]:
        """Zeros are sent in place of what stays, whatever the data."""
        own = (self.own(state, trained.sent) + trained.moved)[self.mask]
        return trained.sendable(np.where(self.mask, 0.0, trained.moved)), {"own": own}
