"""The coordinator's end of classical learning: what `ServerOptimizer` is to deep learning."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from fedimg.classical.learner import Learner
from fedimg.errors import FederationError, MessageError
from fedimg.values import AggregatedUpdate, Vector


class LearnerServer:
    """Makes the next parameters of every round's mean row. Post-processing of releases.

    Args:
        initial: (P,) before round 1.
    """

    def __init__(self, learner: Learner, initial: Vector) -> None:
        self._learner, self._vector = learner, np.array(initial, dtype=np.float64)

    @property
    def vector(self) -> Vector:
        """(P,) parameters that the next round's statistics are taken at."""
        return self._vector.copy()

    @property
    def released(self) -> Vector:
        """(P,) parameters to evaluate and export."""
        return self._vector.copy()

    def apply(self, update: AggregatedUpdate) -> None:
        """Raises FederationError where no finite model follows: the model stays as it was."""
        after = self._learner.updated(self._vector, update.round, update.vector)
        if not np.isfinite(after).all():
            raise FederationError(
                "a model of finite numbers from this round's statistics",
                "another",
                "raise model.classical.regularisation",
            )
        self._vector = after

    def state(self) -> dict[str, torch.Tensor]:
        return {"parameters": torch.from_numpy(self._vector.copy())}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Inverse of `state`; refuses a checkpoint of another model."""
        found = state.get("parameters")
        if state.keys() != {"parameters"} or found is None or found.shape != self._vector.shape:
            raise MessageError(
                f"a checkpoint of {self._vector.size} parameters of a classical model",
                "another",
                "resume with the configuration that the run was started with",
            )
        self._vector = found.double().numpy().copy()
