"""A chest in Hounsfield units: wall, ribs and spine, lungs with branching vessels, heart, great vessels and diaphragm.

The same chest is cut into slices (CT) or projected (CR). No claim of realism is made beyond what a test of the software
needs: densities, places and sizes as in an adult, and what resembles a finding without being one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from fedimg.cohort.anatomy import Generator
from fedimg.cohort.canvas import Canvas, Point
from fedimg.values import FloatArray

FAT, MUSCLE, BLOOD, LUNG, BONE, MARROW = -100.0, 50.0, 42.0, -850.0, 420.0, 170.0
_TOP, _RIB_PITCH, _VERTEBRA = 112.0, 27.0, 24.0
_HILUM = (30.0, 12.0, 0.0)


@dataclass(frozen=True, slots=True)
class Chest:
    """One patient, mm. The heart's apex lies to the left.

    Attributes:
        wide, deep: half axes of the cavity, inside the ribs, at its widest.
        fat: thickness under the skin. dome: height of the diaphragm. lean: of the spine, per mm of height.
        heart, heart_axes: centre and half axes. phase: of ribs and vertebrae.
    """

    wide: float
    deep: float
    fat: float
    dome: float
    lean: float
    heart: Point
    heart_axes: Point
    phase: float

    @classmethod
    def draw(cls, rng: Generator, ratio: float | None = None) -> Self:
        """`ratio`: the heart's width by that of the cavity; by default what most people have."""
        wide, deep = float(rng.uniform(122, 140)), float(rng.uniform(80, 94))
        share = float(rng.uniform(0.40, 0.48)) if ratio is None else ratio
        dome, half = float(rng.uniform(-78, -58)), share * wide
        # a larger heart grows to the left, and reaches deeper and higher
        centre = (
            0.28 * half + float(rng.uniform(-4, 6)),
            -22.0 + float(rng.uniform(-4, 4)),
            dome + 0.62 * half,
        )
        axes = (half, float(np.clip(0.85 * half, 44, 62)), 0.80 * half)
        return cls(
            wide, deep, float(rng.uniform(8, 22)), dome, float(rng.uniform(-0.06, 0.06)), centre, axes, float(rng.uniform(0, 6.28))
        )  # fmt: skip

    def width_at(self, z: FloatArray) -> FloatArray:
        """Share of its greatest width that the cavity has at a height: widest low, closing over the lungs' tops."""
        top = np.clip((z + 20) / (_TOP + 25), 0, 0.999)
        found: FloatArray = np.sqrt(1 - top**2.6).astype(np.float32)
        return found

    def cavity(self, canvas: Canvas, out_mm: float = 0.0, *, skin: bool = False) -> FloatArray:
        """How far inside the cavity, mm (negative outside), wider by `out_mm`; (D, H, W). The skin does not close with it."""
        x, y, z = canvas.grid
        share = self.width_at(z)
        if skin:
            share = np.maximum(share, 0.9 - 0.5 * np.clip((z - 105) / 35, 0, 1))
        wide, deep = self.wide * share + out_mm, self.deep * (0.35 + 0.65 * share) + out_mm
        # a little squarer than an ellipse, as chests are
        radius = (np.abs(x / wide) ** 2.4 + np.abs(y / deep) ** 2.4) ** np.float32(1 / 2.4)
        found: FloatArray = (1 - radius) * np.minimum(wide, deep)
        return found

    def diaphragm(self, canvas: Canvas) -> FloatArray:
        """Height of the diaphragm below each lung, (1, H, W): two domes, the right one higher."""
        x, y, _ = canvas.grid
        fall = 34 * (np.square(y + 6) / self.deep**2) + 30 * np.square((np.abs(x) - 62) / 70)
        found: FloatArray = self.dome + np.where(x < 0, 8, 0) - fall
        return found


def draw_chest(canvas: Canvas, chest: Chest, rng: Generator) -> FloatArray:
    """All of it on an empty canvas. Returns the lungs' share of each voxel, (D, H, W)."""
    soft = MUSCLE + 8 * canvas.texture(rng, 30)
    _wall(canvas, chest, soft)
    inner = canvas.inside(chest.cavity(canvas))
    mediastinum = 0.5 * (BLOOD - 30) + 45 * canvas.texture(rng, 22)  # fat and vessels, mixed
    canvas.blend(inner, np.minimum(mediastinum, 45))
    lungs = _lungs(canvas, chest, inner)
    below = inner * canvas.inside(chest.diaphragm(canvas) - canvas.grid[2])
    canvas.blend(below, 55 + 6 * canvas.texture(rng, 25))  # liver, stomach, spleen
    _great_vessels(canvas, chest)
    _airways(canvas)
    _heart(canvas, chest, rng)
    _spine(canvas, chest)
    air = LUNG + 22 * canvas.texture(rng, 14) + 0.35 * canvas.grid[1]  # denser where the patient lies on it
    canvas.blend(lungs, air)
    without = canvas.values.copy()
    for side in (-1, 1):
        _tree(canvas, chest, side, rng)
    canvas.values = without + lungs * (canvas.values - without)
    return lungs


def _wall(canvas: Canvas, chest: Chest, soft: FloatArray) -> None:
    """Skin and fat, muscle, and ribs that run down to the front, with gaps between; the sternum closes them."""
    x, y, z = canvas.grid
    skin = chest.cavity(canvas, 13 + chest.fat, skin=True)
    canvas.blend(canvas.inside(skin), FAT)
    canvas.blend(canvas.inside(skin - chest.fat), soft)
    depth = chest.cavity(canvas, 9)
    ring = canvas.inside(4.5 - np.abs(depth - 4.5))
    height = z + 0.42 * y + 0.05 * np.abs(x)
    wave = np.cos(2 * np.pi * height / _RIB_PITCH + chest.phase)
    bone = ring * np.clip(4 * (wave - 0.25), 0, 1)
    front = np.clip((-y - 0.72 * chest.deep) / 12, 0, 1)  # cartilage: no more than dense muscle
    canvas.blend(bone, BONE * (1 - front) + 90 * front)
    canvas.blend(canvas.inside(1.8 - np.abs(depth - 4.5)) * bone * (1 - front), MARROW)
    canvas.ball((0, -chest.deep - 6, 20), (17, 6, 75), MARROW + 40)
    for side in (-1, 1):  # shoulder blades
        canvas.tube((70 * side, chest.deep + 8, 20), (118 * side, chest.deep - 28, 108), (4, 5), BONE)
        canvas.tube((14 * side, -0.6 * chest.deep, 82), (130 * side, -10, 100), (5, 6), BONE)  # collar bone


def _lungs(canvas: Canvas, chest: Chest, inner: FloatArray) -> FloatArray:
    """What of the cavity is lung: outside the mediastinum, above the diaphragm."""
    x, y, z = canvas.grid
    half = 20 + 10 * np.exp(-np.square((z - 30) / 40)) + 12 * np.clip(-z / 90, 0, 1)
    # the mediastinum is wide before the spine and at the hilum, thin at the front
    half = half * (1 - 0.45 * np.clip(-(y + 15) / 60, 0, 1)) + 4 * np.clip((y - 30) / 30, 0, 1)
    aside = canvas.inside(np.abs(x - 3) - half)
    above = canvas.inside(z - chest.diaphragm(canvas))
    walls = canvas.inside(chest.cavity(canvas, -3.0))
    heart = np.ones_like(inner)
    region, share = canvas.ball(chest.heart, tuple(a + 5 for a in chest.heart_axes))  # type: ignore[arg-type]
    heart[region] -= share
    found: FloatArray = np.asarray(inner * aside * above * walls * heart, np.float32)
    return found


def _great_vessels(canvas: Canvas, chest: Chest) -> None:
    """Aorta: up from the heart, over, and down beside the spine; the pulmonary trunk; the superior vena cava."""
    root = (chest.heart[0] - 0.35 * chest.heart_axes[0], chest.heart[1], min(chest.heart[2], 5.0))
    canvas.path(
        [root, (-12, -22, 38), (-4, -14, 54), (12, 14, 58), (24, 40, 46), (24, 48, 20), (20, 50, -110)],
        13,
        BLOOD,
    )
    canvas.path([(12, -28, 0), (14, -20, 26), (-30, 5, 14)], 11, BLOOD)
    canvas.path([(14, -20, 26), (34, 8, 14)], 10, BLOOD)
    canvas.tube((-26, -8, -15), (-24, -10, 80), (9, 9), BLOOD)


def _heart(canvas: Canvas, chest: Chest, rng: Generator) -> None:
    """In a coat of fat; muscle a little denser than blood."""
    axes = chest.heart_axes
    canvas.ball(chest.heart, (axes[0] + 5, axes[1] + 5, axes[2] + 4), FAT + 15)
    region, share = canvas.ball(chest.heart, axes)
    canvas.blend(share, (BLOOD + 5 * canvas.texture(rng, 20))[region], region)


def _spine(canvas: Canvas, chest: Chest) -> None:
    x, y, z = canvas.grid
    middle, back = chest.lean * z, 0.80 * chest.deep - 8
    radius = np.sqrt(np.square((x - middle) / 18) + np.square((y - back) / 15))
    wave = np.cos(2 * np.pi * z / _VERTEBRA + chest.phase)
    disc = np.clip(3 * (-wave - 0.6), 0, 1)
    body = canvas.inside(1 - radius, 15)
    canvas.blend(body, MARROW * (1 - disc) + 70 * disc)
    canvas.blend(canvas.inside(0.12 - np.abs(0.93 - radius), 15) * (1 - disc), BONE)
    arch = np.sqrt(np.square((x - middle) / 17) + np.square((y - back - 24) / 12))
    canvas.blend(canvas.inside(1 - arch, 12) * np.clip(wave + 0.6, 0, 1), BONE)
    canvas.blend(canvas.inside(1 - np.sqrt(np.square(x - middle) + np.square(y - back - 22)) / 8, 8), 30)


def _airways(canvas: Canvas) -> None:
    canvas.tube((0, 14, 18), (0, 18, 115), (9, 9), -990)
    for side in (-1, 1):
        canvas.tube((0, 14, 18), (38 * side, 14, -6), (6.5, 4.5), -990)
        canvas.tube((38 * side, 14, -6), (62 * side, 20, -35), (3.5, 2), -980)


def _tree(canvas: Canvas, chest: Chest, side: int, rng: Generator) -> None:
    """Vessels from the hilum outwards, each parting in two or three until they are a millimetre thin."""
    ends = [
        (0.72 * chest.wide * side, y, z)
        for y, z in ((-45, 45), (20, 75), (-50, -15), (45, 10), (55, -50), (0, -65), (-5, 20))
    ]
    for goal in ends:
        # one below the other, and not all from one place
        start = (_HILUM[0] * side, _HILUM[1] + 0.3 * goal[1], _HILUM[2] + 0.35 * goal[2])
        _branch(canvas, start, goal, 3.5, rng)


def _branch(canvas: Canvas, start: Point, goal: Point, radius: float, rng: Generator) -> None:
    if radius < 1.0:
        return
    share = rng.uniform(0.3, 0.45)
    jitter = rng.normal(0, 5 + radius, 3)
    end = tuple(a + share * (b - a) + j for a, b, j in zip(start, goal, jitter, strict=True))
    node = (end[0], end[1], end[2])
    thin = radius * float(rng.uniform(0.68, 0.80))
    canvas.tube(start, node, (radius, thin), BLOOD)
    for _ in range(2):
        spread = rng.normal(0, 26, 3)
        further = (goal[0] + spread[0], goal[1] + spread[1], goal[2] + spread[2])
        _branch(canvas, node, further, thin * float(rng.uniform(0.8, 0.95)), rng)
