"""Group 8: white-box canaries. Known units go the whole way, and what comes out has a known law.

o = released coordinate ÷ C of a unit that is in with chance q: (1 − q) N(0, σ²) + q N(1, σ²). Whatever makes
noise, clipping or sampling other than claimed, together or in part, moves it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.special import ndtr
from scipy.stats import norm

from fedimg.audit.battery.probes import NOISE, along, total
from fedimg.audit.battery.result import Check
from fedimg.audit.battery.statistics import binomial, kolmogorov, normal, worst
from fedimg.audit.mechanism import Mechanism
from fedimg.values import Vector

COUNT, STEPS = 384, 24
WATCHED = replace(
    NOISE, noise_multiplier=0.5, sampling_rate=0.25, declared_units=300, tensors=(256, 128, 128)
)


def checks(mechanism: Mechanism) -> Iterator[Check]:
    units = tuple(along(u, WATCHED.size, 5.0, images=1 + u % 2, label=u % 2) for u in range(COUNT))
    session = mechanism.open(WATCHED, units, "canaries")
    claim = session.claim
    rows = np.stack([total(session)[: WATCHED.size] for _ in range(STEPS)]) / claim.l2_clip_norm
    session.close()
    if not np.isfinite(rows).all():
        yield Check("canaries.law", 0.0, "released values that are not finite")
        return
    std, rate = claim.noise_std / claim.l2_clip_norm, claim.sampling_rate
    inside, outside = rows[:, :COUNT].ravel(), rows[:, COUNT:].ravel()
    mixture = (1 - rate) * ndtr(inside / std) + rate * ndtr((inside - 1) / std)
    above = [
        binomial(
            int((inside > x).sum()),
            inside.size,
            (1 - rate) * norm.sf(x / std) + rate * norm.sf((x - 1) / std),
        )
        for x in (-2 * std, -std, 0.0, 0.5, 1.0, 1.0 + std, 1.0 + 2 * std)
    ]
    spread = std**2 + rate * (1 - rate)
    mean = normal(float((inside - rate).sum()) / np.sqrt(inside.size * spread))
    p = worst([kolmogorov(mixture), kolmogorov(ndtr(outside / std)), *above, mean])
    yield Check("canaries.law", p, _estimate(inside, outside))


def _estimate(inside: Vector, outside: Vector) -> str:
    """q·c from the mean and σ from the coordinates of nobody: moments, for reading only."""
    return f"mean {inside.mean():.4f}, claimed q = {WATCHED.sampling_rate}; σ {outside.std():.4f}, claimed {WATCHED.noise_multiplier}"
