"""Anatomy and text for the detector's evaluation: made in other ways than what it was trained on.

Anatomy comes from Voronoi tissues and branching vessels (CT), line integrals through solids (CR),
band-passed folds with a cut-off spectrum (MR) and point scatterers in polar coordinates (US).
Every image is (side, side) float32 with its visible range [0, 1]. Names, dates and labels are lists
and formats of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage, spatial

FloatImage = npt.NDArray[Any]
Generator = np.random.Generator

_FAMILY = (
    "Kowalski",
    "Nguyen",
    "O'Brien",
    "Schmidt",
    "Okafor",
    "Haddad",
    "Fernandez",
    "Ivanova",
    "Yamamoto",
    "Lindqvist",
    "van der Berg",
    "Papadaki",
    "Singh",
    "MacLeod",
    "Tanaka",
    "Rossi",
    "Dubois",
    "Novak",
)
_GIVEN = (
    "Anna",
    "Minh",
    "Sean",
    "Jürgen",
    "Chidi",
    "Layla",
    "José",
    "Olga",
    "Kenji",
    "Astrid",
    "Eleni",
    "Raj",
)
_MONTHS = ("JAN", "Feb", "MAR", "Apr", "MAY", "Jun", "JUL", "Aug", "SEP", "Oct", "NOV", "Dec")
_PLACES = ("St. Mary's Hospital", "UNIV. CLINIC", "General Hospital Radiology", "Dept. of Imaging", "Ward 7B")
_SETTINGS = (
    "MI 1.2 TIs 0.3",
    "kVp: 120",
    "FOV 250x250",
    "Se: 3 Im: 17",
    "C 40 W 400",
    "PORTABLE AP",
    "SUPINE",
)


def text(rng: Generator) -> str:
    """A line as it stands on images: 4 to about 30 characters."""
    family, given = str(rng.choice(_FAMILY)), str(rng.choice(_GIVEN))
    day, year = int(rng.integers(1, 29)), int(rng.integers(1920, 2025))
    number = int(rng.integers(10_000, 99_999_999))
    month = str(rng.choice(_MONTHS))
    return str(
        rng.choice(
            [
                f"{family}, {given}",
                f"{family.upper()}^{given.upper()}",
                f"{given} {family}",
                f"DOB {day:02d}-{month}-{year}",
                f"{day:02d} {month} {year}",
                f"{year}.{rng.integers(1, 13):02d}.{day:02d} {rng.integers(0, 24):02d}:{rng.integers(0, 60):02d}",
                f"MRN {number}",
                str(number),
                f"Acc {number:08d}A",
                str(rng.choice(_PLACES)),
                str(rng.choice(_SETTINGS)),
                family.upper(),
            ]
        )
    )


def _noise(rng: Generator, side: int, sigma: float) -> FloatImage:
    field = ndimage.gaussian_filter(rng.standard_normal((side, side), np.float32), sigma)
    return np.asarray(field / field.std(), np.float32)


def _ct(rng: Generator, side: int) -> FloatImage:
    y, x = np.mgrid[:side, :side].astype(np.float32)
    theta = np.arctan2(y - side / 2, x - side / 2)
    rim = side * (0.4 + 0.03 * np.cos(2 * theta + rng.uniform(0, 6)) + 0.02 * np.sin(3 * theta))
    radius = np.hypot(y - side / 2, (x - side / 2) * rng.uniform(0.8, 1))
    body = radius < rim
    seeds = rng.uniform(0, side, (int(rng.integers(8, 40)), 2))
    label = spatial.cKDTree(seeds).query(
        np.stack([y, x], axis=-1) + 4 * np.stack([_noise(rng, side, 8), _noise(rng, side, 8)], axis=-1)
    )[1]
    tissue = rng.choice([0.15, 0.45, 0.5, 0.55, 0.6, 0.7], len(seeds)).astype(np.float32)
    image = np.where(body, ndimage.gaussian_filter(tissue[label], rng.uniform(0.5, 1.5)), 0.0)
    shell = body & (radius > rim - side * rng.uniform(0.01, 0.05))
    image = np.where(shell, rng.choice([0.35, 1.0]), image)
    for _ in range(int(rng.integers(0, 12))):  # vessels
        path = np.cumsum(np.cumsum(rng.normal(0, 0.12, (60, 2)), axis=0), axis=0) + rng.uniform(0, side, 2)
        inside = path[((path >= 0) & (path < side)).all(axis=1)].astype(int)
        dots = np.zeros((side, side), np.float32)
        dots[inside[:, 0], inside[:, 1]] = 1
        image += np.clip(ndimage.gaussian_filter(dots, rng.uniform(0.7, 2)) * 6, 0, 1) * 0.3 * body
    vertebra = np.hypot(y - side * 0.7, x - side / 2) < side * rng.uniform(0.04, 0.1)
    image = np.where(vertebra, 0.85 + 0.1 * _noise(rng, side, 1.2), image)
    grain = _noise(rng, side, 0.6) - _noise(rng, side, 1.5)  # less at low frequencies, as ramp filters give
    return np.asarray(image + grain * rng.uniform(0.005, 0.03), np.float32)


def _cr(rng: Generator, side: int) -> FloatImage:
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    depth = np.zeros((side, side), np.float32)
    for _ in range(int(rng.integers(4, 15))):
        turn, a, b = rng.uniform(0, np.pi), rng.uniform(0.05, 0.8), rng.uniform(0.03, 0.5)
        cy, cx = rng.uniform(-0.9, 0.9, 2)
        u = ((x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)) / a
        v = ((y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)) / b
        chord = np.sqrt(np.clip(1 - u * u - v * v, 0, None)) * min(a, b)
        if rng.random() < 0.4:  # a shell, as cortical bone is
            inner = np.sqrt(np.clip(0.8 - u * u - v * v, 0, None)) * min(a, b)
            chord = chord * 3 - inner * 2.5
        depth += chord * rng.uniform(0.5, 2.5)
    image = 1 - np.exp(-depth - 0.3 * np.abs(_noise(rng, side, side / 6)))
    if rng.random() < 0.3:
        image = 1 - image
    counts = rng.uniform(300, 8000)
    noise = rng.normal(0, 1, (side, side)) * np.sqrt((1.05 - np.clip(image, 0, 1)) / counts)
    return np.asarray(image + noise, np.float32)


def _mr(rng: Generator, side: int) -> FloatImage:
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    radius = np.hypot(x / rng.uniform(0.6, 0.85), y / rng.uniform(0.7, 0.9)) + 0.02 * _noise(rng, side, 12)
    scale = rng.uniform(2, 6)
    folds = np.sign(_noise(rng, side, scale) - _noise(rng, side, scale * 2.2))
    image = np.where(radius < 0.85, 0.5 + rng.uniform(0.05, 0.2) * folds, 0.0)
    image = np.where((radius > 0.85) & (radius < 0.9), 0.05, image)
    image = np.where((radius > 0.9) & (radius < 1), rng.uniform(0.6, 1), image)
    image[np.hypot(x / 0.1, (y - 0.1) / 0.2) < 1] = rng.choice([0.1, 0.95])
    spectrum = fft.fftshift(fft.fft2(image))
    keep = rng.uniform(0.35, 1)
    spectrum[(np.abs(x) > keep) | (np.abs(y) > keep)] = 0  # a cut-off spectrum rings at edges
    sigma = rng.uniform(0.005, 0.05)
    noise = rng.normal(0, sigma, (side, side)) + 1j * rng.normal(0, sigma, (side, side))
    return np.asarray(np.abs(fft.ifft2(fft.ifftshift(spectrum)) + noise), np.float32)


def _us(rng: Generator, side: int) -> FloatImage:
    shape = (side, side // 2)
    echo = np.exp(_noise(rng, side, rng.uniform(4, 15))[:, : side // 2] * rng.uniform(0.5, 1.2))
    for _ in range(int(rng.integers(1, 4))):
        cy, cx, r = rng.integers(0, shape[0]), rng.integers(0, shape[1]), rng.uniform(0.03, 0.2) * side
        v, u = np.ogrid[: shape[0], : shape[1]]
        echo[np.hypot(v - cy, u - cx) < r] *= rng.uniform(0.01, 0.3)
    scatter = rng.standard_normal(shape) * np.sqrt(echo)
    beam = ndimage.gaussian_filter(scatter, (rng.uniform(0.8, 1.5), rng.uniform(1, 2.5)))
    carrier = np.abs(
        beam + 1j * ndimage.gaussian_filter(rng.standard_normal(shape) * np.sqrt(echo), (1, 1.5))
    )
    log = np.clip(20 * np.log10(carrier / carrier.max() + 1e-6) / rng.uniform(40, 70) + 1, 0, 1)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    opening, top = rng.uniform(0.4, 0.8), side * rng.uniform(0.02, 0.15)
    depth = np.hypot(x - side / 2, y - top)
    angle = np.arctan2(x - side / 2, y - top)
    columns = (angle / opening + 1) / 2 * (shape[1] - 1)
    image = ndimage.map_coordinates(log, [depth, columns], order=1, cval=0)
    return np.asarray(np.where(np.abs(angle) < opening, image, 0), np.float32)


_KINDS: Mapping[str, Callable[[Generator, int], FloatImage]] = {"ct": _ct, "cr": _cr, "mr": _mr, "us": _us}
KINDS = tuple(_KINDS)


def anatomy(kind: str, side: int, rng: Generator) -> FloatImage:
    """One image of a kind of `KINDS`, clipped to [0, 1]."""
    return np.asarray(np.clip(_KINDS[kind](rng, side), 0, 1), np.float32)
