"""Backgrounds without text that look like text to a network: the hard ones that the detector learns on.

What a detector that knew only `synthetic_anatomy` took for lines on real images: columns of
vertebrae, parametric maps full of holes, the grey steps of noise beside a collimated field, small
images enlarged, test patterns, crossing ribs and branching vessels. Every image is (side, side)
float32, its visible range [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from fedimg.dicom.text import synthetic_anatomy

FloatImage = npt.NDArray[Any]
Generator = np.random.Generator


def _field(rng: Generator, side: int, sigma: tuple[float, float]) -> FloatImage:
    """Correlated noise of unit deviation, longer one way than the other."""
    noise = ndimage.gaussian_filter(rng.standard_normal((side, side), np.float32), sigma)
    return np.asarray(noise / (noise.std() + 1e-6), np.float32)


def _canvas(side: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("L", (side, side))
    return image, ImageDraw.Draw(image)


def _covered(image: Image.Image, rng: Generator, most: float) -> FloatImage:
    return np.asarray(
        ndimage.gaussian_filter(np.asarray(image, np.float32) / 255, rng.uniform(0.3, most)), np.float32
    )


def _soft(rng: Generator, side: int) -> FloatImage:
    """Soft tissue to put something on."""
    kind = str(rng.choice(["cr", "mr", "ct"]))
    return synthetic_anatomy.anatomy(kind, side, rng) * np.float32(rng.uniform(0.2, 0.8))


def _spine(rng: Generator, side: int) -> FloatImage:
    """A column of like bodies, a little bent, each with a rim and a marrow of its own."""
    image, pen = _canvas(side)
    inner, inner_pen = _canvas(side)
    width = rng.uniform(0.04, 0.18) * side
    height = width * rng.uniform(0.4, 1.1)
    gap, bend, lean = height * rng.uniform(0.1, 0.5), rng.uniform(-0.15, 0.15), rng.uniform(-0.2, 0.2)
    y, middle = rng.uniform(-0.2, 0.3) * side, rng.uniform(0.2, 0.8) * side
    while y < side * rng.uniform(0.7, 1.3):
        x = middle + lean * (y - side / 2) + bend * (y - side / 2) ** 2 / side
        w, h = width * rng.uniform(0.92, 1.08) / 2, height * rng.uniform(0.92, 1.08)
        radius = float(min(w, h) * rng.uniform(0.05, 0.5))
        pen.rounded_rectangle((x - w, y, x + w, y + h), radius=radius, fill=255)
        rim = max(1.0, h * rng.uniform(0.05, 0.2))
        if h > 3 * rim and w > 2 * rim:
            inner_pen.rounded_rectangle((x - w + rim, y + rim, x + w - rim, y + h - rim), radius, fill=255)
        if rng.random() < 0.5:  # processes, pedicles
            for to in (-1, 1):
                pen.ellipse(
                    (x + to * w * 1.3 - 3, y + h / 2 - 3, x + to * w * 1.3 + 3, y + h / 2 + 3), fill=200
                )
        y, height = y + h + gap, height * rng.uniform(1, 1.06)
    bodies, marrow = _covered(image, rng, 1.5), _covered(inner, rng, 1.5)
    ground = _soft(rng, side)
    grain = 1 + rng.uniform(0, 0.4) * _field(rng, side, (rng.uniform(0.7, 2), rng.uniform(0.7, 2)))
    shade = rng.uniform(-0.5, 0.8)
    result = ground + bodies * shade * grain - marrow * shade * rng.uniform(0, 1)
    result = result + rng.normal(0, rng.uniform(0.003, 0.04), (side, side))
    return np.asarray(np.rot90(result, int(rng.integers(0, 4))), np.float32)


def _map(rng: Generator, side: int) -> FloatImage:
    """A parametric map: nearly one value inside, nothing outside and in its many holes."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    inside = np.hypot(x / rng.uniform(0.4, 1.2), y / rng.uniform(0.4, 1.2)) + 0.05 * _field(
        rng, side, (6, 6)
    ) < rng.uniform(0.6, 1)
    scale = rng.uniform(0.8, 5)
    holes = _field(rng, side, (scale * rng.uniform(0.5, 2), scale)) > rng.uniform(0.6, 2.2)
    if rng.random() < 0.3:
        holes |= np.abs(_field(rng, side, (scale * 3, scale * 3))) < rng.uniform(0.02, 0.15)
    value = rng.uniform(0.3, 1) + 10 ** rng.uniform(-3, -0.8) * _field(rng, side, (2, 2))
    result: FloatImage = np.where(inside & ~holes, value, 0.0)
    if rng.random() < 0.4:
        result = result[: side // 2, : side // 2].repeat(2, axis=0).repeat(2, axis=1)
    return np.asarray(result, np.float32)


def _collimated(rng: Generator, side: int) -> FloatImage:
    """A field with soft edges beside which noise of a few grey values is all there is."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    field = np.ones((side, side), np.float32)
    for _ in range(int(rng.integers(1, 5))):
        turn = rng.choice([0, 0.5, 1, 1.5]) * np.pi + rng.normal(0, 0.03)
        away = x * np.cos(turn) + y * np.sin(turn)
        edge = (away - rng.uniform(-0.4, 0.9)) * 10 ** rng.uniform(0.7, 2.3)
        field *= 1 / (1 + np.exp(np.clip(edge, -30, 30)))
    limb = synthetic_anatomy.anatomy("cr", side, rng)
    low = rng.uniform(0, 0.15)
    result = low + field * limb * rng.uniform(0.4, 1) + low * rng.uniform(0, 0.3) * x
    scale = rng.uniform(0.3, 1.5)
    result = result + _field(rng, side, (scale, scale)) * 10 ** rng.uniform(-3.5, -1.3)
    steps = 10 ** rng.uniform(0.9, 2.4)
    return np.asarray(np.rint(result * steps) / steps, np.float32)


def _enlarged(rng: Generator, side: int) -> FloatImage:
    """A small image, its pixels repeated or smoothed between."""
    factor = int(rng.choice([2, 2, 3, 4, 5]))
    small = -(-side // factor)
    kind = str(rng.choice(synthetic_anatomy.KINDS))
    image = synthetic_anatomy.anatomy(kind, small, rng)
    if rng.random() < 0.4:
        result = image.repeat(factor, axis=0).repeat(factor, axis=1)
    else:
        result = ndimage.zoom(image, factor, order=int(rng.choice([1, 3])))
    return np.asarray(result[:side, :side], np.float32)


def _phantom(rng: Generator, side: int) -> FloatImage:
    """A test pattern: patches of grey, pairs of lines, rings, holes in rows, a grid behind them."""
    image, pen = _canvas(side)
    ground = int(rng.integers(0, 256))
    pen.rectangle((0, 0, side, side), fill=ground)
    if rng.random() < 0.5:
        step = int(rng.integers(8, 70))
        for place in range(0, side, step):
            pen.line((0, place, side, place), fill=255 - ground)
            pen.line((place, 0, place, side), fill=255 - ground)
    for _ in range(int(rng.integers(3, 14))):
        x, y = (int(value) for value in rng.integers(-10, side, 2))
        w, h = (int(value) for value in rng.integers(8, 90, 2))
        fill, choice, step = int(rng.integers(0, 256)), rng.integers(0, 4), int(rng.integers(2, 14))
        if choice == 0:
            pen.rectangle((x, y, x + w, y + h), fill=fill)
        elif choice == 1:
            for place in range(0, w, 2 * step):
                pen.rectangle((x + place, y, x + place + step - 1, y + h), fill=fill)
        elif choice == 2:
            for place in range(0, w + h, 2 * step + 2):
                pen.ellipse((x + place, y, x + place + step, y + step), fill=fill)
        else:
            pen.ellipse((x, y, x + w, y + w), outline=fill, width=int(rng.integers(1, 8)))
    result = _covered(image, rng, 1.5) + rng.normal(0, rng.uniform(0, 0.04), (side, side))
    return np.asarray(np.rot90(result, int(rng.integers(0, 4))), np.float32)


def _branches(rng: Generator, side: int) -> FloatImage:
    """Vessels, bronchi or trabeculae: trees of curves that thin out as they part."""
    image, pen = _canvas(side)

    def grow(x: float, y: float, angle: float, width: float, left: int) -> None:
        for _ in range(int(rng.integers(4, 14))):
            angle += rng.normal(0, 0.25)
            to = x + rng.uniform(2, 7) * np.cos(angle), y + rng.uniform(2, 7) * np.sin(angle)
            pen.line((x, y, *to), fill=int(rng.integers(140, 256)), width=max(1, round(width)))
            x, y = to
        if left:
            for turn in (-1, 1):
                grow(x, y, angle + turn * rng.uniform(0.2, 0.9), width * 0.75, left - 1)

    for _ in range(int(rng.integers(1, 6))):
        start = rng.uniform(0, side, 2)
        grow(start[0], start[1], rng.uniform(0, 6.3), rng.uniform(1, 5), int(rng.integers(0, 5)))
    tree = _covered(image, rng, 2)
    result = _soft(rng, side) + tree * rng.choice([-1, 1]) * rng.uniform(0.1, 0.6)
    return np.asarray(result + rng.normal(0, rng.uniform(0.002, 0.05), (side, side)), np.float32)


_KINDS: Mapping[str, Callable[[Generator, int], FloatImage]] = {
    "spine": _spine,
    "map": _map,
    "collimated": _collimated,
    "enlarged": _enlarged,
    "phantom": _phantom,
    "branches": _branches,
}
KINDS = tuple(_KINDS)


def decoy(kind: str, side: int, rng: Generator) -> FloatImage:
    """One image of a kind of `KINDS`, clipped to [−0.1, 1.3] as anatomy is."""
    return np.asarray(np.clip(_KINDS[kind](rng, side), -0.1, 1.3), np.float32)
