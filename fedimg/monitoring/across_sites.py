"""Whether one site's patients look like those of the others, from histograms to which noise of a known size was added.

The distance is Kolmogorov's: the largest difference of two cumulative shares, over the public bins (which are ordered in
every stream). Noise alone makes a distance, the larger the fewer patients a site has; a test that forgets this finds
every small site strange. So the null distribution is simulated with the noise in it: patients of both sides are drawn
from what all sites together look like, as many as the noised totals say, and each bin gets noise of its own size (a
parametric bootstrap; Efron & Tibshirani 1993, §16). The interval around a distance is what the deviations of both
sides' cumulative shares may add up to, simulated in the same way from each side's own shares: by the triangle inequality
it holds the true distance where they stay below their quantile.

Over sites and streams Benjamini and Hochberg 1995: where no site differs, the chance that any is flagged is at most the
level. A site that moves draws the sum of the others with it, so that its neighbours look strange too: of several that are
flagged in a stream the clearest stays, and each further one only if it also differs from the others without those. This
takes flags away and adds none. Everything here is post-processing of what was released: it costs no privacy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from fedimg.errors import ConfigError, DataError
from fedimg.monitoring.drift import benjamini_hochberg

LEVEL: Final = 0.05
_COVERAGE: Final = 0.95
_LEAST_DRAWS, _AT_ONCE = 2000, 2000
_STANDS_OUT: Final = 4.0
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Noised:
    """A histogram (K,) of patients, and the standard deviation of the noise in each bin."""

    counts: Sequence[float]
    noise_std: float

    @property
    def total(self) -> float:
        return float(sum(self.counts))

    @property
    def stands_out(self) -> bool:
        """Whether the number of patients can be told from nothing: above 4 deviations of its own noise."""
        return self.total > max(0.5, _STANDS_OUT * self.noise_std * math.sqrt(len(self.counts)))

    def __add__(self, other: Noised) -> Noised:
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Noised(counts, math.hypot(self.noise_std, other.noise_std))


@dataclass(frozen=True, slots=True)
class Compared:
    """One site in one stream against the sum of the others.

    Attributes:
        patients: of the site, noised. told: whether both sides have more patients than noise; else nothing is said.
        distance: of the noised cumulative shares, [0, 1]. low, high: where the true distance lies, with 95 %.
        p: of a distance as large where the site is like the others. flagged: at the level, over all tests.
        but_for: sites that differ more clearly, without which this one is like the others; () for all that stay flagged.
    """

    stream: str
    site: str
    patients: float
    told: bool
    distance: float
    low: float
    high: float
    p: float
    flagged: bool = False
    but_for: tuple[str, ...] = ()


def compare(
    streams: Mapping[str, Mapping[str, Noised]], level: float = LEVEL, seed: int = 0
) -> tuple[Compared, ...]:
    """Every site of every stream against its other sites.

    Args:
        streams: stream → site → histogram, of one size a stream and of two sites at least.
        level: the chance that any is flagged where none differs. seed: of the simulation; it protects nothing.

    Raises:
        DataError: fewer than two sites, or histograms of several sizes, in a stream. ConfigError: no such level.
    """
    if not 0 < level < 1:
        raise ConfigError("a level between 0 and 1", f"{level:g}", "0.05 is usual")
    for own in streams.values():
        if len(own) < 2 or len({len(one.counts) for one in own.values()}) != 1:
            raise DataError("histograms of two sites or more, on the same bins", "others", "add a site")
    tests = [(stream, site) for stream, own in sorted(streams.items()) for site in sorted(own)]
    generator = np.random.default_rng(seed)
    # the smallest p that the simulation can give has to fall below the strictest threshold
    draws = max(_LEAST_DRAWS, math.ceil(4 * len(tests) / level))
    found = {test: _one(*test, streams[test[0]], draws, generator) for test in tests}
    # a site with too few patients counts as tested: the number of tests may not depend on data
    p = {f"{k}": found[test].p for k, test in enumerate(tests) if found[test].told}
    flagged = benjamini_hochberg(p, level, len(tests))
    rows = {test: replace(found[test], flagged=f"{k}" in flagged) for k, test in enumerate(tests)}
    for stream, own in sorted(streams.items()):
        for row in _by_themselves([rows[stream, site] for site in sorted(own)], own, level, generator):
            rows[stream, row.site] = row
    return tuple(rows.values())


def distance(one: _Floats, other: _Floats) -> float:
    """The largest difference of two cumulative shares (K,)."""
    return float(np.abs(np.cumsum(one - other)).max())


def shares(noised: Noised) -> _Floats:
    """(K,) of 0 or more that sum to 1: the nearest to the noised shares (Duchi et al. 2008, figure 1)."""
    raw = np.array(noised.counts, dtype=np.float64) / noised.total
    descending = np.sort(raw)[::-1]
    excess = (np.cumsum(descending) - 1) / np.arange(1, len(raw) + 1)
    kept = int((descending > excess).sum())
    found: _Floats = np.maximum(raw - excess[kept - 1], 0)
    return found


def _one(
    stream: str, site: str, own: Mapping[str, Noised], draws: int, generator: np.random.Generator
) -> Compared:
    mine, *others = own[site], *(one for name, one in sorted(own.items()) if name != site)
    theirs = others[0]
    for other in others[1:]:
        theirs = theirs + other
    both = (mine, theirs)
    if not all(one.stands_out for one in both):
        return Compared(stream, site, mine.total, False, math.nan, 0.0, 1.0, 1.0)
    raw = [np.array(one.counts, dtype=np.float64) / one.total for one in both]
    apart, pooled = distance(raw[0], raw[1]), shares(mine + theirs)
    null = _deviations(both, (pooled, pooled), draws, generator)
    p = (1 + int((null >= apart * (1 - 1e-12)).sum())) / (1 + draws)
    around = _deviations(both, (shares(mine), shares(theirs)), draws, generator)
    room = float(np.quantile(around, _COVERAGE))
    low, high = max(0.0, apart - room), min(1.0, apart + room)
    return Compared(stream, site, mine.total, True, apart, low, high, p)


def _by_themselves(
    rows: Sequence[Compared], own: Mapping[str, Noised], level: float, generator: np.random.Generator
) -> list[Compared]:
    """The flagged rows of one stream, each held against the others without those that differ more clearly."""
    found, clearer = list[Compared](), list[str]()
    for row in sorted((row for row in rows if row.flagged), key=lambda row: -row.distance):
        left = {name: one for name, one in own.items() if name not in clearer}
        if clearer and len(left) > 1 and _one(row.stream, row.site, left, _LEAST_DRAWS, generator).p > level:
            found.append(replace(row, flagged=False, but_for=tuple(clearer)))
        else:
            clearer.append(row.site)
            found.append(row)
    return found


def _deviations(
    both: tuple[Noised, Noised],
    of: tuple[_Floats, _Floats],
    draws: int,
    generator: np.random.Generator,
) -> _Floats:
    """(draws,) largest differences of the two sides' errors of their cumulative shares, patients and noise redrawn."""
    found = []
    for start in range(0, draws, _AT_ONCE):
        many = min(_AT_ONCE, draws - start)
        errors = [
            _redrawn(one, own, many, generator) - np.cumsum(own) for one, own in zip(both, of, strict=True)
        ]
        found.append(np.abs(errors[0] - errors[1]).max(axis=1))
    return np.concatenate(found)


def _redrawn(one: Noised, own: _Floats, many: int, generator: np.random.Generator) -> _Floats:
    """(many, K) cumulative shares of as many patients, with noise in every bin."""
    counts = generator.multinomial(round(one.total), own / own.sum(), size=many).astype(np.float64)
    counts += np.rint(generator.normal(0.0, one.noise_std, size=counts.shape))
    cumulative: _Floats = np.cumsum(counts, axis=1)
    return cumulative / np.maximum(cumulative[:, -1:], 1.0)
