"""The one place where clip, sum, noise and the ledger's charge meet.

`make_plan` fixes a run's public numbers; `ChargedReleases.release` is the only function in the project
that lets anything about patients out of a private site, and it returns noised sums: of a run's steps and evaluations
(`ReleaseSession`), and of drift histograms. `contribute` beside it makes what may leave in a secure sum only, with a
share of the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from fedimg.errors import ConfigError
from fedimg.privacy.batches import gather
from fedimg.privacy.calibration import (
    EVALUATE,
    TRAIN,
    PrivacyPlan,
    make_plan,
    scratch_ledger,
)
from fedimg.privacy.clipping import clipped_blocks, clipped_sum, clipped_vectors
from fedimg.privacy.engines import FunctionalNetwork, PatientGradients, PatientLoss
from fedimg.privacy.federation import federation_epsilon
from fedimg.privacy.ledger import Ledger
from fedimg.privacy.noise import Entropy, add_noise
from fedimg.privacy.noise_shares import noised_steps
from fedimg.privacy.request import DISTRIBUTED, PrivacyRequest
from fedimg.privacy.sampling import Indices, poisson_sample
from fedimg.values import ClippedSum, NoisedSum, PartlyNoisedSum, SiteDataset, Vector

Rows = Callable[[Indices], Iterable[Vector]]
"""Patients → their statistics, (U, k) in blocks."""

__all__ = [
    "ChargedReleases",
    "PatientLoss",
    "PrivacyPlan",
    "PrivacyRequest",
    "ReleaseSession",
    "federation_epsilon",
    "make_plan",
    "scratch_ledger",
]


class ChargedReleases:
    """Releases of one site under a plan that its ledger has reserved, whatever the plan is of.

    Args:
        plan: its digest, by which the ledger knows it. noise: the law, as in `PrivacyRequest.noise`.
        entropy: the operating system's, except in the openly insecure test mode.
    """

    def __init__(self, plan: str, noise: str, ledger: Ledger, entropy: Entropy) -> None:
        self._reserved, self._noise = plan, noise
        self._ledger, self._entropy = ledger, entropy
        self._releases: list[str] = []

    def release(self, kind: str, clipped: Callable[[], ClippedSum], noise_multiplier: float) -> NoisedSum:
        """Charge, then sample, clip and sum, then noise. What this returns may leave the site.

        The charge is on the disk before the data is read, so a crash anywhere overstates the spend.
        """
        name = self._charged(kind)
        vector, std = add_noise(clipped(), noise_multiplier, self._entropy, self._noise)
        self._releases.append(name)
        return NoisedSum(vector, std, name)

    def _charged(self, kind: str) -> str:
        return self._ledger.charge(self._reserved, kind)


class ReleaseSession(ChargedReleases):
    """The releases of one site in one round (or more), under a plan that its ledger has reserved.

    Args:
        entropy: the operating system's, except in the openly insecure test mode.
        loss: class weights and augmentation of the patients' loss.
        present: asked after each charge who of a training set's patients may be sampled, as ascending
            indices; None: everyone. Who is left out moves no constant and no other patient's coin.
    """

    def __init__(
        self,
        plan: PrivacyPlan,
        ledger: Ledger,
        entropy: Entropy,
        loss: PatientLoss | None = None,
        present: Callable[[], Indices] | None = None,
    ) -> None:
        if plan.mode == "none":
            raise ConfigError("a private plan", "privacy=none", "an open run has no releases")
        super().__init__(plan.digest, plan.request.noise, ledger, entropy)
        self.plan = plan
        self._loss = loss or PatientLoss()
        self._present = present
        self._faults: list[Exception] = []

    def minimising(self, loss: PatientLoss) -> ReleaseSession:
        """Another session under the same plan and ledger, for steps of another loss."""
        return ReleaseSession(self.plan, self._ledger, self._entropy, loss, self._present)

    @property
    def releases(self) -> tuple[str, ...]:
        """Names of the ledger's entries behind what this session let out."""
        return tuple(self._releases)

    @property
    def faults(self) -> tuple[Exception, ...]:
        """What single patients made a library raise: they contributed zero. For the site's own operator."""
        return tuple(self._faults)

    @property
    def _integers(self) -> bool:
        return self.plan.request.noise != "gaussian"

    @property
    def insecure(self) -> bool:
        return self._entropy.insecure

    def gradient_step(
        self, params: torch.Tensor, dataset: SiteDataset, network: FunctionalNetwork
    ) -> NoisedSum:
        """One DP-SGD step's noised gradient sum at `params` (P,), over a fresh Poisson sample of patients.

        Divide by `plan.expected_batch_size`. An empty sample or site releases noise like any other.

        Raises:
            BudgetExhausted, LedgerError: nothing was released.
        """
        sampled = self._sampled(params, dataset, network)
        return self.release(TRAIN, sampled, self.plan.noise_multiplier)

    def gradient_share(
        self, params: torch.Tensor, dataset: SiteDataset, network: FunctionalNetwork
    ) -> PartlyNoisedSum:
        """The same step with `distributed`: what the site puts into the secure sum that is the release."""
        sampled = self._sampled(params, dataset, network)
        return self.contribute(TRAIN, sampled, self.plan.noise_multiplier)

    def _sampled(
        self, params: torch.Tensor, dataset: SiteDataset, network: FunctionalNetwork
    ) -> Callable[[], ClippedSum]:
        request = self.plan.request
        # timing may choose differently each time, and the test mode must repeat bit by bit
        gradients = PatientGradients(
            network, self._loss, request.engine, request.chunk, timed=not self.insecure
        )

        def sampled() -> ClippedSum:
            patients = self._drawn(dataset.number_of_patients)
            batch = gather(dataset, patients, request.images_per_patient, self._loss.augment, self._entropy)
            return clipped_sum(
                gradients,
                params.detach(),
                batch,
                request.l2_clip_norm,
                self._faults.append,
                integers=self._integers,
            )

        return sampled

    def statistics_step(self, patients: int, rows: Rows, size: int) -> NoisedSum:
        """A training release of sums of statistics in place of gradients, (size,), over a fresh Poisson sample.

        Args:
            patients: of the training set. rows: called after the charge with whom was sampled, ascending; gives
                one row a patient, in blocks (U, size), scaled down to C where it is longer.
        """
        return self.release(TRAIN, self._stated(patients, rows, size), self.plan.noise_multiplier)

    def statistics_share(self, patients: int, rows: Rows, size: int) -> PartlyNoisedSum:
        """The same with `distributed`."""
        return self.contribute(TRAIN, self._stated(patients, rows, size), self.plan.noise_multiplier)

    def _stated(self, patients: int, rows: Rows, size: int) -> Callable[[], ClippedSum]:
        norm = self.plan.request.l2_clip_norm
        return lambda: clipped_blocks(rows(self._drawn(patients)), size, norm, integers=self._integers)

    def _drawn(self, patients: int) -> Indices:
        """A Poisson sample of those who may be sampled."""
        drawn = poisson_sample(patients, self.plan.sampling_rate, self._entropy)
        if self._present is None:
            return drawn
        return np.intersect1d(drawn, self._present(), assume_unique=True)

    def histogram(self, vectors: Callable[[], Vector]) -> NoisedSum:
        """The noised sum of one vector a patient, (U, k), each of L2 norm ≤ 1 (scaled down where it is not).

        `vectors` is called after the charge: it reads the patients' images.
        """
        return self.release(EVALUATE, self._counted(vectors), self.plan.evaluation_noise_multiplier)

    def histogram_share(self, vectors: Callable[[], Vector]) -> PartlyNoisedSum:
        """The same with `distributed`."""
        return self.contribute(EVALUATE, self._counted(vectors), self.plan.evaluation_noise_multiplier)

    def _counted(self, vectors: Callable[[], Vector]) -> Callable[[], ClippedSum]:
        return lambda: clipped_vectors(vectors(), 1.0, integers=self._integers)

    def release(self, kind: str, clipped: Callable[[], ClippedSum], noise_multiplier: float) -> NoisedSum:
        """As for any plan; not of one whose noise comes in shares."""
        if self.plan.mode == DISTRIBUTED:
            raise ConfigError("a release that is a secure sum", "one of this site alone", "use `contribute`")
        return super().release(kind, clipped, noise_multiplier)

    def contribute(
        self, kind: str, clipped: Callable[[], ClippedSum], noise_multiplier: float
    ) -> PartlyNoisedSum:
        """The same, with this site's share of a noise that only the sum over enough honest sites has whole.

        Charged for the whole: whatever is opened is a release with σ, in which this site's patients are.
        """
        if (shares := self.plan.shares) is None:
            raise ConfigError("privacy=distributed", f"privacy={self.plan.mode}", "use `release`")
        name = self._charged(kind)
        units = self.plan.declared_patients
        steps, keys = noised_steps(clipped(), noise_multiplier, shares, units, self._entropy)
        self._releases.append(name)
        return PartlyNoisedSum(steps, keys, name)
