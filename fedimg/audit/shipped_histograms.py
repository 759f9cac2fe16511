"""The shipped evaluation releases, as the battery takes them: one histogram a patient, of L2 norm ≤ 1.

A made-up unit's mean gradient stands for its histogram, in units of C, since an evaluation's own bound is 1:
the same linear map on the way in and out. `natural` puts scores through the real histograms. Everyone who is
held out is in, so there is no sampling to look at.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedimg import evaluation
from fedimg.audit.battery.probes import QUIET
from fedimg.audit.mechanism import Claim, Setting
from fedimg.audit.shipped import ShippedMechanism, ShippedSession
from fedimg.audit.shipped_sums import Release, SumSession
from fedimg.privacy.calibration import EVALUATE
from fedimg.privacy.entropy import OsEntropy
from fedimg.privacy.noise import grid_step
from fedimg.privacy.plan import PrivacyPlan, ReleaseSession
from fedimg.values import SiteDataset, Vector

_BINS = 8
_IMAGES = (1, 3, 2, 1)


class HistogramMechanism(ShippedMechanism):
    """A site's evaluations."""

    name = "fedimg, evaluation"

    @property
    def session(self) -> type[ShippedSession]:
        return HistogramSession

    def plan(self, setting: Setting) -> PrivacyPlan:
        plan = super().plan(setting)
        # of the retries an evaluation has one at most: the others are declared as releases
        again = min(1, setting.retries)
        request = replace(
            plan.request,
            evaluations=setting.releases + setting.retries - again,
            retry_allowance=again,
        )
        return replace(plan, request=request, evaluation_noise_multiplier=setting.noise_multiplier)

    def natural(self, engine: int, left_out: int | None) -> tuple[Vector, float]:
        """Scores of four generated patients, one image of them without any, through the real histograms."""
        if engine > 0:
            raise IndexError
        session = self._opened(Setting(1.0, QUIET, 1.0, 4, (2 * _BINS,)), (), "natural", None)
        chance = np.random.default_rng(6)
        positive = chance.random(sum(_IMAGES))
        positive[2] = np.nan
        patient = np.repeat(np.arange(len(_IMAGES)), _IMAGES)
        kept = patient != left_out
        counts = [images for u, images in enumerate(_IMAGES) if u != left_out]
        scores = np.stack([1 - positive, positive], axis=1)[kept]
        first = np.concatenate([[0], np.cumsum(counts)])

        def histograms() -> Vector:
            return evaluation.score_histograms(scores, patient[kept] % 2, first, _BINS)

        release = ReleaseSession(session.run.plan, session.run.place.ledger, OsEntropy())
        return release.histogram(histograms).vector, 1.0


class HistogramSession(SumSession):
    """A site's evaluations, one a step."""

    release = EVALUATE

    @property
    def claim(self) -> Claim:
        plan = self.run.plan
        sigma, norm = plan.evaluation_noise_multiplier, plan.l2_clip_norm
        return Claim(norm, sigma, 1.0, plan.declared_patients, 1.0, grid=grid_step(sigma) * norm)

    def _release_on(self, dataset: SiteDataset) -> Release:
        """As `client_round.evaluate` does it, times C."""
        run, norm = self.run, self.run.plan.l2_clip_norm
        rows = np.zeros((len(run.units), run.setting.size))
        for row, unit in zip(rows, run.units, strict=True):
            row[:] = unit.gradients.mean(axis=0) / norm

        def histograms() -> Vector:  # called after the charge
            return rows[: dataset.number_of_patients][self._roll.present(EVALUATE)]

        def release(number: int) -> tuple[Vector, str]:
            session = ReleaseSession(run.plan, run.place.ledger, self._entropy(number, EVALUATE))
            noised = session.histogram(histograms)
            return noised.vector * norm, noised.release_id

        return release
