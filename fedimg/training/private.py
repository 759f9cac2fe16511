"""One hospital's local training with patient-level privacy: steps along noised sums only.

DP-SGD of Abadi et al. 2016 (arXiv 1607.00133, algorithm 1) with the patient as the unit. All that
touches data happens inside the session's `gradient_step`, which samples, clips, sums, charges and
adds noise; what comes back is post-processed here and costs no further privacy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from fedimg.training.local import LocalTraining, Network, State, descend
from fedimg.values import NoisedSum, SiteDataset, Vector


class Plan(Protocol):
    """The public constant that a noised sum is divided by."""

    @property
    def expected_batch_size(self) -> float:
        """Sampling rate times the declared number of patients: never the actual batch."""
        ...


class Session(Protocol):
    """The site's open privacy session (`fedimg.privacy.plan.ReleaseSession`)."""

    @property
    def plan(self) -> Plan: ...

    def gradient_step(self, params: torch.Tensor, dataset: SiteDataset, network: Network) -> NoisedSum: ...


def train_private(
    network: Network,
    params: torch.Tensor,
    dataset: SiteDataset,
    session: Session,
    config: LocalTraining,
    correction: torch.Tensor | None = None,
) -> torch.Tensor:
    """A round of `config.local_steps` noised steps.

    Args:
        params: (P,) float32, the global model; not changed.
        session: charges every step to the site's ledger before it releases.
        correction: (P,) added to every noised gradient; made of released values only, or the promise is gone.

    Returns:
        (P,) float32 local parameters. A site without images returns noise like any other: that it
        is empty does not show.

    Raises:
        BudgetExhausted, LedgerError: from the session; nothing of that step was released.
    """
    config = _private(config)
    anchor = params.detach().to(torch.float32)
    state = State(anchor, torch.zeros_like(anchor))
    active = torch.ones((), dtype=torch.float32, device=anchor.device)
    for _ in range(config.local_steps):
        noised = session.gradient_step(state.params, dataset, network)
        mean = torch.from_numpy(noised.vector / session.plan.expected_batch_size)
        gradient = mean.to(anchor.device, torch.float32)
        state = descend(state, gradient, anchor, active, config, correction)
    return state.params


def step_along(start: torch.Tensor, gradient: Vector, config: LocalTraining) -> Vector:
    """What one noised step from `start` (P,) along a mean gradient (P,) moves: with `distributed`, at the coordinator."""
    anchor = start.detach().to(torch.float32)
    state = State(anchor, torch.zeros_like(anchor))
    mean = torch.from_numpy(gradient).to(anchor.device, torch.float32)
    after = descend(state, mean, anchor, torch.ones((), device=anchor.device), _private(config))
    return np.asarray((after.params - anchor).double().cpu().numpy())


def _private(config: LocalTraining) -> LocalTraining:
    return replace(config, learning_rate=config.private_learning_rate or config.learning_rate)


def private_update(
    network: Network,
    start: torch.Tensor,
    dataset: SiteDataset,
    session: Session,
    config: LocalTraining,
    correction: torch.Tensor | None = None,
) -> Vector:
    """What a site sends after a round: its parameters less those it was given, (P,). Arguments as above."""
    after = train_private(network, start, dataset, session, config, correction)
    return np.asarray((after - start).double().cpu().numpy())
