"""Generated units whose gradients the battery knows, the settings they run under, and what came out."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from fedimg.audit.mechanism import Claim, Mechanism, NotCheckable, Session, Setting, Unit
from fedimg.values import Vector

# Small enough to vanish beside 1e-4·C in every norm that is measured, large enough for float64 and a grid.
QUIET = 2.0**-20
CLIP = 0.7
# Two tensors of one shape, and a small last one: a bias.
TENSORS = (1500, 700, 700, 1000, 96, 100)
NOISE = Setting(CLIP, 1.3, 0.3, 50, TENSORS)
TAIL = replace(NOISE, tensors=(1 << 20,))
SMALL = Setting(CLIP, QUIET, 1.0, 12, (24, 12, 12, 4))


@dataclass
class Rows:
    """Noise as it was released, in standard deviations of the claim, with where each row (P,) comes from.

    `life` counts restarts; `steps` is the number of releases added up in the row; `empty` says what a site
    without units made the mechanism raise, if anything.
    """

    claim: Claim
    values: list[Vector] = field(default_factory=list)
    site: list[str] = field(default_factory=list)
    life: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    empty: str = ""

    @property
    def matrix(self) -> Vector:
        """(T, P)."""
        return np.stack(self.values)

    def take(self, session: Session, size: int, site: str, life: int, rounds: Sequence[int]) -> None:
        for steps in rounds:
            row = total(session, steps)[:size] / (session.claim.noise_std * steps**0.5)
            self.values.append(row)
            self.site.append(site)
            self.life.append(life)
            self.steps.append(steps)


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """The process's global generators set to a known state, and put back afterwards."""
    kept, kept_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global state is the subject
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the same
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(kept)
            np.random.set_state(kept_numpy)  # noqa: NPY002 - the same


def zeros(count: int, size: int) -> tuple[Unit, ...]:
    """Units that contribute nothing: what is released is the noise."""
    return tuple(Unit(np.zeros((1, size)), label=u % 2) for u in range(count))


def along(axis: int, size: int, length: float, images: int = 1, label: int = 0) -> Unit:
    """A unit whose images all have the gradient length·e_axis."""
    gradients = np.zeros((images, size))
    gradients[:, axis] = length
    return Unit(gradients, label)


def total(session: Session, steps: int = 1) -> Vector:
    """The next round's released sum: what left, times the claimed divisor."""
    return np.asarray(session.step(steps).vector * session.claim.divisor)


def opened_total(mechanism: Mechanism, setting: Setting, units: Sequence[Unit], steps: int = 1) -> Vector:
    """One round of a new session."""
    session = mechanism.open(setting, tuple(units))
    try:
        return total(session, steps)
    finally:
        session.close()


def noise_rows(mechanism: Mechanism) -> Rows:
    """Rounds of one and of three releases, at a site, after its restart, at a small and at an empty site."""
    size = NOISE.size
    session = mechanism.open(NOISE, zeros(40, size), "a")
    rows = Rows(session.claim)
    rows.take(session, size, "a", 0, [1, 3, 1, 1, 1, 1, 1, 1, 1, 1, 3])
    try:
        session = session.restart()
    except NotCheckable:
        pass
    else:
        rows.take(session, size, "a", 1, [1, 1, 1, 1, 1, 1, 1, 1, 1])
    session.close()
    session = mechanism.open(NOISE, zeros(2, size), "b")
    rows.take(session, size, "b", 0, [1, 3, 1, 1, 1, 1, 1, 1])
    session.close()
    try:
        session = mechanism.open(NOISE, (), "c")
        rows.take(session, size, "c", 0, [1, 3, 1, 1, 1, 1, 1, 1])
        session.close()
    except NotCheckable:
        raise
    except Exception as fault:  # noqa: BLE001 - whatever an empty site makes a mechanism raise, it shows
        rows.empty = type(fault).__name__
    return rows


def tail_row(mechanism: Mechanism) -> Vector:
    """2²² noise values in standard deviations, from four wide releases: 28 of them beyond 4.5."""
    session = mechanism.open(TAIL, zeros(2, TAIL.size), "tail")
    rows = Rows(session.claim)
    rows.take(session, TAIL.size, "tail", 0, [1, 1, 1, 1])
    session.close()
    return rows.matrix.ravel()
