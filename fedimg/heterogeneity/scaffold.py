"""SCAFFOLD: local steps are corrected by how a site's gradients differ from all sites'.

Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", arXiv 1910.06378,
algorithm 1, option II. x is the global model, y a site's, c and cᵢ control variates:

    y ← y − η (g(y) − cᵢ + c)            at every local step
    cᵢ⁺ = cᵢ − c + (x − y) / (K η)        which is the mean of the K gradients g
    x ← x + η_g mean(Δy),  c ← c + (|S|/N) mean(Δcᵢ)

With a site's own noise, g is a noised sum over public constants: cᵢ is then made of noised gradients only, and Δy and
Δcᵢ are post-processing of releases that were charged (DP-SCAFFOLD, Noble et al. 2022, arXiv 2111.09278, without their
warm start). The correction comes after clipping and noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedimg.errors import MessageError
from fedimg.heterogeneity.algorithm import Begun, Trained
from fedimg.heterogeneity.states import State
from fedimg.values import Vector


@dataclass(frozen=True)
class ScaffoldSite:
    """Attributes: learning_rate: η of a local step."""

    learning_rate: float

    def begin(self, state: State, sent: Vector) -> Begun:
        x, c = np.split(sent, 2)
        return Begun(x, correction=c - state.get("control", np.zeros_like(c)))

    def end(self, state: State, trained: Trained) -> tuple[Vector, State]:
        """A site without a step (no images) keeps its control variate."""
        _, c = np.split(trained.sent, 2)
        control, change = state.get("control", np.zeros_like(c)), np.zeros_like(c)
        if trained.steps:
            change = -c - trained.moved / (trained.steps * self.learning_rate)
        update, change = np.split(trained.sendable(np.concatenate([trained.moved, change])), 2)
        return np.concatenate([update, change]), {"control": control + change}


class ScaffoldServer:
    """c, the weighted mean of all sites' cᵢ."""

    def init(self, size: int) -> dict[str, Vector]:
        return {"control": np.zeros(size)}

    def instructed(self, state: State, vector: Vector) -> Vector:
        return np.concatenate([vector, state["control"]])

    def apply(self, state: State, mean: Vector, part: float) -> tuple[Vector, dict[str, Vector]]:
        """`part`: of all sites' weight that is in the mean, |S|/N."""
        size = len(state["control"])
        if mean.shape != (2 * size,):
            raise MessageError(
                f"{2 * size} values of a mean update", f"{mean.size}", "the round was discarded"
            )
        update, change = np.split(mean, 2)
        return update, {"control": state["control"] + part * change}
