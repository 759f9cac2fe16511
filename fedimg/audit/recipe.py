"""Training a model the way a run does, as often as an attack needs it: for audits, never for release."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from fedimg import training
from fedimg.aggregation import AggregationConfig, ServerOptimizer
from fedimg.audit.shared_release import SharedSession
from fedimg.crypto.keys import SigningKey
from fedimg.errors import ConfigError
from fedimg.models import Network
from fedimg.models.centring import stage_ends
from fedimg.models.losses import cross_entropy
from fedimg.privacy import accounting
from fedimg.privacy.engines import PatientLoss
from fedimg.privacy.ledger import Ledger, LedgerTerms
from fedimg.privacy.noise import Entropy
from fedimg.privacy.plan import PrivacyPlan, PrivacyRequest, ReleaseSession
from fedimg.training import LocalTraining
from fedimg.training.local import Loss
from fedimg.training.parts import Part
from fedimg.values import AggregatedUpdate, SiteDataset, Vector


@dataclass(frozen=True)
class Recipe:
    """How one model is trained on a data set.

    Attributes:
        network: and its initial parameters.
        training: learning rate, momentum, and the lengths of a round.
        rounds: as often; momentum starts anew in each, as at a site.
        plan: of private training; None trains openly. Its noise is used as it is, whatever the data's size.
        loss: of open training. patient_loss: of private training.
    """

    network: Network
    training: LocalTraining
    rounds: int
    plan: PrivacyPlan | None = None
    loss: Loss = cross_entropy
    patient_loss: PatientLoss | None = None

    def __post_init__(self) -> None:
        name = self.training.algorithm.name
        if name in (*training.CORRECTED, *training.KEPT):
            raise ConfigError(
                "a recipe of FedAvg or FedProx, which audits train again and again",
                f"training.algorithm.name={name}",
                "audit a run with training=default; the conformance battery and the empirical ε stand for this one",
            )

    @property
    def private(self) -> bool:
        return self.plan is not None

    def trained(self, dataset: SiteDataset, entropy: Entropy) -> Vector:
        """(P,) parameters after all rounds. A private training is charged to a ledger that is thrown away."""
        if self.plan is None:
            return self._trained(1.0, partial(self._open_round, dataset, entropy))
        with scratch_session(self.plan, entropy, self.patient_loss) as session:
            round_of = partial(self._private_round, dataset, session)
            return self._trained(self.plan.l2_clip_norm, round_of)

    def _trained(self, l2_clip_norm: float, round_of: Callable[[Part], torch.Tensor]) -> Vector:
        stages = stage_ends(self.network.centring_rounds)
        server = ServerOptimizer(AggregationConfig(), self.network.initial, stages)
        for number in range(1, self.rounds + 1):
            params = torch.from_numpy(server.vector)
            part = training.part_of_round(self.network, number, params, self.training, l2_clip_norm)
            moved = (round_of(part) - part.start).double().numpy()
            server.apply(AggregatedUpdate(number, part.among(moved, params.numel()), ()))
        return server.vector

    def _open_round(self, dataset: SiteDataset, entropy: Entropy, part: Part) -> torch.Tensor:
        return training.train_open_part(part, dataset, entropy, self.loss)

    def _private_round(self, dataset: SiteDataset, session: ReleaseSession, part: Part) -> torch.Tensor:
        own = session.minimising(part.patient_loss(self.patient_loss or PatientLoss()))
        return training.train_private(part.network, part.start, dataset, own, part.config)


@contextmanager
def scratch_session(
    plan: PrivacyPlan,
    entropy: Entropy,
    loss: PatientLoss | None = None,
    *,
    sampling_rate: float | None = None,
    steps: int | None = None,
) -> Iterator[ReleaseSession]:
    """Releases under a plan's training numbers, charged to a ledger that is thrown away: never for sending.

    Of a plan with shared noise the releases are one site's with the whole noise, whose law is that of what is opened.

    Args:
        sampling_rate, steps: instead of the plan's.
    """
    request = replace(
        plan.request,
        mode="per_site",
        evaluations=0,
        retry_allowance=0,
        rounds=plan.steps if steps is None else steps,
        local_steps=1,
    )
    rate = plan.sampling_rate if sampling_rate is None else sampling_rate
    own = replace(plan, request=request, sampling_rate=rate, sum_sites=0, coordinates=0)
    with _charged_to_scratch(own, entropy, loss) as session:
        yield session


@contextmanager
def shared_session(plan: PrivacyPlan, entropy: Entropy) -> Iterator[SharedSession]:
    """The same with `distributed`: sites that share the patients, some that collude, in secure sums of which some drop out."""
    request = replace(plan.request, evaluations=0, retry_allowance=0)
    with ExitStack() as stack:
        own = replace(plan, request=request)
        yield SharedSession(
            [stack.enter_context(_charged_to_scratch(own, entropy)) for _ in range(plan.sum_sites)]
        )


@contextmanager
def _charged_to_scratch(
    own: PrivacyPlan, entropy: Entropy, loss: PatientLoss | None = None
) -> Iterator[ReleaseSession]:
    with tempfile.TemporaryDirectory(prefix="fedimg-audit-") as folder:
        key = SigningKey.from_bytes(entropy.bytes(32))
        terms = LedgerTerms(1e9, own.delta, 2, scratch=True)
        ledger = Ledger.create(Path(folder) / "ledger.sqlite", key, terms)
        try:
            ledger.reserve("audit", own)
            yield ReleaseSession(own, ledger, entropy, loss)
        finally:
            ledger.disconnect()


def plan_for(
    epsilon: float, delta: float, patients: int, rounds: int, rate: float, clip: float
) -> PrivacyPlan:
    """A plan of one step a round whose T releases cost ε; `patients` is the declared size."""
    request = PrivacyRequest(
        epsilon=epsilon,
        delta=delta,
        l2_clip_norm=clip,
        sampling_rate=rate,
        rounds=rounds,
        evaluations=0,
        retry_allowance=0,
    )
    event = accounting.Event(1.0, rate, rounds)
    noise = accounting.calibrate(epsilon, delta, event)
    spent = accounting.epsilon([replace(event, noise_multiplier=noise)], delta)
    return PrivacyPlan(request, patients, rate, noise, 0.0, spent, spent)
