"""The sites of a simulation learn of each other, as real ones do through their operators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedimg.config import Config
from fedimg.home import SiteHome
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
