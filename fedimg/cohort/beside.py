"""What is drawn of a patient beside the images: where a finding shows, what is missing, and the table's numbers.

From a stream of its own, so that asking for it changes no image of a cohort that does without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from fedimg.cohort.config import TABLE, CohortConfig
from fedimg.cohort.paired import HALF_STACK, Body

FEATURES = ("age", "marker")
"""Columns of the manifest: age in years, which says nothing, and a marker of 0 … 5, of which see `Beside`."""

_STREAM = 1 << 24
_NORMAL, _RAISED, _SPREAD, _HIGHEST = 1.5, 3.5, 0.5, 5.0


@dataclass(frozen=True, slots=True)
class Beside:
    """One patient's draws.

    Attributes:
        sign: what alone shows the finding; None: every image does, and the marker.
        marker: N(3.5, ½) of a sick patient whose finding shows in the table, else N(1.5, ½), within 0 … 5.
        empty: of `FEATURES`, whose cells are.
        other_age: of who has no date of birth.
        left_out: the modality that a paired patient lacks.
    """

    sign: str | None
    marker: float
    other_age: int
    empty: tuple[bool, ...]
    left_out: str | None
    body: Body | None

    @classmethod
    def draw(cls, stream: Sequence[int], config: CohortConfig, *, sick: bool) -> Self:
        rng = np.random.default_rng([*stream, _STREAM])
        # in turn, over every scanner of the public set: a small cohort has all of them alike
        sign = config.signs[stream[-1] // config.hospitals % len(config.signs)] if config.signs else None
        mean = _RAISED if sick and sign in (None, TABLE) else _NORMAL
        marker = float(np.clip(rng.normal(mean, _SPREAD), 0, _HIGHEST))
        age, empty = int(rng.integers(1, 89)), tuple(bool(u < config.missing) for u in rng.uniform(size=2))
        lacks, which = bool(rng.uniform() < config.missing), str(rng.choice(config.modalities))
        half = HALF_STACK if config.slices > 1 else 0.0
        body = Body.draw(rng, config.lesion_diameter, half, sick=sick, sign=sign) if config.paired else None
        return cls(sign, marker, age, empty, which if config.paired and lacks else None, body)

    def modalities(self, config: CohortConfig) -> list[str]:
        """A paired patient's studies; none of others, who have what their hospital has."""
        return [m for m in config.modalities if m != self.left_out] if config.paired else []

    def cells(self, age: int | None) -> tuple[str, ...]:
        """Of `FEATURES`."""
        written = (str(self.other_age if age is None else age), f"{self.marker:.2f}")
        return tuple("" if empty else cell for cell, empty in zip(written, self.empty, strict=True))
