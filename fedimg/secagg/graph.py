"""Who shares masks with whom where there are too many sites for everybody with everybody.

J. Bell et al., "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead", CCS 2020, in its form for a
coordinator that follows the protocol: each site exchanges keys and shares with d others only. Here the graph is
circulant: the sites in a random order on a ring, each joined to those at d/2 random distances on either side, which
for so many distances is an expander with high probability (Alon and Roichman 1994). It follows from
the plan's digest, so that all sites see the same one.

What the numbers must hold, each but for a chance of 2⁻⁴⁰ over all neighbourhoods:

    secrecy    a neighbourhood has fewer colluders than the threshold of shares, which is more than d/2
    recovery   it has at least that many survivors when t of K survive, whoever they are by chance

A coordinator that picks who drops out, against the protocol, can cut a group off by dropping all that the group
touches. Among everybody (`degree` 0) it cannot. That is why a site's policy must allow a sparse graph.
"""

from __future__ import annotations

import hashlib
import math

from scipy.stats import hypergeom

from fedimg.errors import ConfigError

_LOG_CHANCE = -40 * math.log(2)
# Above, everybody with everybody costs more than it is worth.
COMPLETE_UP_TO = 50


def neighbours(sites: int, degree: int, seed: bytes) -> tuple[tuple[int, ...], ...]:
    """For each of K sites the d others that it shares masks with, ascending; the relation is symmetric."""
    order = _by_digest(range(sites), seed + b"order")
    distances = _by_digest(range(1, (sites + 1) // 2), seed + b"distances")[: degree // 2]
    found: dict[int, tuple[int, ...]] = {}
    for place, site in enumerate(order):
        others = {order[(place + way * distance) % sites] for distance in distances for way in (1, -1)}
        found[site] = tuple(sorted(others))
    return tuple(found[site] for site in range(sites))


def least_shares(sites: int, colluders: int, degree: int) -> int:
    """The smallest threshold of shares above d/2 that no neighbourhood's colluders reach but for that chance."""
    law = hypergeom(sites - 1, colluders, degree)
    for threshold in range(degree // 2 + 1, degree):
        if threshold > colluders or law.logsf(threshold - 1) + math.log(sites) <= _LOG_CHANCE:
            return threshold
    return degree


def sparse(sites: int, threshold: int, colluders: int) -> tuple[int, int]:
    """(d, threshold of shares) for K sites: the smallest degree with secrecy and recovery.

    (0, 0), everybody with everybody, up to 50 sites.

    Raises ConfigError where no degree gives both.
    """
    if sites <= COMPLETE_UP_TO:
        return 0, 0
    for degree in range(8, sites - 1, 2):
        shares = least_shares(sites, colluders, degree)
        # of a neighbourhood and the site itself, whose own share counts as well
        survivors = hypergeom(sites - 1, threshold - 1, degree)
        if survivors.logcdf(shares - 1) + math.log(sites) <= _LOG_CHANCE:
            return degree, shares
    raise ConfigError(
        "few enough colluders, and enough survivors, for a sparse graph",
        f"{colluders} colluders of {sites} sites with a threshold of {threshold}",
        "raise secagg.threshold, or lower secagg.colluders",
    )


def _by_digest(numbers: range, seed: bytes) -> list[int]:
    """In the order of their digests: equal everywhere, whatever library is installed."""
    return sorted(numbers, key=lambda number: hashlib.sha256(seed + number.to_bytes(4, "big")).digest())
