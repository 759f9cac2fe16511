"""A site of a run: what it has when it has joined, and every round begins with."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fedimg import site_data
from fedimg.classical import Learner
from fedimg.home import SiteHome
from fedimg.models import Network
from fedimg.models.losses import Loss
from fedimg.privacy.enrolment import Roll
from fedimg.privacy.ledger import Ledger
from fedimg.privacy.plan import PrivacyPlan
from fedimg.run_sums import RunSums
from fedimg.secagg.sessions import SiteSums
from fedimg.site_data import Loaded
from fedimg.terms import Terms


@dataclass(frozen=True)
class Site:
    """Data, plan and ledger, a commitment to its receipts, its patients' records.

    `plan` is None where the site itself releases nothing: with `privacy=none`, and with `client_level`, where
    the coordinator's ledger is charged; then `ledger` and `roll` too where the home has no ledger. `held` is
    None where the images are read again each time, because there are too many sites in one process. `learner` is set
    for a classical model, `sums` and `sessions` where the run's terms ask for secure sums.
    """

    name: str
    home: SiteHome
    terms: Terms
    network: Network
    learner: Learner | None
    loss: Loss
    held: Loaded | None
    plan: PrivacyPlan | None
    ledger: Ledger | None
    device: torch.device
    receipts: str
    roll: Roll | None = None
    sums: RunSums | None = None
    sessions: SiteSums | None = None

    @property
    def data(self) -> Loaded:
        return self.held if self.held is not None else load(self.home, self.terms, self.network)


def load(home: SiteHome, terms: Terms, network: Network) -> Loaded:
    """Station 3: released files with a valid receipt, and nothing else, become tensors."""
    profile, fraction = terms.deid_profile, terms.validation_fraction
    return site_data.load(home, terms.imaging, network, profile=profile, validation_fraction=fraction)
