"""Drawn marks nearer to letters than those of `synthetic_marks`: only trained on, never tested with.

Curls, combs of short strokes, fine grids, rows of crosses, dashes and traces in the size of letters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ImageDraw

from fedimg.dicom.text.synthetic_marks import drawn

FloatImage = npt.NDArray[Any]
Generator = np.random.Generator
Pen = ImageDraw.ImageDraw


def _curl(pen: Pen, rng: Generator, side: int) -> None:
    """The end of a catheter, or a tangle: one curve that winds about itself."""
    count = int(rng.integers(10, 90))
    wind = rng.uniform(-0.5, 0.5) + rng.uniform(-0.02, 0.02) * np.arange(count)
    turns = np.cumsum(wind + rng.normal(0, rng.uniform(0, 0.6), count))
    steps = np.stack([np.cos(turns), np.sin(turns)], axis=1) * rng.uniform(1, 5)
    path = rng.uniform(0, side, 2) + np.cumsum(steps, axis=0)
    pen.line([(float(x), float(y)) for x, y in path], fill=255, width=int(rng.integers(1, 5)), joint="curve")


def _comb(pen: Pen, rng: Generator, side: int) -> None:
    """A scale: short strokes at equal distances, some longer, with or without a spine, any way up."""
    start, fixed = (int(value) for value in rng.integers(-20, side, 2))
    step, length = int(rng.integers(3, 16)), int(rng.integers(2, 16))
    width, every = int(rng.integers(1, max(2, step // 2 + 1))), int(rng.choice([2, 4, 5, 10, 100]))
    upright, both, spine = rng.random(3) < (0.5, 0.3, 0.4)
    count = int(rng.integers(4, 60))
    for index in range(count):
        place = start + index * step
        reach = length * (2 if index % every == 0 else 1)
        back = reach if both else 0
        ends = (fixed - back, place, fixed + reach, place)
        pen.line(ends if upright else (place, fixed - back, place, fixed + reach), fill=255, width=width)
    if spine:
        last = start + (count - 1) * step
        pen.line((fixed, start, fixed, last) if upright else (start, fixed, last, fixed), fill=255)


def _mesh(pen: Pen, rng: Generator, side: int) -> None:
    """A fine grid, also aslant, over all or a part."""
    step, width = int(rng.integers(4, 24)), int(rng.integers(1, 3))
    lean = int(rng.integers(-side // 3, side // 3)) if rng.random() < 0.25 else 0
    x0, y0 = (int(value) for value in rng.integers(-side, side // 2, 2))
    x1, y1 = (int(value) for value in rng.integers(side // 2, 2 * side, 2))
    for place in range(y0, y1, step):
        pen.line((x0, place, x1, place + lean), fill=255, width=width)
    for place in range(x0, x1, step):
        pen.line((place, y0, place - lean, y1), fill=255, width=width)


def _crosses(pen: Pen, rng: Generator, side: int) -> None:
    """Crosses, rings or squares of one size in rows, as calibration plates and markers have."""
    size, step = int(rng.integers(2, 9)), rng.uniform(1.4, 5)
    rows, columns = int(rng.integers(1, 4)), int(rng.integers(1, 15))
    kind, width = rng.integers(0, 4), int(rng.integers(1, 3))
    at = rng.uniform(0, side, 2)
    turn = rng.uniform(0, 6.3) if rng.random() < 0.3 else float(rng.choice([0, np.pi / 2]))
    along = np.array([np.cos(turn), np.sin(turn)]) * size * 2 * step
    across = np.array([-along[1], along[0]])
    for row in range(rows):
        for column in range(columns):
            x, y = (float(value) for value in at + along * column + across * row)
            box = (x - size, y - size, x + size, y + size)
            if kind == 0:
                pen.line((x - size, y, x + size, y), fill=255, width=width)
                pen.line((x, y - size, x, y + size), fill=255, width=width)
            elif kind == 1:
                pen.ellipse(box, outline=255, width=width)
            elif kind == 2:
                pen.rectangle(box, outline=255, width=width)
            else:
                pen.rectangle(box, fill=255)


def _dashes(pen: Pen, rng: Generator, side: int) -> None:
    """A dashed or dotted line, straight at any angle."""
    at, angle = rng.uniform(0, side, 2), rng.uniform(0, 6.3)
    if rng.random() < 0.5:
        angle = float(rng.choice([0, np.pi / 2]))
    along = np.array([np.cos(angle), np.sin(angle)])
    dash, gap, width = rng.uniform(1, 14), rng.uniform(2, 10), int(rng.integers(1, 4))
    for index in range(int(rng.integers(4, 60))):
        begin = at + along * index * (dash + gap)
        end = begin + along * dash
        pen.line([float(value) for value in (*begin, *end)], fill=255, width=width)


def _trace(pen: Pen, rng: Generator, side: int) -> None:
    """A signal over time: beats as close as letters, or a jagged line, across all or a part."""
    x = np.arange(int(rng.integers(0, side // 2)), int(rng.integers(side // 2, side)))
    step, tall = rng.uniform(4, 40), rng.uniform(2, 16)
    phase = (x + rng.uniform(0, step)) % step / step
    wave = np.exp(-(((phase - 0.4) / rng.uniform(0.03, 0.2)) ** 2)) + rng.uniform(0, 0.4) * np.sin(
        phase * 6.3
    )
    if rng.random() < 0.4:
        wave = np.cumsum(rng.normal(0, 0.3, len(x))) * 0.3 + rng.normal(0, 0.3, len(x))
    y = rng.uniform(0, side) - tall * wave
    pen.line([(int(a), float(b)) for a, b in zip(x, y, strict=True)], fill=255, width=int(rng.integers(1, 3)))


def _column(pen: Pen, rng: Generator, side: int) -> None:
    """Like bodies close together, filled or hollow, in a row or a column: keys, teeth, bars, beads."""
    size = rng.integers(4, 29, 2)
    x, y = rng.integers(-10, side, 2)
    upright, hollow, gap = rng.random() < 0.5, rng.random() < 0.3, int(rng.integers(1, 9))
    loose = int(size.min()) // 6
    for _ in range(int(rng.integers(4, 20))):
        wide, tall = (int(value) for value in size + rng.integers(-loose, loose + 1, 2))
        radius = int(rng.integers(0, min(wide, tall) // 2))
        box = (int(x), int(y), int(x) + wide, int(y) + tall)
        pen.rounded_rectangle(box, radius, fill=None if hollow else 255, outline=255)
        x, y = (x, y + tall + gap) if upright else (x + wide + gap, y)


_STROKES: tuple[Callable[[Pen, Generator, int], None], ...] = (
    _curl,
    _curl,
    _comb,
    _comb,
    _mesh,
    _crosses,
    _dashes,
    _trace,
    _column,
    _column,
)


def draw_strokes(side: int, count: int, rng: Generator) -> FloatImage:
    """Coverage in [0, 1] of `count` random strokes, half of the time smoothed."""
    return drawn(_STROKES, side, count, rng)
