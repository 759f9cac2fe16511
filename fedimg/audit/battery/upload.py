"""Group 7: what leaves is a release, all of it, and its constants do not depend on who is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np
from scipy.stats import chi2

from fedimg.audit.battery.probes import CLIP, NOISE, SMALL, along, zeros
from fedimg.audit.battery.result import Check
from fedimg.audit.battery.statistics import exactly, worst_of
from fedimg.audit.mechanism import Mechanism, NotCheckable, Round

_LOUD = replace(NOISE, tensors=SMALL.tensors)


def checks(mechanism: Mechanism) -> Iterator[Check]:
    yield _constants(mechanism)
    yield _divisor(mechanism)
    rounds = [_rounds(mechanism, count) for count in (6, 7)]
    yield _traced(mechanism, rounds[0])
    yield _noised(mechanism, rounds[0])
    yield _metadata(rounds)
    yield _inputs(rounds[0])


def _constants(mechanism: Mechanism) -> Check:
    """N ± 1 units, twice as many: the same divisor, q, σ and C."""
    claims = []
    for count in (20, 19, 21, 40):
        session = mechanism.open(NOISE, zeros(count, NOISE.size))
        claims.append(asdict(session.claim))
        session.close()
    moved = sorted({name for claim in claims for name in claim if claim[name] != claims[0][name]})
    asked = claims[0]["l2_clip_norm"] == NOISE.l2_clip_norm
    detail = (
        f"depends on the number of units: {', '.join(moved)}"
        if moved
        else "the same for every number of units"
    )
    return Check("upload.constants", exactly(not moved and asked), detail)


def _divisor(mechanism: Mechanism) -> Check:
    """One clipped unit among few or many, in a full or a thin batch, is C ÷ divisor in what leaves."""
    found = []
    for count in (1, 5, 6, 7, 24):
        units = tuple(along(u, SMALL.size, 1e3) for u in range(count))
        session = mechanism.open(SMALL, units)
        vector = session.step().vector * session.claim.divisor / CLIP
        session.close()
        found.append(vector[:count])
    sizes = np.concatenate(found)
    apart = float(np.abs(sizes - 1).max()) if np.isfinite(sizes).all() else np.inf
    detail = f"a clipped unit weighs {np.nanmin(sizes):.4f} to {np.nanmax(sizes):.4f} C, whatever the number of units"
    return Check("upload.divisor", exactly(apart < 1e-3), detail)


def _rounds(mechanism: Mechanism, count: int) -> list[Round]:
    """Rounds on units whose gradients are not zero, so that a raw value shows."""
    chance = np.random.default_rng(8)
    units = tuple(replace(along(u, SMALL.size, 1.0), label=int(chance.integers(2))) for u in range(count))
    session = mechanism.open(_LOUD, units)
    rounds = [session.step() for _ in range(12)]
    session.close()
    return rounds


def _traced(mechanism: Mechanism, rounds: list[Round]) -> Check:
    """Every tensor names its releases, and together they are as large as what was released."""
    untraced = sorted({tensor.name for left in rounds for tensor in left.tensors if not tensor.releases})
    extra = max(left.vector.size for left in rounds) - _LOUD.size
    unknown = 0
    session = mechanism.open(_LOUD, zeros(4, _LOUD.size), "traced")
    try:
        names = {name for tensor in session.step().tensors for name in tensor.releases}
        unknown = len(names - session.recorded().names)
    except NotCheckable:
        pass  # `ledger.recorded` says that there is no ledger to look a name up in
    finally:
        session.close()
    detail = (
        f"without a release: {', '.join(untraced) or 'none'}; {extra} values more than were released; "
        f"{unknown} releases unknown to the ledger"
    )
    return Check("upload.traced", exactly(not untraced and extra == 0 and not unknown), detail)


def _noised(mechanism: Mechanism, rounds: list[Round]) -> Check:
    """Every value that leaves varies at least as much as the noise: what the units add only adds to that."""
    if len({left.vector.size for left in rounds}) > 1:
        return Check("upload.noised", 0.0, "rounds of different lengths")
    session = mechanism.open(_LOUD, zeros(6, _LOUD.size))
    std = session.claim.noise_std / session.claim.divisor
    session.close()
    matrix = np.stack([left.vector for left in rounds]) / std
    spread = ((matrix - matrix.mean(axis=0)) ** 2).sum(axis=0)
    lower = chi2.cdf(spread, len(matrix) - 1)
    bare = int((lower < 1e-9).sum())
    return Check(
        "upload.noised", worst_of(lower), f"{bare} of {matrix.shape[1]} values that leave have no noise"
    )


def _metadata(rounds: list[list[Round]]) -> Check:
    """What is sent beside the tensors does not depend on the units, nor on the step's sample."""
    said = [dict(left.metadata) for site in rounds for left in site]
    moved = sorted(
        {key for one in said for key in one if one[key] != said[0].get(key)}
        | {key for one in said for key in said[0] if key not in one}
    )
    return Check(
        "upload.metadata", exactly(not moved), f"depends on the data: {', '.join(moved) or 'nothing'}"
    )


def _inputs(rounds: list[Round]) -> Check:
    """One vector a round: two under the same masks show their difference."""
    most = max(left.messages for left in rounds)
    return Check("upload.inputs", exactly(most == 1), f"{most} vectors sent in a round")
