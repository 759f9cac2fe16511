"""Station 7: many updates → one global step.

FedAvg is McMahan et al. 2017, Algorithm 1; the adaptive servers are Reddi et al.
2021, Algorithm 2 (FedOpt), written as a `torch.optim` optimiser that takes the
negative mean update as its gradient. Everything here is post-processing of what
the sites released, and spends no privacy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from fedimg.errors import ConfigError, FederationError, MessageError
from fedimg.values import AggregatedUpdate, NoisedUpdate, OpenUpdate, Vector

BUILTIN = ("fedavg", "fedavgm", "fedadam")


@dataclass(frozen=True)
class AggregationConfig:
    """How the server turns a round's updates into the next global model.

    `name`: fedavg, fedavgm, fedadam, or an installed extension in `fedimg.algorithms`.
    `weights`: "declared" weighs a site by its declared, public number of patients (never by
    its actual one), "uniform" by one. `ema` = β > 0 evaluates and exports an exponential moving
    average of the global models w₁ … w_t, Σ β^(t−i) w_i / Σ β^(t−i): post-processing, which spends no
    privacy and takes out noise. Training goes on from w_t itself. A round with fewer than `min_sites` answers is refused. `cohort`
    sites, drawn anew each round, are asked; 0 asks all.
    `tau` is FedAdam's degree of adaptivity. `robust` takes median, trimmed_mean, krum or bulyan of the updates in
    place of their mean, against `liars` sites that send what they like; then no site has a weight.
    """

    name: str = "fedavg"
    learning_rate: float = 1.0
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3
    ema: float = 0.0
    weights: Literal["declared", "uniform"] = "declared"
    min_sites: int = 1
    cohort: int = 0
    robust: Literal["none", "median", "trimmed_mean", "krum", "bulyan"] = "none"
    liars: int = 1

    def __post_init__(self) -> None:
        _require(0 < self.learning_rate < math.inf, "learning_rate", "a positive number", self.learning_rate)
        for name in ("momentum", "beta1", "beta2", "ema"):
            _require(0 <= getattr(self, name) < 1, name, "a number in [0, 1)", getattr(self, name))
        _require(0 < self.tau < math.inf, "tau", "a positive number", self.tau)
        _require(self.liars >= 1, "liars", "an integer ≥ 1", self.liars)
        for name in ("min_sites", "cohort"):
            _require(getattr(self, name) >= 0, name, "an integer ≥ 0", getattr(self, name))


def _require(holds: bool, key: str, expected: str, found: object) -> None:
    if not holds:
        raise ConfigError(f"aggregation.{key} to be {expected}", str(found), f"correct aggregation.{key}")


def weighted_mean(
    updates: Sequence[NoisedUpdate | OpenUpdate], weights: Mapping[str, float], size: int
) -> AggregatedUpdate:
    """Σ w·u / Σ w over one round's updates, each of shape (size,).

    Summed in the order of site names, so that the result does not depend on who answered first.

    Raises:
        FederationError: no update at all.
        MessageError: updates of different rounds, of a wrong size, twice from a site, or from a
            site without a weight.
    """
    if not updates:
        raise FederationError(
            "at least one site's update", "none", "see the sites' own logs; the model is unchanged"
        )
    round_number = updates[0].round
    total, mass = np.zeros(size), 0.0
    seen: list[str] = []
    for update in sorted(updates, key=lambda u: u.site):
        if update.site in seen or update.site not in weights:
            raise MessageError("one update of each site of the plan", "another", "the round was discarded")
        if update.round != round_number or update.kind != "update" or update.vector.shape != (size,):
            raise MessageError(
                f"an update of {size} values for round {round_number}",
                f"a {update.kind} of {update.vector.size} values for round {update.round}",
                "the round was discarded",
            )
        total += weights[update.site] * update.vector
        mass += weights[update.site]
        seen.append(update.site)
    if not mass > 0:
        raise FederationError("a positive sum of weights", "zero", "declare each site's number of patients")
    return AggregatedUpdate(round_number, total / mass, tuple(seen))


class ServerOptimizer:
    """The global model and the optimiser that moves it; `state` and `restore` make it resumable.

    Args:
        config: which optimiser.
        initial: (P,) parameters before round 1.
        stage_ends: up to the last of these rounds, updates have their lengths already: they are taken as they
            are, and their sum since the last such end moves the model at the next. Momentum, adaptivity and
            average begin behind them.
    """

    def __init__(self, config: AggregationConfig, initial: Vector, stage_ends: Sequence[int] = ()) -> None:
        self._config, self._stage_ends = config, frozenset(stage_ends)
        self._first_rounds = max(stage_ends, default=0)
        self._waiting = torch.zeros(initial.shape, dtype=torch.float64)
        self._parameters = torch.from_numpy(initial.astype(np.float64).copy())
        self._average = self._parameters.clone()
        self._optimizer: torch.optim.Optimizer
        if config.name == "fedadam":
            self._optimizer = torch.optim.Adam(
                [self._parameters],
                lr=config.learning_rate,
                betas=(config.beta1, config.beta2),
                eps=config.tau,
            )
        else:
            momentum = config.momentum if config.name == "fedavgm" else 0.0
            self._optimizer = torch.optim.SGD([self._parameters], lr=config.learning_rate, momentum=momentum)

    @property
    def vector(self) -> Vector:
        """(P,) parameters that the next round trains from."""
        return self._parameters.numpy().copy()

    @property
    def released(self) -> Vector:
        """(P,) parameters to evaluate and export: the moving average where `ema` > 0."""
        return (self._average if self._config.ema > 0 else self._parameters).numpy().copy()

    def apply(self, update: AggregatedUpdate) -> None:
        """One server step. The pseudo-gradient is the negative mean update."""
        if update.round <= self._first_rounds:
            self._waiting.add_(torch.from_numpy(update.vector))
            if update.round in self._stage_ends:
                self._parameters.add_(self._waiting)
                self._average.copy_(self._parameters)
                self._waiting.zero_()
            return
        self._parameters.grad = torch.from_numpy(-update.vector)
        self._optimizer.step()
        # The weight of the newest model in the debiased average of so many (Kingma and Ba 2015, section 3):
        # 1 in round 1, so the initial weights have no part in it.
        decay, rounds = self._config.ema, update.round - self._first_rounds
        self._average.lerp_(self._parameters, (1.0 - decay) / (1.0 - decay**rounds))

    def state(self) -> dict[str, torch.Tensor]:
        """Everything needed to go on, as float64 tensors for a safetensors file."""
        state = {"parameters": self._parameters.clone(), "average": self._average.clone()}
        if self._first_rounds:
            state["waiting"] = self._waiting.clone()
        for name, value in self._optimizer.state.get(self._parameters, {}).items():
            if value is not None:
                state[f"optimizer.{name}"] = torch.as_tensor(value, dtype=torch.float64).clone()
        return state

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Inverse of `state`; refuses a checkpoint of another model."""
        if state["parameters"].shape != self._parameters.shape:
            raise MessageError(
                f"a checkpoint of {self._parameters.numel()} parameters",
                f"{state['parameters'].numel()}",
                "resume with the configuration that the run was started with",
            )
        self._parameters.copy_(state["parameters"])
        self._average.copy_(state["average"])
        if self._first_rounds:
            if "waiting" not in state:
                raise MessageError(
                    "a checkpoint of a model that learns a centre", "another", "start a new run"
                )
            self._waiting.copy_(state["waiting"])
        entries = {
            k.removeprefix("optimizer."): v.clone() for k, v in state.items() if k.startswith("optimizer.")
        }
        if entries:
            if "step" in entries:
                entries["step"] = entries["step"].to(torch.float32)
            self._optimizer.state[self._parameters] = entries
