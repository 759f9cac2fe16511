"""What a chest may have: a nodule, calcium in the coronary arteries, and what resembles them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from fedimg.cohort.anatomy import Generator, Mask
from fedimg.cohort.canvas import Canvas, Point
from fedimg.cohort.chest import BLOOD, Chest
from fedimg.values import FloatArray

AGATSTON_HU, _AGATSTON_MM = 130.0, 3.0
_AIR = -700.0  # a ball of lung is no denser on the whole where no wall or large vessel is in it
_ARTERIES: tuple[tuple[Point, Point], ...] = (
    ((0.10, -0.65, 0.75), (0.80, -0.55, -0.25)),  # left anterior descending
    ((-0.55, -0.60, 0.55), (-0.80, 0.10, -0.60)),  # right
    ((0.30, -0.25, 0.92), (0.80, 0.60, 0.05)),  # circumflex
)
"""First and last direction from the heart's middle, as shares of its half axes."""


def projected(values_DHW: FloatArray, step_mm: float) -> FloatArray:
    """(Z, Y, X) HU, planes `step_mm` apart along Y → (Z, X) as a radiograph shows it: 0 air … 1 dense.

    Bone counts four times as much above 150 HU as water does: at the tube's energies its absorption rises with density
    and atomic number. The film saturates.
    """
    water = np.clip((values_DHW + 1000) / 1000, 0, None) + 3 * np.clip((values_DHW - 150) / 1000, 0, None)
    path = water.sum(axis=1) * step_mm
    found: FloatArray = (1 - np.exp(-np.clip(path - 45, 0, None) / 95)).astype(np.float32)
    return found


def _somewhere(share: FloatArray, rng: Generator, least: float = 0.95) -> tuple[int, int, int]:
    """A voxel of which so much is the organ."""
    d, h, w = np.nonzero(share > least)
    chosen = int(rng.integers(len(d)))
    return int(d[chosen]), int(h[chosen]), int(w[chosen])


def nodule(canvas: Canvas, lungs: FloatArray, rng: Generator, contrast: float | None) -> tuple[Mask, float]:
    """Where it is, and its greatest diameter in mm; nothing where `contrast` is None. Every one is cut by a slice."""
    mask = np.zeros(canvas.values.shape, np.bool_)
    if contrast is None:
        return mask, 0.0
    radius = float(rng.uniform(7.0, 15.0))
    places = [_in_air(canvas, lungs, radius, rng) for _ in range(12)]
    centre = min(places, key=lambda place: max(place[1], _AIR))[0]
    lobes, phase = float(rng.uniform(0, 0.15)), float(rng.uniform(0, 6.28))
    density = float(rng.uniform(-10, 60)) if rng.uniform() < 0.8 else float(rng.uniform(-450, -250))
    reach = radius * (1 + lobes)
    region, _ = canvas.ball(centre, (reach, reach, reach))
    x, y, zs = (axis - c for axis, c in zip(canvas.places(region), centre, strict=True))
    rim = radius * (1 + lobes * np.cos(3 * np.arctan2(y, x) + phase)) * np.ones_like(zs)
    share = canvas.inside(rim - np.sqrt(np.square(x) + np.square(y) + np.square(zs)))
    share = share * lungs[region]
    part = canvas.values[region]
    part += min(1.0, contrast) * share * np.maximum(density - part, 0)  # nothing of a vessel or wall is lost
    mask[region] = share > 0.5
    return mask, 2 * radius


def _in_air(canvas: Canvas, lungs: FloatArray, radius: float, rng: Generator) -> tuple[Point, float]:
    """A place in a lung, near a slice, and how dense it is around it, HU."""
    d, h, w = _somewhere(lungs, rng)
    z = float(canvas.z[d]) + canvas.step_mm * float(rng.uniform(-0.35, 0.35))
    centre = (float(canvas.x[w]), float(canvas.y[h]), z)
    region, share = canvas.ball(centre, (radius, radius, radius))
    return centre, float((share * canvas.values[region]).sum() / share.sum())


def look_alikes(canvas: Canvas, lungs: FloatArray, rng: Generator) -> None:
    """Scars, granulomas of a few millimetres, and crossings of vessels: in sick and healthy alike."""
    for _ in range(int(rng.poisson(0.8))):
        d, h, w = _somewhere(lungs, rng)
        at = (float(canvas.x[w]), float(canvas.y[h]), float(canvas.z[d]))
        along = rng.normal(0, 18, 2)
        canvas.tube(at, (at[0] + float(along[0]), at[1] + float(along[1]), at[2]), (1.6, 1.0), -100.0)
    for _ in range(int(rng.poisson(0.5))):
        d, h, w = _somewhere(lungs, rng)
        radius = float(rng.uniform(1.5, 3.0))
        at = (float(canvas.x[w]), float(canvas.y[h]), float(canvas.z[d]))
        canvas.ball(at, (radius, radius, radius), float(rng.uniform(150, 500)))


def coronary(canvas: Canvas, chest: Chest, rng: Generator, contrast: float | None) -> Mask:
    """Plaques along the arteries on the heart's surface; the mask is what they raise above 130 HU."""
    for start, end in _ARTERIES:
        canvas.path([_on_heart(chest, start, end, t) for t in np.linspace(0, 1, 9)], 1.8, BLOOD)
    without = canvas.values.copy()
    if contrast is None:
        return np.zeros(canvas.values.shape, np.bool_)
    for _ in range(int(rng.integers(2, 7))):
        start, end = _ARTERIES[int(rng.choice(3, p=[0.5, 0.3, 0.2]))]
        t, length = float(rng.uniform(0.05, 0.8)), float(rng.uniform(0.02, 0.07))
        ends = [_on_heart(chest, start, end, t + s) for s in (0.0, length)]
        radius = float(rng.uniform(1.6, 3.0))
        dense = float(rng.uniform(350, 950)) * min(1.0, contrast) + BLOOD * (1 - min(1.0, contrast))
        canvas.tube(ends[0], ends[1], (radius, radius * 0.8), dense)
    found: Mask = (canvas.values > AGATSTON_HU) & (without <= AGATSTON_HU)
    return found


def _on_heart(chest: Chest, start: Point, end: Point, t: float) -> Point:
    """In the fat, 3 mm off the muscle."""
    direction = np.array([a + t * (b - a) for a, b in zip(start, end, strict=True)])
    direction /= np.linalg.norm(direction)
    x, y, z = (c + (a + 3) * u for c, a, u in zip(chest.heart, chest.heart_axes, direction, strict=True))
    return float(x), float(y), float(z)


def other_calcium(canvas: Canvas, chest: Chest, rng: Generator) -> None:
    """In the aorta's wall, the mitral ring and lymph nodes at the hilum: above 130 HU, and no coronary calcium."""
    for _ in range(int(rng.poisson(1.5))):
        angle, z = float(rng.uniform(0, 6.28)), float(rng.uniform(-90, 20))
        at = (22 + 12 * np.cos(angle), 49 + 12 * np.sin(angle), z)
        canvas.ball((float(at[0]), float(at[1]), z), (2.5, 2.5, 5), float(rng.uniform(300, 900)))
    if rng.uniform() < 0.35:
        x, y, z = chest.heart
        a, b, _ = chest.heart_axes
        angles = np.linspace(0.2, 0.2 + float(rng.uniform(0.4, 1.4)), 4)
        ring = [(float(x + 0.35 * a * np.cos(t)), float(y + 0.55 * b * np.sin(t)), z + 4) for t in angles]
        canvas.path(ring, 2.2, float(rng.uniform(300, 800)))
    if rng.uniform() < 0.3:
        side = float(rng.choice([-1, 1]))
        canvas.ball((side * 32, 10, float(rng.uniform(0, 22))), (4, 4, 4), float(rng.uniform(200, 700)))


def agatston(canvas: Canvas, mask: Mask) -> float:
    """Σ over slices and plaques of area (mm²) · weight 1 … 4 by the plaque's greatest density, for slices of 3 mm.

    Agatston et al., J Am Coll Cardiol 15, 1990; plaques under 1 mm² do not count.
    """
    total, pixel = 0.0, canvas.edge**2
    for plane, inside in zip(canvas.values, mask, strict=True):
        labels, count = ndimage.label(inside, np.ones((3, 3)))
        for number in range(1, count + 1):
            own = labels == number
            area = float(own.sum()) * pixel
            if area >= 1:
                total += area * min(4, int(plane[own].max() // 100))
    return total * canvas.step_mm / _AGATSTON_MM
