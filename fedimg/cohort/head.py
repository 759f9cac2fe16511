"""A head in Hounsfield units: scalp, skull, grey and white matter, fluid, falx and tentorium, sinuses, petrous bones.

Healthy heads have what resembles a finding: calcified pineal and choroid plexus, a dense falx and venous sinuses, small
old defects, wide fluid spaces of age, and dark bands between the petrous bones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from fedimg.cohort.anatomy import Generator
from fedimg.cohort.canvas import Canvas, Point
from fedimg.values import FloatArray

SCALP, TABLE, DIPLOE, GREY, WHITE, FLUID, VEIN, FOLD = 30.0, 1200.0, 600.0, 38.0, 29.0, 8.0, 52.0, 48.0
_LOWEST = -52.0  # of the brain's hemispheres: below lie bone, air and the cerebellum


@dataclass(frozen=True, slots=True)
class Head:
    """One patient, mm.

    Attributes:
        axes: half axes of the brain. bone: thickness of the skull. age: 0 … 1, of fluid spaces.
        tilt: of the head to one side, as in a scanner, per mm of height. stain: of calcifications, 0 … 1.
    """

    axes: Point
    bone: float
    age: float
    tilt: float
    stain: float

    @classmethod
    def draw(cls, rng: Generator) -> Self:
        axes = (float(rng.uniform(63, 70)), float(rng.uniform(80, 90)), float(rng.uniform(76, 86)))
        return cls(
            axes,
            float(rng.uniform(5.5, 8)),
            float(rng.uniform()),
            float(rng.uniform(-0.06, 0.06)),
            float(rng.uniform()),
        )

    def centred(self, canvas: Canvas) -> tuple[FloatArray, FloatArray, FloatArray]:
        """x from the midline, y, z."""
        x, y, z = canvas.grid
        return x - self.tilt * z, y, z

    def depth(self, canvas: Canvas, out_mm: float = 0.0) -> FloatArray:
        """How far inside the brain's surface, mm (negative outside); (D, H, W). Narrower in front, and below."""
        x, y, z = self.centred(canvas)
        narrow = 1 - 0.10 * np.clip(-y / self.axes[1], 0, 1) - 0.12 * np.clip(-z / 60, 0, 1)
        wide, deep, high = ((a + out_mm) for a in self.axes)
        height = np.where(z > 0, z / high, z / (1.35 * high))
        radius = np.sqrt(np.square(x / (wide * narrow)) + np.square(y / deep) + np.square(height))
        found: FloatArray = ((1 - radius) * wide).astype(np.float32)
        return found


def draw_head(canvas: Canvas, head: Head, rng: Generator) -> FloatArray:
    """All of it on an empty canvas. Returns the brain's share of each voxel, its fluid left out, (D, H, W)."""
    _, _, z = head.centred(canvas)
    skin, bone = head.depth(canvas, head.bone + 6), head.depth(canvas, head.bone)
    canvas.blend(canvas.inside(skin), SCALP - 60 * canvas.inside(2.5 - np.abs(skin - 3.5)))
    canvas.blend(canvas.inside(bone), TABLE)
    canvas.blend(canvas.inside(0.2 * head.bone - np.abs(bone - 0.5 * head.bone)), DIPLOE)
    depth = head.depth(canvas)
    inside = canvas.inside(depth)
    brain = _brain(canvas, head, depth, inside, rng)
    brain *= _ventricles(canvas, head, inside)
    _folds(canvas, head, depth, inside, rng)
    _old_defects(canvas, head, inside, rng)
    _calcified(canvas, head, rng)
    _base(canvas, rng)
    brain *= z > _LOWEST
    return brain


def _brain(canvas: Canvas, head: Head, depth: FloatArray, inside: FloatArray, rng: Generator) -> FloatArray:
    """Fluid at the surface and in the furrows, a grey band under it, white within, grey nuclei in the middle."""
    x, y, z = head.centred(canvas)
    furrows = canvas.texture(rng, 13)
    rim = 1.5 + 3.5 * head.age
    tissue = canvas.inside(depth - rim - (1.5 + 3 * head.age) * np.clip(furrows, 0, 2) * (depth < 14))
    band = canvas.inside(depth - rim - 7 - 3 * canvas.texture(rng, 9))
    white = WHITE + 1.2 * canvas.texture(rng, 16)
    canvas.blend(inside, FLUID)
    canvas.blend(tissue * inside, GREY + 1.0 * canvas.texture(rng, 12))
    canvas.blend(band * tissue * inside, white)
    nuclei = np.exp(-(np.square((np.abs(x) - 22) / 9) + np.square((y + 4) / 18) + np.square((z - 2) / 14)))
    canvas.blend(np.clip(1.6 * nuclei - 0.3, 0, 1) * tissue, GREY)
    cerebellum = canvas.inside(-18 - 0.35 * y - z) * (y > 8)
    canvas.blend(cerebellum * tissue, GREY - 3 + 3 * np.cos(0.9 * (z + 0.6 * y)))
    found: FloatArray = np.asarray(tissue * inside, np.float32)
    return found


def _ventricles(canvas: Canvas, head: Head, inside: FloatArray) -> FloatArray:
    """Lateral ventricles with front and back horns, the third, the fourth and the basal cisterns; what is left of brain."""
    left = np.ones_like(inside)
    wide = 4.5 + 7 * head.age
    balls: list[tuple[Point, Point]] = [((0, 2, 2), (2 + 2.5 * head.age, 14, 11)), ((0, 36, -26), (6, 5, 8))]
    for side in (-1, 1):
        balls += [
            ((side * (4 + wide), -22, 14), (wide, 17, 10)),
            ((side * (6 + wide), 4, 22), (wide, 24, 8)),
            ((side * (15 + wide), 30, 10), (wide, 17, 11)),
            ((side * 22, -4, -30), (9 + 4 * head.age, 6, 5)),
        ]
    balls.append(((0, -2, -28), (15, 12, 8)))
    for (x, y, z), axes in balls:
        region, share = canvas.ball((x + head.tilt * z, y, z), axes)
        canvas.blend(share * inside[region], FLUID, region)
        left[region] *= 1 - share
    return left


def _folds(canvas: Canvas, head: Head, depth: FloatArray, inside: FloatArray, rng: Generator) -> None:
    """Falx, tentorium and the sinuses in them, as dense as fresh blood may be."""
    x, y, z = head.centred(canvas)
    dense = FOLD + float(rng.uniform(-4, 10))
    gap = np.clip((np.square(y / head.axes[1]) + np.square((z - 5) / head.axes[2]) - 0.30) * 4, 0, 1)
    canvas.blend(canvas.inside(2.2 - np.abs(x)) * gap * inside * (z > -20), FLUID + 6)
    canvas.blend(canvas.inside(1.1 - np.abs(x)) * gap * inside * (z > -5), dense)
    canvas.blend(
        canvas.inside(1.5 - np.abs(z + 16 + 0.35 * (y - 8) - 0.12 * np.abs(x))) * inside * (y > 14), dense
    )
    vein = VEIN + float(rng.uniform(-3, 14))
    sinus = canvas.inside(5 - np.sqrt(np.square(x) + np.square(depth - 3))) * (y > 0) * (z > -18)
    canvas.blend(sinus, vein)
    side = canvas.inside(4.5 - np.sqrt(np.square(z + 26) + np.square(depth - 3))) * (y > 30) * (np.abs(x) > 6)
    canvas.blend(side, vein)


def _old_defects(canvas: Canvas, head: Head, inside: FloatArray, rng: Generator) -> None:
    """Lacunes, as dark as fluid and a few millimetres wide, and pale white matter beside the ventricles of the old."""
    for _ in range(int(rng.poisson(1.5 * head.age))):
        place = (
            float(rng.choice([-1, 1]) * rng.uniform(14, 34)),
            float(rng.uniform(-30, 30)),
            float(rng.uniform(-5, 30)),
        )
        radius = float(rng.uniform(2, 4.5))
        region, share = canvas.ball(place, (radius, radius, radius))
        canvas.blend(share * inside[region], FLUID + 6, region)
    pale = head.age * float(rng.uniform(0, 6))
    for side in (-1, 1):
        for y in (-38, 46):
            region, share = canvas.ball((side * 24, y, 18), (12, 10, 12))
            canvas.values[region] -= pale * share * inside[region] * (canvas.values[region] > 15)


def _calcified(canvas: Canvas, head: Head, rng: Generator) -> None:
    """Pineal gland and choroid plexus, as in most adults; basal ganglia and falx in a few."""
    if head.stain < 0.8:
        radius = float(rng.uniform(2, 3.8))
        canvas.ball((0, 22, 4), (radius, radius, radius), float(rng.uniform(110, 320)))
    for side in (-1, 1):
        if rng.uniform() < 0.7:
            axes = (float(rng.uniform(2, 4)), float(rng.uniform(3, 6)), float(rng.uniform(3, 5)))
            place = (side * float(rng.uniform(18, 26)), float(rng.uniform(26, 36)), float(rng.uniform(4, 14)))
            canvas.ball(place, axes, float(rng.uniform(80, 300)))
        if head.stain > 0.75:
            canvas.ball((side * 19, -2, 4), (4, 7, 5), float(rng.uniform(55, 110)))
    if rng.uniform() < 0.25:
        canvas.ball(
            (0, float(rng.uniform(-60, -45)), float(rng.uniform(15, 45))),
            (2.5, 7, 6),
            float(rng.uniform(150, 500)),
        )


def _base(canvas: Canvas, rng: Generator) -> None:
    """Petrous bones with air cells and the band between them, the clivus, sinuses of air and the eyes."""
    band = float(rng.uniform(4, 12))
    region, share = canvas.ball((0, 14, -38), (34, 7, 9))
    canvas.values[region] -= band * share
    for side in (-1, 1):
        canvas.tube((side * 60, 24, -40), (side * 14, 4, -44), (12, 6), 900)
        for _ in range(10):
            cell = (
                side * float(rng.uniform(44, 60)),
                float(rng.uniform(18, 36)),
                float(rng.uniform(-52, -38)),
            )
            canvas.ball(cell, (3.5, 3.5, 3.5), -850)
        canvas.ball((side * 32, -70, -44), (17, 19, 14), -70)
        canvas.ball((side * 32, -76, -44), (12, 12, 12), 18)
        canvas.ball((side * 9, -66, -42), (6, 16, 16), -900)
        canvas.ball((side * 14, -92, -22), (11, 5, 12), -900)
    canvas.tube((0, 2, -36), (0, 24, -66), (10, 9), 600)
    canvas.tube((-40, -52, -34), (40, -52, -34), (5, 5), 500)
