"""The coordinator's end of an algorithm whose sites keep a state: what `ServerOptimizer` is to FedAvg, around it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch

from fedimg.errors import MessageError
from fedimg.heterogeneity.algorithm import PlainServer, ServerSide
from fedimg.heterogeneity.feddyn import FedDynServer
from fedimg.heterogeneity.scaffold import ScaffoldServer
from fedimg.training import AlgorithmConfig
from fedimg.values import AggregatedUpdate, Vector

_OWN, _TAKEN, _WEIGHT = "algorithm.", "algorithm/taken", "algorithm/weight"


class Inner(Protocol):
    """What moves the global model along a step: `ServerOptimizer`, or an extension's."""

    @property
    def vector(self) -> Vector: ...
    @property
    def released(self) -> Vector: ...
    def apply(self, update: AggregatedUpdate) -> None: ...
    def state(self) -> dict[str, torch.Tensor]: ...
    def restore(self, state: Mapping[str, torch.Tensor]) -> None: ...


class HeterogeneityServer:
    """The global model, the algorithm's own state, and of which round each site's answer was taken last.

    Args:
        inner: moves the global model. weights: of all sites, asked or not; a run goes on with those it began with.
    """

    def __init__(self, config: AlgorithmConfig, inner: Inner, weights: Mapping[str, float]) -> None:
        self._side, self._inner, self._weights = _side(config), inner, dict(weights)
        self._state, self._whole = self._side.init(len(inner.vector)), sum(self._weights.values())
        self._taken: dict[str, int] = {}

    @property
    def vector(self) -> Vector:
        """What sites train from: (P,), or (2P,) with a control variate behind it."""
        return self._side.instructed(self._state, self._inner.vector)

    @property
    def released(self) -> Vector:
        """(P,) parameters to evaluate and export."""
        return self._inner.released

    def taken(self) -> dict[str, int]:
        """Site → the last round whose answer of it is in the model."""
        return dict(self._taken)

    def apply(self, update: AggregatedUpdate) -> None:
        part = sum(self._weights[name] for name in update.sites) / self._whole
        step, self._state = self._side.apply(self._state, update.vector, part)
        self._inner.apply(AggregatedUpdate(update.round, step, update.sites))
        self._taken |= dict.fromkeys(update.sites, update.round)

    def state(self) -> dict[str, torch.Tensor]:
        """Everything needed to go on."""
        own = {_OWN + name: torch.from_numpy(value.copy()) for name, value in self._state.items()}
        names = np.frombuffer(json.dumps(self._taken, sort_keys=True).encode(), dtype=np.uint8).copy()
        own |= {_TAKEN: torch.from_numpy(names), _WEIGHT: torch.tensor(self._whole, dtype=torch.float64)}
        return self._inner.state() | own

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Inverse of `state`; refuses a checkpoint of another algorithm."""
        own = {name.removeprefix(_OWN): value for name, value in state.items() if name.startswith(_OWN)}
        if own.keys() != self._state.keys() or _TAKEN not in state or _WEIGHT not in state:
            raise MessageError(
                "a checkpoint of this training.algorithm",
                "one of another",
                "resume with the configuration that the run was started with",
            )
        others = {k: v for k, v in state.items() if not k.startswith((_OWN, _TAKEN, _WEIGHT))}
        self._inner.restore(others)
        self._state = {name: value.double().numpy().copy() for name, value in own.items()}
        self._taken, self._whole = json.loads(state[_TAKEN].numpy().tobytes()), float(state[_WEIGHT])


def _side(config: AlgorithmConfig) -> ServerSide:
    if config.name == "scaffold":
        return ScaffoldServer()
    return FedDynServer(config.alpha) if config.name == "feddyn" else PlainServer()
