"""Server algorithms that others add: `init` and `apply`, state in, state out.

An algorithm sees a round's mean update and nothing else, so whatever it does is post-processing
of what the sites released: it cannot spend privacy. The form is that of fedjax's
`federated_algorithm`: pure functions, the state visible, so that a run can be resumed from it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from fedimg.errors import FederationError, MessageError, ModelError
from fedimg.models.extensions import find
from fedimg.values import AggregatedUpdate, Vector

GROUP = "fedimg.algorithms"
State = Mapping[str, Vector]
"""float64 arrays by name. "parameters" (P,) is the model that the next round trains from; "released"
(P,), where present, is the one to evaluate and export."""


@runtime_checkable
class Algorithm(Protocol):
    """What an entry point of `fedimg.algorithms` names: a module or an object with two functions."""

    def init(self, parameters: Vector, /) -> State:
        """(P,) initial parameters → the state before round 1."""
        ...

    def apply(self, state: State, update: AggregatedUpdate, /) -> State:
        """One server step; returns a new state and leaves the old one as it was."""
        ...


def load_algorithm(name: str, allowed_extensions: Collection[str]) -> Algorithm:
    """The installed algorithm of that name.

    Raises:
        ConfigError: no such name. PolicyRefused: its digest is not allowed; it was not imported.
        ModelError: what it names has no `init` and `apply`.
    """
    found = find(GROUP, name).load(allowed_extensions)
    if not isinstance(found, Algorithm):
        raise ModelError(
            f"algorithm {name} to have init and apply", type(found).__name__, "see docs/extend-algorithm.md"
        )
    return found


class AlgorithmServer:
    """Runs an algorithm round by round; the same surface as `fedimg.aggregation.ServerOptimizer`.

    Args:
        algorithm: its two functions.
        initial: (P,) parameters before round 1.

    Raises:
        FederationError: here, in `apply` and in `restore`, where the algorithm's state is not finite
            arrays with "parameters" of shape (P,).
    """

    def __init__(self, algorithm: Algorithm, initial: Vector) -> None:
        self._algorithm, self._size = algorithm, initial.size
        self._state = self._checked(algorithm.init(initial.copy()))

    @property
    def vector(self) -> Vector:
        """(P,) parameters that the next round trains from."""
        return self._state["parameters"].copy()

    @property
    def released(self) -> Vector:
        """(P,) parameters to evaluate and export."""
        return self._state.get("released", self._state["parameters"]).copy()

    def apply(self, update: AggregatedUpdate) -> None:
        """One server step from a round's mean update (P,)."""
        self._state = self._checked(self._algorithm.apply(self._state, update))

    def state(self) -> dict[str, torch.Tensor]:
        """Everything needed to go on, as float64 tensors for a safetensors file."""
        return {name: torch.from_numpy(value.copy()) for name, value in self._state.items()}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Inverse of `state`; refuses a checkpoint of another model or algorithm."""
        if state.keys() != self._state.keys():
            raise MessageError(
                f"a checkpoint of {', '.join(sorted(self._state))}",
                ", ".join(sorted(state)) or "nothing",
                "resume with the configuration that the run was started with",
            )
        self._state = self._checked({name: value.double().numpy() for name, value in state.items()})

    def _checked(self, state: State) -> dict[str, Vector]:
        arrays = {name: np.array(value, dtype=np.float64) for name, value in dict(state).items()}
        for name in ("parameters", "released"):
            if name in arrays and arrays[name].shape != (self._size,):
                raise _refuse(f"{name} of shape ({self._size},)", f"{arrays[name].shape}")
        if "parameters" not in arrays:
            raise _refuse('a state with "parameters"', "none")
        broken = [name for name, value in arrays.items() if not np.isfinite(value).all()]
        if broken:
            raise _refuse("finite values in the state", f"others in {broken[0]}")
        return arrays


def _refuse(expected: str, found: str) -> FederationError:
    return FederationError(f"{expected} from the algorithm", found, "see docs/extend-algorithm.md")
