"""CT and MR of one head: the same anatomy, each modality on a grid of its own, in one frame of reference.

The MR's field of view is wider than the CT's and its centre lies elsewhere, by a patient's own amounts: what lays the
two over each other has to read the headers. A lesion may show in one of them alone, and lies in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from fedimg.cohort.anatomy import (
    Generator,
    Lesion,
    Phantom,
    cross_section,
    ellipse,
    grid,
    lesion_profile,
    place,
    texture,
)
from fedimg.values import FloatArray

HALF_STACK = 0.10  # greatest |z| of a series' slices, in units of half the field of view
_ZOOM, _MOST_SHIFT = (1.1, 1.3), 0.15  # of the field of view, and of half of it


@dataclass(frozen=True, slots=True)
class Body:
    """One head, in the CT's coordinates, and where the MR's image lies in them: x = zoom·x_MR + shift.

    Attributes:
        axes: half axes of the scalp. ventricle: half width. lesion: None without one.
        sign: the modality that shows it; None: both.
    """

    axes: tuple[float, float]
    ventricle: float
    lesion: Lesion | None
    sign: str | None
    zoom: float
    shift: tuple[float, float]

    @classmethod
    def draw(
        cls, rng: Generator, diameter: tuple[float, float], half_stack: float, *, sick: bool, sign: str | None
    ) -> Self:
        axes = (float(rng.uniform(0.66, 0.76)), float(rng.uniform(0.80, 0.86)))
        ventricle, zoom = float(rng.uniform(0.05, 0.11)), float(rng.uniform(*_ZOOM))
        shift = (float(rng.uniform(-_MOST_SHIFT, _MOST_SHIFT)), float(rng.uniform(-_MOST_SHIFT, _MOST_SHIFT)))
        lesion = place(rng, "MR", diameter, half_stack) if sick else None
        return cls(axes, ventricle, lesion, sign, zoom, shift)

    def zoom_of(self, modality: str) -> float:
        return self.zoom if modality == "MR" else 1.0

    def shift_of(self, modality: str) -> tuple[float, float]:
        return self.shift if modality == "MR" else (0.0, 0.0)

    def slices(
        self, rng: Generator, modality: str, size: int, zs: list[float], contrast: float
    ) -> list[Phantom]:
        """One phantom for each z (in the CT's unit): Hounsfield units, or the MR's arbitrary unit 0 … 1."""
        zoom, shift = self.zoom_of(modality), self.shift_of(modality)
        x, y = grid(size, size)
        xy = (np.float32(zoom) * x + np.float32(shift[0]), np.float32(zoom) * y + np.float32(shift[1]))
        shown = contrast if self.sign in (None, modality) else 0.0
        tissue = _ct if modality == "CT" else _mr
        rise = 160.0 if modality == "CT" else 0.50
        return [self._with_lesion(tissue(self, rng, xy, z), xy, z, shown * rise, zoom) for z in zs]

    def _with_lesion(
        self, values: FloatArray, xy: tuple[FloatArray, FloatArray], z: float, rise: float, zoom: float
    ) -> Phantom:
        profile = lesion_profile(xy, self.lesion, z)
        if profile is None:
            return Phantom(values.astype(np.float32), np.zeros(values.shape, np.bool_))
        seen = (values + rise * profile).astype(np.float32)
        return Phantom(seen, profile > 0.5, cross_section(self.lesion, z) / zoom)


def _ct(body: Body, rng: Generator, xy: tuple[FloatArray, FloatArray], z: float) -> FloatArray:
    """Air −1000, scalp 40, skull 900, brain 35, fluid 8."""
    scalp, skull, brain = _shells(body, xy)
    values = -1000 + 1040 * scalp + 860 * skull - 865 * brain
    values += brain * 6 * texture(rng, values.shape, 9)
    return _fluid(body, xy, z, values, 8.0)


def _mr(body: Body, rng: Generator, xy: tuple[FloatArray, FloatArray], z: float) -> FloatArray:
    """FLAIR-like: scalp 0.70, skull 0.05, brain 0.45, fluid 0.12."""
    scalp, skull, brain = _shells(body, xy)
    values = 0.70 * scalp - 0.65 * skull + 0.40 * brain
    values += brain * 0.04 * texture(rng, values.shape, 16)
    return _fluid(body, xy, z, values, 0.12)


def _shells(body: Body, xy: tuple[FloatArray, FloatArray]) -> list[FloatArray]:
    wide, deep = body.axes
    return [ellipse(xy, (0, 0), (wide - rim, deep - rim)) for rim in (0.0, 0.06, 0.12)]


def _fluid(
    body: Body, xy: tuple[FloatArray, FloatArray], z: float, values: FloatArray, of_fluid: float
) -> FloatArray:
    for side in (-1, 1):
        inside = ellipse(xy, (0.13 * side, 0.02 + 0.1 * z), (body.ventricle, 0.26 - 0.2 * abs(z)))
        values = values + inside * (of_fluid - values)
    return values
