"""Sites in groups, each with secure sums of its own, so that a rule across groups can withstand lying sites.

Who is in which group follows from every site's public key as all have pinned them, and from nothing that a
coordinator chooses: it is jointly made, and the same in all rounds and runs of a roster. Groups that were drawn anew
would let a coordinator solve for single sites from their overlapping sums.
"""

from __future__ import annotations

import hashlib

from fedimg.crypto.keys import framed
from fedimg.errors import ConfigError
from fedimg.secagg.plan import LEAST_SITES
from fedimg.secagg.roster import Roster

_VERSION = b"fedimg groups 1"


def grouped(roster: Roster, groups: int) -> tuple[Roster, ...]:
    """The roster of each group: as many sites in each, give or take one. Raises ConfigError for groups below three."""
    if groups < 1 or len(roster.identities) < groups * LEAST_SITES:
        raise ConfigError(
            f"at least {LEAST_SITES} sites in each of {groups} groups (secagg.groups)",
            f"{len(roster.identities)} sites",
            "set fewer groups",
        )
    if groups == 1:
        return (roster,)
    everybody = framed([_VERSION, *(roster.identities[name] for name in sorted(roster.identities))])
    seed = hashlib.sha256(everybody).digest()
    order = sorted(
        roster.identities, key=lambda name: hashlib.sha256(framed([seed, roster.identities[name]])).digest()
    )
    return tuple(
        Roster(
            {name: roster.identities[name] for name in order[number::groups]},
            {name: roster.weights[name] for name in order[number::groups]},
        )
        for number in range(groups)
    )
