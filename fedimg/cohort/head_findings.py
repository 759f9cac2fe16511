"""Strokes: fresh blood in the brain or beneath the skull, and an artery's territory that has gone dark."""

from __future__ import annotations

import numpy as np

from fedimg.cohort.anatomy import Generator, Mask
from fedimg.cohort.canvas import Canvas
from fedimg.cohort.head import Head
from fedimg.values import FloatArray

BLOOD_HU, INFARCT_HU = (50.0, 90.0), (15.0, 25.0)


def haemorrhage(
    canvas: Canvas, head: Head, brain: FloatArray, rng: Generator, contrast: float | None
) -> Mask:
    """Three in four lie in the brain, with a dark rim of oedema; the others are a crescent beneath the skull."""
    nothing = np.zeros(canvas.values.shape, np.bool_)
    if contrast is None:
        return nothing
    density = np.clip(float(rng.uniform(54, 80)) + 3 * canvas.texture(rng, 8), 51, 89)
    side = float(rng.choice([-1, 1]))
    if rng.uniform() < 0.75:
        share, rim = _in_brain(canvas, head, brain, side, rng)
        canvas.values -= min(1.0, contrast) * 9 * np.clip(rim - share, 0, 1) * (canvas.values > 24)
    else:
        share = _beneath_skull(canvas, head, side, rng)
    canvas.blend(min(1.0, contrast) * share, density)
    return np.asarray(share > 0.5)


def _in_brain(
    canvas: Canvas, head: Head, brain: FloatArray, side: float, rng: Generator
) -> tuple[FloatArray, FloatArray]:
    """A lobed ball in the nuclei, a lobe or the cerebellum, and the same 4 mm wider."""
    centres = ((26.0, -2.0, 4.0), (40.0, 30.0, 26.0), (34.0, -36.0, 28.0), (26.0, 48.0, -34.0))
    where = centres[int(rng.choice(4, p=[0.4, 0.25, 0.25, 0.1]))]
    x0, y0, z0 = (float(c * s + rng.normal(0, 4)) for c, s in zip(where, (side, 1, 1), strict=True))
    radii = rng.uniform(6, 20) * rng.uniform(0.75, 1.2, 3)
    x, y, z = head.centred(canvas)
    lobes = 1 + 0.12 * np.cos(3 * np.arctan2(y - y0, x - x0) + float(rng.uniform(0, 6.28)))
    parts = zip((x, y, z), (x0, y0, z0), radii, strict=True)
    radius = np.sqrt(sum(np.square((axis - c) / r) for axis, c, r in parts)) / lobes
    scale = float(radii.min())
    share = canvas.inside(1 - radius, scale) * brain
    rim = canvas.inside(1 + 4 / scale - radius, scale) * brain
    return share, rim


def _beneath_skull(canvas: Canvas, head: Head, side: float, rng: Generator) -> FloatArray:
    """Between brain and bone over a part of one side, thickest in its middle."""
    x, y, z = head.centred(canvas)
    depth = head.depth(canvas)
    thick, middle = float(rng.uniform(7, 13)), float(rng.uniform(-0.7, 0.9))
    angle = np.arctan2(y / head.axes[1], side * x / head.axes[0])  # 0 at the side, ± π/2 front and back
    along = np.square((angle - middle) / float(rng.uniform(0.7, 1.1))) + np.square(
        (z - 28) / float(rng.uniform(28, 40))
    )
    crescent = thick * np.clip(1 - along, 0, None)
    share = canvas.inside(crescent - depth) * canvas.inside(depth) * (crescent > 2)
    found: FloatArray = np.asarray(share, np.float32)
    return found


def infarct(canvas: Canvas, head: Head, brain: FloatArray, rng: Generator, contrast: float | None) -> Mask:
    """A wedge from the middle to the surface of one side; grey and white become one, and the furrows close."""
    if contrast is None:
        return np.zeros(canvas.values.shape, np.bool_)
    side, density = float(rng.choice([-1, 1])), float(rng.uniform(17, 23))
    # middle, posterior and anterior cerebral artery: direction from the side, half angle, height
    middle, half, height = ((-0.1, 0.55, 18.0), (1.15, 0.33, 10.0), (-1.2, 0.30, 26.0))[
        int(rng.choice(3, p=[0.6, 0.2, 0.2]))
    ]
    middle, half = middle + float(rng.normal(0, 0.12)), half * float(rng.uniform(0.5, 1.2))
    x, y, z = head.centred(canvas)
    sideways = side * x / head.axes[0]
    radius, angle = (
        np.sqrt(np.square(sideways) + np.square(y / head.axes[1])),
        np.arctan2(y / head.axes[1], sideways),
    )
    within = canvas.inside((half - np.abs(angle - middle)) * radius, 60) * canvas.inside(radius - 0.42, 65)
    tall = float(rng.uniform(10, 28))
    within = (
        within
        * canvas.inside(tall - np.abs(z - height - float(rng.normal(0, 6))))
        * canvas.inside(side * x - 4)
    )
    share = np.asarray(within * (head.depth(canvas) > 1) * np.clip(brain * 1.5, 0, 1), np.float32)
    canvas.blend(min(1.0, contrast) * share, np.clip(density + 1.0 * canvas.texture(rng, 10), 15.5, 24.5))
    return np.asarray(share > 0.5)
