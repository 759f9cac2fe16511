"""Group 3: no noise is used twice, whichever way: again, scaled, mixed, moved along, or in another order.

For independent rows √P·cos ~ N(0, 1). A permutation hides from the cosine, not from the values: sorted by
size, reused ones lie side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, poisson

from fedimg.audit.battery.probes import NOISE, QUIET, Rows, seeded_globals, total, zeros
from fedimg.audit.battery.result import Check
from fedimg.audit.battery.statistics import chi_squared, cosine_scores, normal_each, worst, worst_of
from fedimg.audit.mechanism import Mechanism, NotCheckable
from fedimg.privacy.entropy import InsecureSeededEntropy
from fedimg.values import Vector

# Values are called equal within so many standard deviations.
RESOLUTION = 2.0**-18
Mask = npt.NDArray[np.bool_]


def bin_width(grid: float) -> float:
    """Width of the bins in which values are called equal: an odd number of grid steps, so that all hold as many."""
    if not grid:
        return RESOLUTION
    return grid * max(1, 2 * int(RESOLUTION / grid / 2) - 1)


def same_value_chance(grid: float) -> float:
    """Chance that two independent |N(0, 1)| are called equal: width · ∫f² = width/√π."""
    return bin_width(grid) / math.sqrt(math.pi)


def checks(mechanism: Mechanism, rows: Rows) -> Iterator[Check]:
    matrix = rows.matrix
    if not np.isfinite(matrix).all():
        return
    scores = cosine_scores(matrix)
    for name, among in _pairs(rows).items():
        if not among.any():
            yield Check(f"reuse.{name}", None, "the mechanism cannot be restarted")
            continue
        found = np.abs(scores[among])
        p = min(1.0, found.size * float(2 * norm.sf(found.max())))
        yield Check(f"reuse.{name}", p, f"largest √P·cos {found.max():.2f} of {found.size} pairs")
    yield _steps(rows, matrix)
    yield _values(matrix, rows.claim.grid / rows.claim.noise_std)
    yield _tensors(matrix, rows.claim.grid / rows.claim.noise_std)
    yield _generator(mechanism)
    yield _seam(mechanism, rows)


def _pairs(rows: Rows) -> dict[str, Mask]:
    site, life = np.array(rows.site), np.array(rows.life)
    upper = np.triu(np.ones((len(site), len(site)), dtype=bool), 1)
    same_site, same_life = site[:, None] == site, life[:, None] == life
    return {
        "rounds": upper & same_site & same_life,
        "restarts": upper & same_site & ~same_life,
        "sites": upper & ~same_site,
    }


def _steps(rows: Rows, matrix: Vector) -> Check:
    """Three releases in a round add up to three variances: to nine where they share their noise."""
    several = matrix[np.array(rows.steps) > 1]
    energy = float((several**2).sum())
    detail = f"variance of several steps {energy / several.size:.3f} times that of independent ones"
    return Check("reuse.steps", chi_squared(energy, several.size), detail)


def _values(matrix: Vector, grid: float) -> Check:
    """Equal |values| in two rounds: their number is Poisson, and a permuted round has P of them."""
    rows, size = matrix.shape
    width = bin_width(grid)
    keys = np.floor(np.abs(matrix).ravel() / width + 0.5)
    order = np.argsort(keys, kind="stable")
    keys, owner = keys[order], np.repeat(np.arange(rows), size)[order]
    counts = np.zeros((rows, rows), dtype=np.int64)
    for apart in range(1, 9):  # more than eight of one value are far beyond chance already
        equal = keys[apart:] == keys[:-apart]
        np.add.at(counts, (owner[:-apart][equal], owner[apart:][equal]), 1)
    between = (counts + counts.T)[np.triu_indices(rows, 1)]
    expected = size**2 * same_value_chance(grid)
    p = worst_of(poisson.sf(between - 1, expected))
    return Check(
        "reuse.values", p, f"{between.max()} values of one round again in another, {expected:.0f} expected"
    )


def _tensors(matrix: Vector, grid: float) -> Check:
    """Inside one round: correlation between tensors of one shape, and equal values anywhere."""
    starts = np.cumsum((0, *NOISE.tensors))[:-1]
    found = []
    for i, first in enumerate(NOISE.tensors):
        for j in range(i):
            length = min(first, NOISE.tensors[j])
            one, other = (matrix[:, starts[k] : starts[k] + length] for k in (i, j))
            found.append(normal_each((one * other).sum(axis=1) / np.linalg.norm(one, axis=1)))
    width = bin_width(grid)
    keys = np.sort(np.floor(np.abs(matrix) / width + 0.5), axis=1)
    equal = (keys[:, 1:] == keys[:, :-1]).sum(axis=1)
    size = matrix.shape[1]
    p = worst(
        [
            worst_of(np.concatenate(found)),
            worst_of(poisson.sf(equal - 1, size**2 / 2 * same_value_chance(grid))),
        ]
    )
    return Check("reuse.tensors", p, f"{equal.max()} equal values inside one round of {size}")


def _generator(mechanism: Mechanism) -> Check:
    """With the process's global generators in one state, twice: the noise must not repeat."""
    found = []
    for _ in range(2):
        session = mechanism.open(NOISE, zeros(3, NOISE.size), "a")
        with seeded_globals(11):
            found.append(total(session)[: NOISE.size])
        session.close()
    score = float(cosine_scores(np.stack(found))[0, 1])
    return Check(
        "reuse.generator",
        float(2 * norm.sf(abs(score))),
        f"√P·cos {score:.2f} at one state of the global generators",
    )


class _Counting(InsecureSeededEntropy):
    """Counts the bytes that are drawn."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, "battery")
        self.drawn = 0

    def bytes(self, n: int) -> bytes:
        self.drawn += n
        return super().bytes(n)


def _seam(mechanism: Mechanism, rows: Rows) -> Check:
    """All randomness comes from the seam, and enough of it: the same bits give the same release.

    A normal value resolved to g standard deviations holds log₂(√(2πe)/g) bits; fewer bits were drawn where a
    small generator was seeded from the seam.
    """
    released, drawn = [], 0
    try:
        for seed in (3, 3, 4):
            entropy = _Counting(seed)
            session = mechanism.open_with(NOISE, zeros(3, NOISE.size), entropy)
            released.append(total(session)[: NOISE.size])
            drawn = entropy.drawn
            session.close()
    except NotCheckable as missing:
        return Check("reuse.seam", None, str(missing))
    resolved = max(rows.claim.grid / rows.claim.noise_std, QUIET)
    needed = NOISE.size * math.log2(math.sqrt(2 * math.pi * math.e) / resolved) / 8
    same, other = np.array_equal(released[0], released[1]), np.mean(released[0] == released[2])
    holds = same and other < 0.01 and drawn >= needed
    detail = f"{drawn} bytes drawn, {needed:.0f} needed; the same bits {'repeat' if same else 'do not repeat'} a release"
    return Check("reuse.seam", 1.0 if holds else 0.0, detail)
