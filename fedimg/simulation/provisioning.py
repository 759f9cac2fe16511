"""The sites of a simulation learn of each other, as real ones do through their operators."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import yaml

from fedimg.config import Config
from fedimg.durable import write_durably
from fedimg.home import SiteHome
from fedimg.models import extension_digests
from fedimg.models.losses import loss_digests
from fedimg.privacy.plan import PrivacyRequest
from fedimg.privacy.policy import SitePolicy
from fedimg.secagg.roster import Roster


def provisioned(states: Path, names: Sequence[str], config: Config) -> Roster | None:
    """Have every site pin all sites' identities and public weights, as a real one does before its first run.

    None where the run has no secure sums.
    """
    if config.secagg.name == "none":
        return None
    homes = {name: SiteHome.open(states / name) for name in names}
    uniform = config.aggregation.weights == "uniform"
    roster = Roster(
        {name: home.signing_key.public_bytes for name, home in homes.items()},
        {
            name: 1.0 if uniform else float(SitePolicy.load(home.policy).declared_patients)
            for name, home in homes.items()
        },
    )
    for home in homes.values():
        roster.save(home.roster)
    return roster


def write_policy(
    home: SiteHome, declared: int, config: Config, privacy: PrivacyRequest, max_epsilon: float
) -> None:
    """A simulated site's own rules: they let in what its run asks for, and nothing is asked of them but that."""
    policy = SitePolicy(
        declared_patients=declared,
        min_patients=1,
        max_epsilon=max_epsilon,
        max_delta=1e-3,
        min_noise_multiplier=0.2,
        max_sites_per_patient=privacy.max_sites_per_patient,
        require_battery=config.audit.battery,
        allow_non_private=True,
        allow_client_level=True,
        allow_sparse_sum=True,
        allow_shared_noise=True,
        allowed_extensions=tuple(
            (extension_digests(config.model) | loss_digests(config.training.loss)).values()
        ),
    )
    text = "# A simulated site's policy, made by the simulation for its run.\n"
    write_durably(home.policy, text + yaml.safe_dump(json.loads(json.dumps(asdict(policy)))))
