"""A site's end of an algorithm: its state read from the home, and written before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from fedimg import training
from fedimg.errors import DataError
from fedimg.heterogeneity import personal
from fedimg.heterogeneity.algorithm import Begun, PlainSite, Sendable, SiteSide, Trained
from fedimg.heterogeneity.feddyn import FedDynSite
from fedimg.heterogeneity.kept import KeptSite
from fedimg.heterogeneity.scaffold import ScaffoldSite
from fedimg.heterogeneity.states import State, states_of
from fedimg.joined_site import Site
from fedimg.training import ASIDE, KEPT, LocalTraining
from fedimg.values import RoundInstructions, Vector


@dataclass(frozen=True)
class RoundAtSite:
    """A round of training that has begun: with FedAvg, the instructions as they are.

    Attributes:
        config: of its local steps.
    """

    site: Site
    instructions: RoundInstructions
    side: SiteSide
    state: State
    begun: Begun
    config: LocalTraining

    @property
    def size(self) -> int:
        """P."""
        return len(self.begun.start)

    @property
    def start(self) -> torch.Tensor:
        """(P,) float32 on the site's device."""
        return torch.from_numpy(self.begun.start.astype(np.float32)).to(self.site.device)

    @property
    def correction(self) -> torch.Tensor | None:
        """(P,) float32, or None."""
        if self.begun.correction is None:
            return None
        return torch.from_numpy(self.begun.correction.astype(np.float32)).to(self.site.device)

    def ended(self, moved: Vector, steps: int) -> Vector:
        """What is sent of an update (P,) that took so many steps; what is kept is on the disk when this returns."""
        trained = Trained(self.instructions.vector, moved, steps, _sendable(self.site))
        sent, state = self.side.end(self.state, trained)
        self._keep(state)
        return sent

    def aside(self) -> None:
        """The same where the site sends no update of its own, but its part of a sum's gradient."""
        self._keep(self.state)

    def _keep(self, state: State) -> None:
        site, number = self.site, self.instructions.round
        name = site.terms.training.algorithm.name
        if name == "ditto":
            state = personal.ditto(site, number, state, self.begun.start)
        if not state:
            return
        if not all(np.isfinite(value).all() for value in state.values()):
            raise DataError("a round of finite numbers", "others", "lower training.learning_rate")
        taken = self.instructions.taken.get(site.name, 0)
        states_of(site.home, site.terms.run_id).put(number, state, taken)


def begin(site: Site, instructions: RoundInstructions) -> RoundAtSite:
    """Raises DataError where the site's state of the round that the coordinator names is not here."""
    side, state = _side(site), _state(site, instructions)
    begun, config = side.begin(state, instructions.vector), site.terms.training
    if begun.proximal_mu is not None:
        config = replace(config, proximal_mu=begun.proximal_mu)
    return RoundAtSite(site, instructions, side, state, begun, config)


def to_evaluate(site: Site, instructions: RoundInstructions) -> RoundInstructions:
    """The model that this site's patients are counted with: its own where the difference is made of noised sums.

    The personal models of `ASIDE` are in no histogram: those would be releases of an un-noised model. With the last
    round's, what the site may keep for itself is written.
    """
    name, last = site.terms.training.algorithm.name, instructions.round == site.terms.rounds
    if name not in (*KEPT, *ASIDE):
        return instructions
    side, state, shared = _side(site), _state(site, instructions), instructions.vector
    own = shared
    if isinstance(side, KeptSite):
        own = side.own(state, shared)
        instructions = replace(instructions, vector=own)
    elif name == "ditto":
        own = state.get("personal", shared)
    elif last:
        own = personal.fine_tuned_head(site, instructions.round, shared)
    if last:
        personal.keep(site, own, shared)
    return instructions


def _state(site: Site, instructions: RoundInstructions) -> State:
    if site.terms.training.algorithm.name in ("none", "fine_tuned_head"):
        return {}
    taken = instructions.taken.get(site.name, 0)
    if not 0 <= taken <= instructions.round - (instructions.task == "train"):
        raise DataError("a state of an earlier round", f"of round {taken}", "ask the coordinator")
    return states_of(site.home, site.terms.run_id).after(taken)


def _side(site: Site) -> SiteSide:
    training_terms = site.terms.training
    algorithm = training_terms.algorithm
    if algorithm.name == "scaffold":
        own_noise = site.terms.privacy.mode == "per_site"
        rate = training_terms.private_learning_rate if own_noise else None
        return ScaffoldSite(rate or training_terms.learning_rate)
    if algorithm.name == "feddyn":
        return FedDynSite(algorithm.alpha)
    mask = training.kept_parameters(site.network, algorithm)
    return PlainSite() if mask is None else KeptSite(mask)


def _sendable(site: Site) -> Sendable:
    """Rounded to float32, in which updates travel; clamped as a secure sum would clamp it."""
    clamped: Callable[[Vector], Vector] = np.asarray
    if site.sums is not None:
        most = site.terms.secagg.clamp / site.sums.roster.share(site.name)
        clamped = lambda vector: np.clip(vector, -most, most)  # noqa: E731 - one of two
    return lambda vector: clamped(vector).astype(np.float32).astype(np.float64)
