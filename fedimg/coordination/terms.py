"""What the sites of a run are asked to agree to, and the network that follows from it."""

from __future__ import annotations

from fedimg.config import Config
from fedimg.models import Network, build_model
from fedimg.terms import Terms

COORDINATOR = "coordinator"
"""No site has this name: it stands for the coordinator where its own ledger is charged."""


def terms_of(config: Config, run_id: str) -> Terms:
    """What the sites are asked to agree to."""
    return Terms(
        run_id=run_id,
        rounds=config.rounds,
        model=config.model,
        training=config.training,
        imaging=config.imaging,
        privacy=config.privacy,
        deid_profile=config.deid.profile,
        validation_fraction=config.evaluation.validation_fraction,
        bins=config.evaluation.bins,
        seed=config.seed,
        insecure_seed=config.seed if config.insecure_test_mode else None,
        secagg=config.secagg,
        subgroups=config.evaluation.grouping,
    )


def own_network(terms: Terms) -> Network:
    """The network of a run that this machine's own user started, extensions included."""
    return build_model(terms.model, terms.seed, tuple(terms.extensions.values()))
