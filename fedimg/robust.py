"""Station 7 against sites that lie: one value for many updates, whatever some f of them say.

For updates that the coordinator sees one by one (`secagg=none`), or for the means of groups of sites, each opened from
a secure sum (`secagg.groups`): then f is of groups, and a group lies where one of its sites does. Each row counts once:
a weight would let one count for many. Everything here is post-processing of what the sites released, and spends no privacy.

    median        D. Yin et al., "Byzantine-Robust Distributed Learning", ICML 2018, definition 1
    trimmed_mean  the same, definition 2
    krum          P. Blanchard et al., "Machine Learning with Adversaries", NeurIPS 2017, section 4
    bulyan        E. M. El Mhamdi et al., "The Hidden Vulnerability of Distributed Learning in Byzantium", ICML 2018
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fedimg.errors import ConfigError, FederationError
from fedimg.values import Vector

Updates = npt.NDArray[np.float64]
"""(K, P), a site's update in each row."""


def median(updates: Updates, _liars: int) -> Vector:
    """(P,) the median of each coordinate."""
    return np.asarray(np.median(updates, axis=0))


def trimmed_mean(updates: Updates, liars: int) -> Vector:
    """(P,) the mean of each coordinate without its f smallest and f largest values."""
    kept = np.sort(updates, axis=0)[liars : len(updates) - liars]
    return np.asarray(kept.mean(axis=0))


def krum(updates: Updates, liars: int) -> Vector:
    """(P,) the update with the smallest sum of squared distances to its K − f − 2 nearest others."""
    return np.array(updates[_closest(squared_distances(updates), liars)])


def bulyan(updates: Updates, liars: int) -> Vector:
    """(P,) of the K − 2f updates that Krum picks one after the other, the mean of those nearest to the median.

    In each coordinate K − 4f values are averaged.
    """
    left, chosen = list(range(len(updates))), list[int]()
    distances = squared_distances(updates)
    while len(chosen) < len(updates) - 2 * liars:
        place = _closest(distances[np.ix_(left, left)], liars)
        chosen.append(left.pop(place))
    picked = updates[chosen]
    away = np.abs(picked - np.median(picked, axis=0))
    nearest = np.argsort(away, axis=0, kind="stable")[: len(picked) - 2 * liars]
    return np.asarray(np.take_along_axis(picked, nearest, axis=0).mean(axis=0))


RULES: dict[str, tuple[Callable[[Updates, int], Vector], Callable[[int], int]]] = {
    "median": (median, lambda f: 2 * f + 1),
    "trimmed_mean": (trimmed_mean, lambda f: 2 * f + 1),
    "krum": (krum, lambda f: 2 * f + 3),
    "bulyan": (bulyan, lambda f: 4 * f + 3),
}
"""Each rule, and from f how many updates it needs."""
OVER_GROUPS = ("median", "trimmed_mean")
"""Rules that are offered over groups' sums."""


def least_sites(rule: str, liars: int) -> int:
    """How many updates the rule needs to withstand f liars. Raises ConfigError for a rule that is none."""
    if rule not in RULES:
        raise ConfigError(f"aggregation.robust {' or '.join(RULES)}", rule, "set aggregation.robust")
    return RULES[rule][1](liars)


def robust(updates: Updates, rule: str, liars: int) -> Vector:
    """(K, P) updates → (P,), such that f arbitrary rows cannot carry the result away from the others.

    Raises:
        FederationError: fewer updates than the rule needs for its promise.
    """
    least = least_sites(rule, liars)
    if len(updates) < least:
        raise FederationError(
            f"updates of at least {least} sites for aggregation.robust={rule} against {liars}",
            f"{len(updates)}",
            "bring more sites back, or lower aggregation.liars",
        )
    return RULES[rule][0](updates, liars)


def within_the_median_norm(updates: Updates) -> Updates:
    """(K, P) with no row longer than the median of all lengths: of opened sums no site's clipping bounds a liar's part."""
    norms = np.linalg.norm(updates, axis=1, keepdims=True)
    return np.asarray(
        updates * np.minimum(1.0, np.median(norms) / np.maximum(norms, np.finfo(np.float64).tiny))
    )


def squared_distances(updates: Updates) -> Updates:
    """(K, K) between all rows; row by row, so that memory is that of one more matrix."""
    return np.stack([np.square(updates - row).sum(axis=1) for row in updates])


def _closest(distances: Updates, liars: int) -> int:
    """The place with the smallest Krum score among these."""
    nearest = max(1, len(distances) - liars - 2)
    scores = np.sort(distances, axis=1)[:, 1 : nearest + 1].sum(axis=1)  # the first is the row itself
    return int(np.argmin(scores))
