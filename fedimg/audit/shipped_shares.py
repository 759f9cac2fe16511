"""The shipped `distributed` releases, as the battery takes them: what a secure sum opens.

A site's steps and the sum are production's: sampling, clipping to whole steps, charge, a discrete Gaussian share
from the operating system's entropy, masks, and the coordinator's opening. Beside the site that the battery fills there
are sites without patients, each with a ledger of its own (`shared_release`): one colludes, and some drop out.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from fedimg.audit import shared_release
from fedimg.audit.dot_product import DotProduct, dataset_of, first_logit
from fedimg.audit.mechanism import Claim, Setting
from fedimg.audit.shipped import ShippedMechanism, ShippedSession
from fedimg.audit.shipped_place import Place
from fedimg.audit.shipped_sums import Release, SumSession
from fedimg.privacy.calibration import TRAIN
from fedimg.privacy.engines import PatientLoss
from fedimg.privacy.integers import STEPS_BITS, integer_grid
from fedimg.privacy.noise_shares import LEAST_STEPS, NoiseShares
from fedimg.privacy.plan import PrivacyPlan, ReleaseSession
from fedimg.privacy.request import DISTRIBUTED, PrivacyRequest
from fedimg.values import PartlyNoisedSum, SiteDataset, Vector

SITES, THRESHOLD, COLLUDERS = 4, 3, 1
# The least noise that shares can have: 3 steps in its narrowest part, a sixth of the variance. Nothing beside 2²⁰ of C.
_LEAST_NOISE = 1.1 * LEAST_STEPS * 6**0.5 * 2.0**-STEPS_BITS


class SharedNoiseMechanism(ShippedMechanism):
    """Sites that add a share of the noise each."""

    name = "fedimg, distributed"

    def __init__(self, request: PrivacyRequest | None = None) -> None:
        asked = request or PrivacyRequest()
        super().__init__(asked)
        # clips to whole steps like the shares' sums, and its noise can be turned off
        self._clipping = ShippedMechanism(replace(asked, mode="per_site", noise="strict"))

    @property
    def session(self) -> type[ShippedSession]:
        return SharedNoiseSession

    def plan(self, setting: Setting) -> PrivacyPlan:
        plan = super().plan(replace(setting, noise_multiplier=max(setting.noise_multiplier, _LEAST_NOISE)))
        # a sum is never made twice: what may be redone is declared as releases
        request = replace(
            plan.request,
            mode=DISTRIBUTED,
            noise="discrete_gaussian",
            retry_allowance=None,
            rounds=setting.releases + setting.retries,
        )
        return replace(
            plan,
            request=request,
            sum_sites=SITES,
            sum_threshold=THRESHOLD,
            sum_colluders=COLLUDERS,
            coordinates=setting.size,
        )

    def natural(self, engine: int, left_out: int | None) -> tuple[Vector, float]:
        return self._clipping.natural(engine, left_out)

    def close(self) -> None:
        self._clipping.close()
        super().close()


class SharedNoiseSession(SumSession):
    """One site's rounds among sites without patients."""

    @property
    def claim(self) -> Claim:
        alone = super().claim
        # the divisor is all sites', which are of one size
        return replace(alone, divisor=alone.divisor * SITES, grid=integer_grid(self.run.plan.l2_clip_norm))

    def _release_on(self, dataset: SiteDataset) -> Release:
        """As `client_round.add` and `server_round` do it; the sum that is opened, less the colluder's part."""
        run, names = self.run, list[str]()
        size, divisor = run.setting.size, self.claim.divisor
        shares = NoiseShares(SITES, THRESHOLD, COLLUDERS, size)

        def share(number: int, site: int) -> PartlyNoisedSum:
            own = site == 0
            place = run.place if own else self._beside(site)
            present = partial(self._roll.present, TRAIN) if own else None
            session = ReleaseSession(
                run.plan,
                place.ledger,
                self._entropy(number, f"train {site}"),
                PatientLoss(example_loss=first_logit),
                present,
            )
            made = session.gradient_share(
                torch.zeros(size), dataset if own else dataset_of((), size), DotProduct(size)
            )
            if own:
                names.append(made.release_id)
            return made

        def release(number: int) -> tuple[Vector, str]:
            mechanism = run.plan.noise_multiplier, run.plan.l2_clip_norm
            gone = shared_release.drop_outs(shares, number)
            return shared_release.opened(partial(share, number), shares, mechanism, gone) / divisor, names[-1]

        return release

    def _beside(self, site: int) -> Place:
        place = self.run.beside(site)
        place.ledger.reserve(self.run.name, self.run.declared)
        return place
