"""FedDyn: each site's loss is bent so that all of them, at their minima, agree on the global minimum.

Acar et al. 2021, "Federated Learning Based on Dynamic Regularization", arXiv 2111.04263, algorithm 1. θ is the global
model, θᵢ a site's, λᵢ its gradient there as it was last, h the coordinator's:

    θᵢ = argmin  Lᵢ(θᵢ) − ⟨λᵢ, θᵢ⟩ + (α/2)‖θᵢ − θ‖²      by SGD: its last term is FedProx's
    λᵢ⁺ = λᵢ − α (θᵢ − θ)
    h ← h − α (|S|/N) mean(θᵢ − θ),  θ ← mean(θᵢ) − h/α

With a site's own noise θᵢ is made of noised sums, hence λᵢ too: post-processing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedimg.heterogeneity.algorithm import Begun, Trained
from fedimg.heterogeneity.states import State
from fedimg.values import Vector


@dataclass(frozen=True)
class FedDynSite:
    """Attributes: alpha: α."""

    alpha: float

    def begin(self, state: State, sent: Vector) -> Begun:
        return Begun(sent, -state.get("gradient", np.zeros_like(sent)), proximal_mu=self.alpha)

    def end(self, state: State, trained: Trained) -> tuple[Vector, State]:
        update = trained.sendable(trained.moved)
        gradient = state.get("gradient", np.zeros_like(update)) - self.alpha * update
        return update, {"gradient": gradient}


@dataclass(frozen=True)
class FedDynServer:
    """Attributes: alpha: α. State: h."""

    alpha: float

    def init(self, size: int) -> dict[str, Vector]:
        return {"h": np.zeros(size)}

    def instructed(self, _state: State, vector: Vector) -> Vector:
        return vector

    def apply(self, state: State, mean: Vector, part: float) -> tuple[Vector, dict[str, Vector]]:
        """`part`: of all sites' weight that is in the mean, |S|/N."""
        h = state["h"] - self.alpha * part * mean
        return mean - h / self.alpha, {"h": h}
