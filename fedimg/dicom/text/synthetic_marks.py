"""Marks that are no text: rulers, grids, frames, arrows, calipers, wires, traces, wedges, screws.

The text detector must leave them alone, so it is trained and tested on images that have them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

FloatImage = npt.NDArray[Any]
Generator = np.random.Generator
Pen = ImageDraw.ImageDraw


def _ruler(pen: Pen, rng: Generator, side: int) -> None:
    start, fixed = rng.integers(0, side, 2)
    step, length, every = rng.integers(3, 24), rng.integers(2, 10), rng.integers(2, 11)
    upright, line = rng.random() < 0.5, rng.random() < 0.5
    width = int(rng.integers(1, 3))
    places = range(int(start), int(min(side, start + step * rng.integers(5, 40))), int(step))
    for index, place in enumerate(places):
        reach = length * (2 if index % every == 0 else 1)
        ends = (fixed, place, fixed + reach, place) if upright else (place, fixed, place, fixed + reach)
        pen.line([int(end) for end in ends], fill=255, width=width)
    if line and places:
        ends = (fixed, start, fixed, places[-1]) if upright else (start, fixed, places[-1], fixed)
        pen.line([int(end) for end in ends], fill=255, width=width)


def _dots(pen: Pen, rng: Generator, side: int) -> None:
    y, x = rng.integers(0, side, 2)
    step = rng.integers(3, 20, 2) * rng.choice([0, 1, 1], 2)
    size = int(rng.integers(1, 4))
    for index in range(rng.integers(4, 40)):
        at = (int(x + index * step[0]), int(y + index * step[1]))
        pen.rectangle((at[0], at[1], at[0] + size - 1, at[1] + size - 1), fill=255)


def _lines(pen: Pen, rng: Generator, side: int) -> None:
    for _ in range(rng.integers(1, 8)):
        pen.line(
            [int(end) for end in rng.integers(-10, side + 10, 4)], fill=255, width=int(rng.integers(1, 5))
        )


def _grid(pen: Pen, rng: Generator, side: int) -> None:
    step, width = int(rng.integers(6, 60)), int(rng.integers(1, 3))
    for place in range(int(rng.integers(0, step)), side, step):
        pen.line((0, place, side, place), fill=255, width=width)
        pen.line((place, 0, place, side), fill=255, width=width)


def _shapes(pen: Pen, rng: Generator, side: int) -> None:
    for _ in range(rng.integers(1, 6)):
        y, x = rng.integers(0, side, 2)
        h, w = rng.integers(3, 60, 2)
        box, width = (int(x), int(y), int(x + w), int(y + h)), int(rng.integers(1, 4))
        draw = rng.choice(["ellipse", "rectangle", "arc", "filled"])
        if draw == "filled":
            pen.rectangle(box, fill=255)
        elif draw == "arc":
            pen.arc(box, int(rng.integers(0, 360)), int(rng.integers(0, 720)), fill=255, width=width)
        else:
            getattr(pen, draw)(box, outline=255, width=width)


def _calipers(pen: Pen, rng: Generator, side: int) -> None:
    size, width = int(rng.integers(2, 8)), int(rng.integers(1, 3))
    ends = rng.integers(0, side, (int(rng.integers(1, 4)), 2))
    for x, y in ends.tolist():
        if rng.random() < 0.5:
            pen.line((x - size, y, x + size, y), fill=255, width=width)
            pen.line((x, y - size, x, y + size), fill=255, width=width)
        else:
            pen.line((x - size, y - size, x + size, y + size), fill=255, width=width)
            pen.line((x - size, y + size, x + size, y - size), fill=255, width=width)


def _arrow(pen: Pen, rng: Generator, side: int) -> None:
    tip = rng.uniform(0, side, 2)
    angle, length, width = rng.uniform(0, 6.3), rng.uniform(8, 50), int(rng.integers(1, 4))
    for turn, reach in ((0.0, length), (0.5, length / 3), (-0.5, length / 3)):
        end = tip + reach * np.array([np.cos(angle + turn), np.sin(angle + turn)])
        pen.line([float(value) for value in (*tip, *end)], fill=255, width=width)


def _wire(pen: Pen, rng: Generator, side: int) -> None:
    """A catheter, a lead, a trace: one long smooth or jagged curve."""
    count = int(rng.integers(8, 120))
    jag = rng.uniform(0, 0.4) if rng.random() < 0.5 else 0.0
    turns = np.cumsum(np.cumsum(rng.normal(0, 0.05, count))) + rng.normal(0, jag * 3, count)
    steps = np.stack([np.cos(turns), np.sin(turns)], axis=1) * rng.uniform(1.5, 8)
    path = rng.uniform(0, side, 2) + np.cumsum(steps, axis=0)
    pen.line([(float(x), float(y)) for x, y in path], fill=255, width=int(rng.integers(1, 5)), joint="curve")


def _beats(pen: Pen, rng: Generator, side: int) -> None:
    """An ECG or a pulse: spikes at equal distances on a base line."""
    y, step, tall = rng.integers(0, side), int(rng.integers(8, 60)), rng.uniform(4, 30)
    x = np.arange(side)
    phase = (x + rng.integers(0, step)) % step / step
    beat = np.exp(-(((phase - 0.4) / 0.03) ** 2)) - 0.3 * np.exp(-(((phase - 0.5) / 0.04) ** 2))
    beat += 0.15 * np.exp(-(((phase - 0.75) / 0.08) ** 2))
    pen.line([(int(a), float(y - tall * b)) for a, b in zip(x, beat, strict=True)], fill=255, width=1)


def _wedge(pen: Pen, rng: Generator, side: int) -> None:
    """A grey scale, smooth or in steps."""
    y, x = (int(value) for value in rng.integers(0, side, 2))
    width, length, steps = int(rng.integers(4, 24)), int(rng.integers(30, 200)), int(rng.choice([8, 16, 64]))
    upright = rng.random() < 0.7
    for index in range(steps):
        a, b = index * length // steps, (index + 1) * length // steps
        box = (x, y + a, x + width, y + b) if upright else (x + a, y, x + b, y + width)
        pen.rectangle(box, fill=int(255 * (index + 1) / steps))


def _screw(pen: Pen, rng: Generator, side: int) -> None:
    """A row of like strokes at equal distances: threads, staples, coils, teeth of a comb."""
    start = rng.uniform(0, side, 2)
    angle, step = rng.uniform(0, 6.3), rng.uniform(3, 10)
    along = np.array([np.cos(angle), np.sin(angle)])
    lean = angle + rng.choice([np.pi / 2, rng.uniform(0.5, 2.5)])
    across = np.array([np.cos(lean), np.sin(lean)]) * rng.uniform(2, 10)
    width = int(rng.integers(1, 4))
    for index in range(rng.integers(4, 25)):
        at = start + along * step * index
        pen.line([float(value) for value in (*(at - across), *(at + across))], fill=255, width=width)


def _blocks(pen: Pen, rng: Generator, side: int) -> None:
    """A column of like bodies with gaps between them: vertebrae, teeth, buttons, keys."""
    at = rng.uniform(0, side, 2)
    lean, size = rng.normal(0, 0.1), rng.uniform(6, 30, 2)
    step = size[1] * rng.uniform(1.1, 1.6)
    upright, fill = rng.random() < 0.5, int(rng.integers(60, 256))
    for index in range(int(rng.integers(4, 14))):
        along = index * step
        x, y = (at[0] + lean * along, at[1] + along) if upright else (at[0] + along, at[1] + lean * along)
        w, h = (size[0], size[1]) if upright else (size[1], size[0])
        w, h = w * rng.uniform(0.9, 1.1), h * rng.uniform(0.9, 1.1)
        pen.rounded_rectangle(
            (x, y, x + w, y + h), radius=float(min(w, h) * rng.uniform(0.05, 0.5)), fill=fill
        )


_MARKS: tuple[Callable[[Pen, Generator, int], None], ...] = (
    _ruler,
    _ruler,
    _dots,
    _lines,
    _grid,
    _shapes,
    _calipers,
    _arrow,
    _wire,
    _beats,
    _wedge,
    _screw,
    _blocks,
)


def draw_marks(side: int, count: int, rng: Generator) -> FloatImage:
    """Coverage in [0, 1] of `count` random marks, half of the time smoothed."""
    return drawn(_MARKS, side, count, rng)


def drawn(
    marks: Sequence[Callable[[Pen, Generator, int], None]], side: int, count: int, rng: Generator
) -> FloatImage:
    """The same of a choice of marks."""
    smooth = 2 if rng.random() < 0.5 else 1
    image = Image.new("L", (side * smooth, side * smooth))
    pen = ImageDraw.Draw(image)
    for _ in range(count):
        marks[int(rng.integers(0, len(marks)))](pen, rng, side * smooth)
    if smooth == 2:
        image = image.reduce(2)
    return np.asarray(image, np.float32) / 255
