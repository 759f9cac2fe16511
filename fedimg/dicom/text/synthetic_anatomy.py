"""Generated anatomy without text: the backgrounds that the text detector learns on.

Five kinds, none of them a simulation of physics: they carry what a detector could take for
letters (bone edges, trabeculae, vessels, speckle, rings, ribs, noise) in the size images have it.
Every image is (side, side) float32, its visible range [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

FloatImage = npt.NDArray[Any]
Generator = np.random.Generator


def _grid(side: int) -> tuple[FloatImage, FloatImage]:
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    return axis[:, None], axis[None, :]


def _smooth(rng: Generator, side: int, sigma: float) -> FloatImage:
    """Correlated noise of unit deviation, made coarsely where it is coarse."""
    step = max(1, int(sigma / 3))
    coarse = rng.normal(size=(side // step + 2, side // step + 2)).astype(np.float32)
    field = ndimage.zoom(ndimage.gaussian_filter(coarse, sigma / step), step, order=1)[:side, :side]
    return np.asarray(field / (field.std() + 1e-6), np.float32)


def _ellipse(rng: Generator, side: int, centre: float, least: float, most: float) -> FloatImage:
    """Soft-edged ellipse with a wavy rim: 1 inside, 0 outside."""
    y, x = _grid(side)
    cy, cx = rng.uniform(-centre, centre, 2)
    a, b = rng.uniform(least, most, 2)
    turn = rng.uniform(0, np.pi)
    u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
    v = -(x - cx) * np.sin(turn) + (y - cy) * np.cos(turn)
    theta = np.arctan2(v, u)
    wave = 1 + rng.uniform(0, 0.12) * np.sin(rng.integers(2, 7) * theta + rng.uniform(0, 6))
    radius = np.hypot(u / a, v / b) / wave
    sharp = rng.uniform(8, 120)
    return np.asarray(1 / (1 + np.exp(np.clip((radius - 1) * sharp, -30, 30))), np.float32)


def _texture(rng: Generator, side: int) -> FloatImage:
    """Trabeculae, vessels or parenchyma: bands of correlated noise."""
    field = _smooth(rng, side, rng.uniform(0.8, 4))
    if rng.random() < 0.5:
        field = np.exp(-np.abs(field) * rng.uniform(1, 5)).astype(np.float32)
    return field


def _ct(rng: Generator, side: int) -> FloatImage:
    body = _ellipse(rng, side, 0.1, 0.6, 0.95)
    image = body * rng.uniform(0.3, 0.6)
    for _ in range(rng.integers(3, 12)):
        image += _ellipse(rng, side, 0.6, 0.04, 0.35) * body * rng.uniform(-0.35, 0.3)
    for _ in range(rng.integers(0, 10)):  # ribs, spine, skull: bright with a texture of their own
        bone = _ellipse(rng, side, 0.8, 0.02, 0.15)
        image = image * (1 - bone) + bone * (rng.uniform(0.8, 1.2) + 0.15 * _texture(rng, side))
    if rng.random() < 0.3:
        shell = body - ndimage.grey_erosion(body, size=(9, 9))
        image += shell * rng.uniform(0.3, 0.9)
    if rng.random() < 0.3:
        image += body * 0.12 * _texture(rng, side)
    if rng.random() < 0.2:
        y, x = _grid(side)
        rings = np.sin(np.hypot(x - rng.uniform(-0.1, 0.1), y) * rng.uniform(60, 400))
        image += rings * rng.uniform(0.01, 0.06)
    if rng.random() < 0.15:  # streaks from metal
        y, x = _grid(side)
        angle = np.arctan2(y - rng.uniform(-0.5, 0.5), x - rng.uniform(-0.5, 0.5))
        image += np.sin(angle * rng.integers(10, 60)) * rng.uniform(0.02, 0.15)
    noise = _smooth(rng, side, rng.uniform(0.3, 1.2)) * rng.uniform(0.003, 0.06)
    return np.asarray(image + noise, np.float32)


def _cr(rng: Generator, side: int) -> FloatImage:
    y, x = _grid(side)
    image = 0.5 + 0.2 * _smooth(rng, side, side / 4)
    for _ in range(rng.integers(2, 8)):
        image += _ellipse(rng, side, 0.8, 0.1, 0.7) * rng.uniform(-0.3, 0.3)
    for index in range(rng.integers(0, 14)):  # ribs: overlapping curved bands
        curve = rng.uniform(-0.8, 0.8) * x**2 + rng.uniform(-0.3, 0.3) * x
        distance = np.abs(y - (index / 7 - 1) - curve + rng.uniform(-0.1, 0.1))
        width = rng.uniform(0.02, 0.08)
        image += np.clip((width - distance) * rng.uniform(10, 60), 0, 1) * rng.uniform(0.05, 0.2)
    if rng.random() < 0.5:
        image += 0.08 * _texture(rng, side) * _ellipse(rng, side, 0.6, 0.1, 0.5)
    for _ in range(rng.integers(0, 4)):
        image = np.maximum(image, _ellipse(rng, side, 0.9, 0.01, 0.12) * rng.uniform(0.8, 1.2))
    if rng.random() < 0.3:  # collimation
        edge = rng.uniform(0.6, 0.98)
        image = np.where(
            (np.abs(x) < edge) & (np.abs(y) < edge * rng.uniform(0.8, 1.1)), image, rng.choice([0, 1])
        )
    noise = rng.normal(size=(side, side)) * rng.uniform(0.002, 0.05)
    return np.asarray(image + noise, np.float32)


def _mr(rng: Generator, side: int) -> FloatImage:
    head = _ellipse(rng, side, 0.1, 0.55, 0.9)
    folds = np.tanh(_smooth(rng, side, rng.uniform(2, 9)) * rng.uniform(1, 6))
    image = head * (rng.uniform(0.3, 0.6) + rng.uniform(0.05, 0.3) * folds)
    for _ in range(rng.integers(1, 6)):
        image += _ellipse(rng, side, 0.4, 0.03, 0.25) * head * rng.uniform(-0.5, 0.6)
    if rng.random() < 0.4:
        image += np.roll(image, side // 2, axis=int(rng.integers(0, 2))) * rng.uniform(0.02, 0.15)
    image *= 1 + 0.3 * _smooth(rng, side, side / 3)
    sigma = rng.uniform(0.005, 0.07)
    real, imaginary = rng.normal(0, sigma, (2, side, side))
    return np.asarray(np.hypot(image + real, imaginary), np.float32)


def _us(rng: Generator, side: int) -> FloatImage:
    echo = 0.5 + 0.3 * _smooth(rng, side, rng.uniform(5, 25))
    for _ in range(rng.integers(1, 6)):
        echo *= 1 - _ellipse(rng, side, 0.7, 0.05, 0.4) * rng.uniform(0.3, 1)
    for _ in range(rng.integers(0, 4)):
        echo += _ellipse(rng, side, 0.8, 0.01, 0.3) * rng.uniform(0.2, 0.8)
    grain = rng.uniform(0.4, 2.0), rng.uniform(0.8, 4.0)
    real, imaginary = (ndimage.gaussian_filter(rng.normal(size=(side, side)), grain) for _ in range(2))
    speckle = np.hypot(real, imaginary)
    image = np.clip(echo, 0.01, None) * speckle / speckle.mean()
    image = np.log1p(image * rng.uniform(2, 20)) / np.log(12)
    if rng.random() < 0.7:
        y, x = _grid(side)
        depth, angle = np.hypot(x, y + 1.1), np.arctan2(x, y + 1.1)
        image *= (np.abs(angle) < rng.uniform(0.4, 0.9)) & (depth > rng.uniform(0.1, 0.4)) & (depth < 2)
    return np.asarray(image, np.float32)


def _plain(rng: Generator, side: int) -> FloatImage:
    """Flat ground, ramps, pure noise, gratings and blobs: what stands around an image and what is none."""
    choice = rng.integers(0, 6)
    y, x = _grid(side)
    image: FloatImage = np.full((side, side), rng.uniform(0, 1), np.float32)
    if choice == 1:
        image = image + rng.uniform(-0.5, 0.5) * x + rng.uniform(-0.5, 0.5) * y
    if choice == 2:
        image = image + _smooth(rng, side, rng.uniform(0.3, 3)) * rng.uniform(0.05, 0.5)
    if choice == 3:
        waves = np.sin((x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1)) * rng.uniform(20, 500))
        image = image + waves * rng.uniform(0.02, 0.4)
        if rng.random() < 0.5:
            image = image + np.sin(x * rng.uniform(20, 500)) * rng.uniform(0.02, 0.4)
    if choice == 4:
        image = (_smooth(rng, side, rng.uniform(0.7, 8)) > rng.uniform(-1, 2)) * rng.uniform(0.2, 1) + 0.1
    if choice == 5:
        size = int(rng.integers(1, 16))
        cells = rng.integers(0, 2, (side // size + 1, side // size + 1)) * rng.uniform(0.2, 1)
        image = cells.repeat(size, axis=0).repeat(size, axis=1)[:side, :side]
        image = ndimage.gaussian_filter(image, rng.uniform(0, 1.5) + 0.01)
    if rng.random() < 0.7:
        image = image + rng.normal(size=(side, side)) * rng.uniform(0, 0.06)
    return np.asarray(image, np.float32)


_KINDS: Mapping[str, Callable[[Generator, int], FloatImage]] = {
    "ct": _ct,
    "cr": _cr,
    "mr": _mr,
    "us": _us,
    "plain": _plain,
}
KINDS = tuple(_KINDS)


def anatomy(kind: str, side: int, rng: Generator) -> FloatImage:
    """One image of a kind of `KINDS`, clipped to [−0.1, 1.3]: a little beyond what a display shows."""
    return np.asarray(np.clip(_KINDS[kind](rng, side), -0.1, 1.3), np.float32)
