"""Bodies drawn in millimetres: a stack of slices on which ellipsoids, tubes and smooth textures are blended.

Axes are the patient's (LPS, PS3.3 C.7.6.2.1.1): x to the left, y to the back, z to the head; the first slice is the lowest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fedimg.cohort.anatomy import Generator
from fedimg.values import FloatArray

Point = tuple[float, float, float]
Region = tuple[slice, slice, slice]
Numbers = npt.NDArray[np.floating[Any]]


@lru_cache(maxsize=64)
def _interpolation(size: int, knots: int) -> FloatArray:
    """(size, knots): smooth (raised-cosine) interpolation of `knots` values along an axis."""
    position = np.linspace(0, max(0, knots - 1), size)
    distance = np.abs(position[:, None] - np.arange(knots)[None])
    weights = np.where(distance < 1, 0.5 + 0.5 * np.cos(np.pi * distance), 0)
    found: FloatArray = np.asarray(weights / weights.sum(1, keepdims=True), np.float32)
    return found


@dataclass(slots=True)
class Canvas:
    """What is drawn on.

    Attributes:
        x, y, z: voxel centres, mm; (W,), (H,), (D,), ascending.
        values: (D, H, W) in Hounsfield units.
        edge: width of every soft rim, mm: about a pixel.
    """

    x: FloatArray
    y: FloatArray
    z: FloatArray
    values: FloatArray
    edge: float

    @classmethod
    def of(cls, size: tuple[int, int, int], field_mm: Point, centre_mm: Point = (0.0, 0.0, 0.0)) -> Self:
        """Of air. `size` (D, H, W) voxels; `field_mm` along x and y the whole width, along z from the first slice to the last."""
        depth, height, width = size
        x, y = (
            (((np.arange(n) + 0.5) / n - 0.5) * side + middle).astype(np.float32)
            for n, side, middle in ((width, field_mm[0], centre_mm[0]), (height, field_mm[1], centre_mm[1]))
        )
        z = (np.linspace(-0.5, 0.5, depth) if depth > 1 else np.zeros(1)) * field_mm[2] + centre_mm[2]
        return cls(x, y, z.astype(np.float32), np.full(size, -1000, np.float32), field_mm[0] / width)

    @property
    def grid(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """x (1, 1, W), y (1, H, 1), z (D, 1, 1)."""
        return self.x[None, None], self.y[None, :, None], self.z[:, None, None]

    @property
    def step_mm(self) -> float:
        """From slice to slice; the slice's side where there is one alone."""
        return float(self.z[1] - self.z[0]) if len(self.z) > 1 else self.edge

    def region(self, low: Point, high: Point) -> Region:
        """Voxels in a box of the body, with the width of a rim around it."""
        edge = self.edge
        bounds = [
            slice(int(np.searchsorted(axis, a - edge)), int(np.searchsorted(axis, b + edge)))
            for axis, a, b in zip((self.x, self.y, self.z), low, high, strict=True)
        ]
        return bounds[2], bounds[1], bounds[0]

    def places(self, region: Region) -> tuple[FloatArray, FloatArray, FloatArray]:
        x, y, z = self.grid
        return x[:, :, region[2]], y[:, region[1]], z[region[0]]

    def blend(self, share: Numbers, value: float | Numbers, region: Region | None = None) -> None:
        """`value` in place of what is there, as far as `share` (0 … 1) says."""
        part = self.values if region is None else self.values[region]
        part += share * (value - part)

    def ball(self, centre: Point, axes: Point, value: float | None = None) -> tuple[Region, FloatArray]:
        """An ellipsoid's region and share in it, drawn too where a value is given."""
        low, high = (tuple(c + s * a for c, a in zip(centre, axes, strict=True)) for s in (-1, 1))
        region = self.region((low[0], low[1], low[2]), (high[0], high[1], high[2]))
        parts = zip(self.places(region), centre, axes, strict=True)
        radius = np.sqrt(sum(np.square((axis - c) / a) for axis, c, a in parts))
        share = self.inside(1 - radius, min(axes))
        if value is not None:
            self.blend(share, value, region)
        return region, share

    def inside(self, depth: Numbers, scale: float = 1.0) -> FloatArray:
        """0 … 1 by how far within (`depth` · `scale` mm, negative outside), with the rim half in, half out."""
        found: FloatArray = np.clip(depth * np.float32(scale / self.edge) + 0.5, 0, 1).astype(np.float32)
        return found

    def tube(self, start: Point, end: Point, radii: tuple[float, float], value: float) -> None:
        """A straight piece whose radius goes evenly from the first to the second."""
        thick = max(radii)
        low = tuple(min(a, b) - thick for a, b in zip(start, end, strict=True))
        high = tuple(max(a, b) + thick for a, b in zip(start, end, strict=True))
        region = self.region((low[0], low[1], low[2]), (high[0], high[1], high[2]))
        axes = self.places(region)
        along = [b - a for a, b in zip(start, end, strict=True)]
        length = sum(step**2 for step in along) or 1.0
        moved = [axis - a for axis, a in zip(axes, start, strict=True)]
        t = np.clip(sum(m * step for m, step in zip(moved, along, strict=True)) / length, 0, 1)
        distance = np.sqrt(sum(np.square(m - t * step) for m, step in zip(moved, along, strict=True)))
        self.blend(self.inside(radii[0] + t * (radii[1] - radii[0]) - distance), value, region)

    def path(self, points: Sequence[Point], radius: float, value: float) -> None:
        """Tubes from point to point."""
        for start, end in pairwise(points):
            self.tube(start, end, (radius, radius), value)

    def texture(self, rng: Generator, cell_mm: float) -> FloatArray:
        """A smooth random field of about unit amplitude with cells of so many mm, (D, H, W)."""
        spans = [float(np.ptp(axis)) for axis in (self.z, self.y, self.x)]
        knots = [max(2, round(span / cell_mm)) if span else 1 for span in spans]
        cells: npt.NDArray[np.float32] = rng.standard_normal(knots, dtype=np.float32)
        for axis, (size, count) in enumerate(zip(self.values.shape, knots, strict=True)):
            cells = np.moveaxis(np.tensordot(_interpolation(size, count), cells, (1, axis)), 0, axis)
        found: FloatArray = np.asarray(cells, np.float32)
        return found
