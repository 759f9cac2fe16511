"""Group 5: every unit has its own coin of chance q in every step, and nothing else decides.

With the noise off, each unit has coordinates of its own, so a release shows who was in it, and how much of
each. Counts are binomial, so every test is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from fedimg.audit.battery.probes import SMALL, seeded_globals, total
from fedimg.audit.battery.result import Check, Figures
from fedimg.audit.battery.statistics import (
    binomial,
    dispersion,
    exactly,
    normal_each,
    normal_scores,
    worst,
    worst_of,
)
from fedimg.audit.mechanism import Mechanism, NotCheckable, Session, Unit
from fedimg.values import Vector

Inclusion = npt.NDArray[np.bool_]
RATE, UNITS, STEPS, LAGS = 0.2, 160, 120, 24
# Declared sizes other than the actual one: a rate taken from the data shows at once.
SAMPLED = replace(SMALL, sampling_rate=RATE, declared_units=120, tensors=(128, 64, 128))
_IMAGES = 3


def checks(mechanism: Mechanism, source: np.random.Generator, figures: Figures) -> Iterator[Check]:
    units = made_up(UNITS)
    session = mechanism.open(SAMPLED, units, "a")
    if session.claim.sampling_rate == 1:
        session.close()
        raise NotCheckable("claims no sampling")
    shares, apart = _inclusion(session, UNITS, STEPS)
    by_round = shares > 0.5
    figures["batches"] = _histogram(by_round)
    yield Check(
        "sampler.whole",
        exactly(apart < 0.01),
        f"a unit is in a step whole or not at all, to {apart:.2g} C",
    )
    yield _totals(by_round, source)
    yield _units(by_round, source)
    yield _groups(by_round)
    yield _overlaps(by_round)
    yield _together(by_round)
    yield _small(mechanism, source)
    yield _elsewhere(mechanism, session, units, by_round)
    yield _generator(mechanism, units)


def _histogram(by_round: Inclusion) -> list[tuple[float, ...]]:
    """(size, steps of that size, expected steps)."""
    sizes, count = by_round.sum(axis=1), by_round.shape[1]
    between = range(int(min(sizes.min(), RATE * count - 15)), int(max(sizes.max(), RATE * count + 15)) + 1)
    return [(k, int((sizes == k).sum()), len(sizes) * float(binom.pmf(k, count, RATE))) for k in between]


def made_up(count: int) -> tuple[Unit, ...]:
    """Unit u has coordinate u; every fourth has three images, with coordinates of their own beyond."""
    units, free = [], count
    for u in range(count):
        several = u % 4 == 1
        gradients = np.zeros((_IMAGES if several else 1, SAMPLED.size))
        gradients[0, u] = 1e3
        if several:
            for image in (1, 2):
                gradients[image, free] = 1e3
                free += 1
        units.append(Unit(gradients, label=u % 2))
    return tuple(units)


def _inclusion(session: Session, count: int, steps: int) -> tuple[Vector, float]:
    """(T, N) share of each unit in each step, 1 for all of it; and how far the releases are from whole units."""
    norm = session.claim.l2_clip_norm
    expected = _clipped(count, norm)
    shares, apart = np.zeros((steps, count)), 0.0
    for t in range(steps):
        released = total(session)[: SAMPLED.size]
        shares[t] = released @ expected.T / norm**2
        rest = released - (shares[t] > 0.5) @ expected
        apart = max(apart, float(np.abs(rest).max()) / norm)
    return shares, apart if np.isfinite(apart) else np.inf


def _clipped(count: int, norm: float) -> Vector:
    """(N, P), what each unit adds where it is sampled."""
    mean = np.stack([unit.gradients.mean(axis=0) for unit in made_up(count)])
    return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True) * norm)


def _totals(by_round: Inclusion, source: np.random.Generator) -> Check:
    """How many in all, and how much their number varies: fixed batches do not vary, blocks vary too much."""
    sizes, count = by_round.sum(axis=1), by_round.shape[1]
    z = normal_scores(sizes, count, RATE, source)
    p = worst([binomial(int(sizes.sum()), by_round.size, RATE), dispersion(z)])
    detail = f"measured q {by_round.mean():.4f}, claimed {RATE}; variance of batch sizes {(z**2).mean():.2f} times Poisson's"
    return Check("sampler.totals", p, detail)


def _units(by_round: Inclusion, source: np.random.Generator) -> Check:
    """How often each unit was in: without replacement they are too equal."""
    z = normal_scores(by_round.sum(axis=0), len(by_round), RATE, source)
    p = worst([dispersion(z), worst_of(normal_each(z))])
    return Check("sampler.units", p, f"variance of counts by unit {(z**2).mean():.2f} times that of coins")


def _groups(by_round: Inclusion) -> Check:
    """Units with several images, of one class, early or late in the order: all have the same chance."""
    index = np.arange(by_round.shape[1])
    groups = {
        "several images": index % 4 == 1,
        "class 1": index % 2 == 1,
        "first half": index < len(index) // 2,
        "first": index == 0,
        "last": index == len(index) - 1,
    }
    p = [binomial(int(by_round[:, g].sum()), int(g.sum()) * len(by_round), RATE) for g in groups.values()]
    rate = by_round[:, groups["several images"]].mean()
    return Check("sampler.groups", worst(p), f"units with {_IMAGES} images are sampled at {rate:.4f}")


def _overlaps(by_round: Inclusion) -> Check:
    """Units in two steps at a distance of k: of chance q² each, over disjoint pairs of steps."""
    steps, count = by_round.shape
    found = []
    for lag in range(1, LAGS + 1):
        first = np.array([t for t in range(steps - lag) if t % (2 * lag) < lag])
        both = int((by_round[first] & by_round[first + lag]).sum())
        found.append(binomial(both, count * len(first), RATE**2))
    next_ = (by_round[:-1] & by_round[1:]).mean()
    return Check(
        "sampler.overlaps", worst(found), f"in two steps running {next_:.4f}, expected {RATE**2:.4f}"
    )


def _together(by_round: Inclusion) -> Check:
    """Pairs of units in the same step: of chance q² each step, whatever pair."""
    counts = by_round.astype(np.float64).T @ by_round
    pairs = counts[np.triu_indices(len(counts), 1)].astype(np.int64)
    p = worst_of(np.minimum(1.0, 2 * binom.sf(pairs - 1, len(by_round), RATE**2)))
    near = np.diagonal(counts, 1)
    disjoint = int(near[::2].sum())
    p_near = binomial(disjoint, len(near[::2]) * len(by_round), RATE**2)
    detail = f"one pair is together in {pairs.max()} of {len(by_round)} steps, {RATE**2 * len(by_round):.1f} expected"
    return Check("sampler.together", worst([p, p_near]), detail)


def _small(mechanism: Mechanism, source: np.random.Generator) -> Check:
    """A site smaller than declared: the same q, and steps with nobody in them are steps too."""
    count = 3  # half of the steps have nobody
    session = mechanism.open(SAMPLED, made_up(count), "b")
    shares, _ = _inclusion(session, count, STEPS // 2)
    session.close()
    sizes = (shares > 0.5).sum(axis=1)
    z = normal_scores(sizes, count, RATE, source)
    p = worst([binomial(int(sizes.sum()), shares.size, RATE), dispersion(z)])
    return Check(
        "sampler.small", p, f"at a site of {count} units q is {sizes.mean() / count:.4f}, claimed {RATE}"
    )


def _elsewhere(mechanism: Mechanism, session: Session, units: tuple[Unit, ...], by_round: Inclusion) -> Check:
    """The steps of another site, and those after a restart, are others."""
    steps, found, agreed = 8, [], 0.0
    other = mechanism.open(SAMPLED, units, "c")
    rounds = [_inclusion(other, UNITS, steps)[0] > 0.5]
    other.close()
    try:
        session = session.restart()
    except NotCheckable:
        pass
    else:
        rounds.append(_inclusion(session, UNITS, steps)[0] > 0.5)
    session.close()
    for other_rounds in rounds:
        agreed = max(agreed, float((other_rounds == by_round[:steps]).mean()))
        found.append(_agreement(other_rounds, by_round[:steps]))
    return Check(
        "sampler.elsewhere",
        worst(found),
        f"{agreed:.3f} of the coins agree, expected {RATE**2 + (1 - RATE) ** 2:.3f}",
    )


def _generator(mechanism: Mechanism, units: tuple[Unit, ...]) -> Check:
    """With the process's global generators in one state, twice: the samples must differ."""
    found = []
    for _ in range(2):
        session = mechanism.open(SAMPLED, units, "a")
        with seeded_globals(12):
            found.append(_inclusion(session, UNITS, 4)[0] > 0.5)
        session.close()
    p = _agreement(found[0], found[1])
    detail = f"{(found[0] == found[1]).mean():.3f} of the coins agree at one state of the global generators"
    return Check("sampler.generator", p, detail)


def _agreement(one: Inclusion, other: Inclusion) -> float:
    return binomial(int((one == other).sum()), one.size, RATE**2 + (1 - RATE) ** 2)
