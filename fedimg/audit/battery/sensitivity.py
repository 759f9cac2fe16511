"""Group 1: how far one unit can move a release, with the noise off and everyone sampled.

‖S(D ∪ {u}) − S(D)‖ ≤ C (1 + 1e-4) for units of every kind, at every place, in small and in large batches;
and the sum is one over units: what others add does not depend on u.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from fedimg.audit.battery.probes import CLIP, SMALL, along, opened_total
from fedimg.audit.battery.result import Check
from fedimg.audit.battery.statistics import exactly
from fedimg.audit.mechanism import Mechanism, NotCheckable, Unit
from fedimg.values import Vector

TOLERANCE = 1e-4
SIZE = SMALL.size
HUGE = 1e6


def checks(mechanism: Mechanism) -> Iterator[Check]:
    # All others point one way; a unit that points the other way turns whatever is clipped together.
    others = [along(0, SIZE, 2.0, images=1 + u % 3, label=u % 2) for u in range(9)]
    alone = opened_total(mechanism, SMALL, others)
    for name, units in probes():
        moved = [_moved(mechanism, others, alone, unit) for unit in units]
        yield _bounded(f"sensitivity.{name}", moved)
    yield _additive(mechanism, others, alone)
    yield _whole(mechanism)
    yield _natural(mechanism)


def probes() -> list[tuple[str, list[Unit]]]:
    """Units by what could go wrong with them."""
    chance = np.random.default_rng(5)
    directions = [chance.standard_normal(SIZE) for _ in range(3)]
    rows = [d / np.linalg.norm(d) for d in directions]
    ends = np.concatenate([[0], np.cumsum(SMALL.tensors)])
    parts = []
    for start, end in pairwise(ends):
        gradient = np.zeros((1, SIZE))
        gradient[:, start:end] = HUGE
        parts.append(Unit(gradient))
    return [
        (
            "norm",
            [Unit(rows[0][None] * CLIP * k, u % 2) for u, k in enumerate((0.5, 1.001, 1.5, 4.0, 1e3, 1e9))],
        ),
        ("mean", [along(0, SIZE, -HUGE), along(0, SIZE, -1.5 * CLIP, label=1)]),
        ("tensors", [Unit(np.full((1, SIZE), HUGE)), *parts]),
        (
            "images",
            [Unit(np.tile(rows[1] * HUGE, (m, 1)), m % 2) for m in (2, 4, 16)]
            + [
                Unit(np.eye(SIZE)[1:5] * HUGE),
                Unit(np.concatenate([rows[2][None] * HUGE, np.zeros((3, SIZE))])),
            ],
        ),
        ("classes", [along(2, SIZE, HUGE, label=label) for label in (0, 1)]),
        ("finite", [_with(value) for value in (np.nan, np.inf, -np.inf)] + [Unit(np.full((1, SIZE), 1e30))]),
    ]


def _with(value: float) -> Unit:
    gradient = np.ones((2, SIZE))
    gradient[1, 3] = value
    return Unit(gradient)


def _moved(mechanism: Mechanism, others: Sequence[Unit], alone: Vector, unit: Unit) -> float:
    """The largest ‖ΔS‖ with the unit last, first among the others, and by itself; ∞ where it is not finite."""
    found = []
    for units, without in (([*others, unit], alone), ([unit, *others], alone), ([unit], np.zeros(SIZE))):
        try:
            moved = float(np.linalg.norm((opened_total(mechanism, SMALL, units) - without)[:SIZE]))
        except NotCheckable:
            raise
        except Exception:  # noqa: BLE001 - whatever one unit makes a mechanism raise, the others see it
            moved = np.inf
        found.append(moved if np.isfinite(moved) else np.inf)
    return max(found)


def _bounded(name: str, moved: Sequence[float]) -> Check:
    largest = max(moved)
    detail = f"one unit moved the sum by {largest / CLIP:.5g} C at most, of {len(moved)} units; claimed 1 C"
    return Check(name, exactly(largest <= CLIP * (1 + TOLERANCE)), detail)


def _additive(mechanism: Mechanism, others: Sequence[Unit], alone: Vector) -> Check:
    """The sum over all is the sum of each alone; nothing of an earlier session is left in it."""
    each = sum((opened_total(mechanism, SMALL, [unit]) for unit in others), np.zeros_like(alone))
    again = opened_total(mechanism, SMALL, others)
    apart = max(float(np.linalg.norm(alone - each)), float(np.linalg.norm(alone - again)))
    apart = apart if np.isfinite(apart) else np.inf
    detail = f"the sum over {len(others)} units differs from their own sums by {apart / CLIP:.3g} C"
    return Check("sensitivity.additive", exactly(apart <= CLIP * TOLERANCE * len(others)), detail)


def _whole(mechanism: Mechanism) -> Check:
    """Three steps of a round release each unit three times, whole: no step is left out, none lives on."""
    units = [along(u, SIZE, HUGE, images=1 + u % 3, label=u % 2) for u in range(12)]
    apart = float(np.abs(opened_total(mechanism, SMALL, units, 3)[:12] / CLIP - 3).max())
    apart = apart if np.isfinite(apart) else np.inf
    detail = f"clipped units over three steps differ from 3 C each by {apart:.3g} C"
    return Check("sensitivity.whole", exactly(apart <= 12 * TOLERANCE), detail)


def _natural(mechanism: Mechanism) -> Check:
    """Generated images through a real network, with each way of computing gradients."""
    largest, engines = 0.0, 0
    try:
        while True:
            everyone, norm = mechanism.natural(engines, None)
            for u in range(3):
                moved = float(np.linalg.norm(everyone - mechanism.natural(engines, u)[0])) / norm
                largest = max(largest, moved if np.isfinite(moved) else np.inf)
            engines += 1
    except NotCheckable as missing:
        return Check("sensitivity.natural", None, str(missing))
    except IndexError:
        detail = f"one generated patient moved the sum by {largest:.5g} C at most, {engines} engines"
        return Check("sensitivity.natural", exactly(largest <= 1 + TOLERANCE), detail)
