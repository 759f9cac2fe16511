"""Simple anatomy from ellipses and smooth random textures, with a lesion of known place and size.

No claim of realism is made beyond what a test of the software needs: typical intensities of each
modality, structures that resemble the lesion without being one (vessels, ribs, fascia, foci), and
enough variety between patients that a network has to learn the lesion and not the patient.

Coordinates: x to the right in [−1, 1] over the image's width, y downwards and z across slices in the
same unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fedimg.values import FloatArray

Generator = np.random.Generator
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Lesion:
    """A slightly lobed ball: centre, radius, and the lobes' depth and phase."""

    x: float
    y: float
    z: float
    radius: float
    lobes: float
    phase: float


@dataclass(frozen=True, slots=True)
class Phantom:
    """One slice, projection or frame before any scanner, (H, W).

    Attributes:
        values: in the modality's unit. lesion: True inside.
        radius: of the lesion in this plane, in the coordinates' unit; 0 without one.
        positive: whether the finding is there; None: where `lesion` shows one.
    """

    values: FloatArray
    lesion: Mask
    radius: float = 0.0
    positive: bool | None = None


@lru_cache(maxsize=8)
def grid(height: int, width: int) -> tuple[FloatArray, FloatArray]:
    """Pixel centres (x, y), each (H, W), read-only."""
    x = ((np.arange(width) + 0.5) / width * 2 - 1).astype(np.float32)
    y = ((np.arange(height) + 0.5) / width * 2 - height / width).astype(np.float32)
    xs, ys = np.meshgrid(x, y)
    xs.flags.writeable = ys.flags.writeable = False
    return xs, ys


@lru_cache(maxsize=32)
def _interpolation(size: int, knots: int) -> FloatArray:
    """(size, knots): smooth (raised-cosine) interpolation of `knots` values along an axis."""
    position = np.linspace(0, knots - 1, size)
    distance = np.abs(position[:, None] - np.arange(knots)[None])
    weights = np.where(distance < 1, 0.5 + 0.5 * np.cos(np.pi * distance), 0)
    shares: FloatArray = np.asarray(weights / weights.sum(1, keepdims=True), np.float32)
    return shares


def texture(rng: Generator, shape: tuple[int, int], knots: int) -> FloatArray:
    """A smooth random field of about unit amplitude with `knots` cells a side, (H, W)."""
    cells = rng.standard_normal((knots, knots), dtype=np.float32)
    field = _interpolation(shape[0], knots) @ cells @ _interpolation(shape[1], knots).T
    return np.asarray(field, np.float32)


def ellipse(
    xy: tuple[FloatArray, FloatArray],
    centre: tuple[float, float],
    axes: tuple[float, float],
    edge: float = 0.04,
) -> FloatArray:
    """1 inside, 0 outside, a soft rim of about `edge`; (H, W)."""
    radius = np.sqrt(((xy[0] - centre[0]) / axes[0]) ** 2 + ((xy[1] - centre[1]) / axes[1]) ** 2)
    inside: FloatArray = np.clip((1 - radius) * (min(axes) / edge) + 0.5, 0, 1)
    return inside


def cross_section(lesion: Lesion | None, z: float) -> float:
    """The lesion's radius in the slice at z; 0 where it is not in the slice or under half its size."""
    if lesion is None or abs(z - lesion.z) > 0.866 * lesion.radius:
        return 0.0
    return float(np.sqrt(lesion.radius**2 - (z - lesion.z) ** 2))


def lesion_profile(xy: tuple[FloatArray, FloatArray], lesion: Lesion | None, z: float) -> FloatArray | None:
    """How much of each pixel is lesion at z, 0 … 1, (H, W); None where there is none."""
    radius = cross_section(lesion, z)
    if lesion is None or not radius:
        return None
    dx, dy = xy[0] - lesion.x, xy[1] - lesion.y
    rim = radius * (1 + lesion.lobes * np.cos(3 * np.arctan2(dy, dx) + lesion.phase))
    pixel = 2.0 / xy[0].shape[1]
    profile: FloatArray = np.clip((rim - np.sqrt(dx**2 + dy**2)) / (1.5 * pixel) + 0.5, 0, 1).astype(
        np.float32
    )
    return profile


def _with_lesion(values: FloatArray, lesion: Lesion | None, z: float, rise: float | FloatArray) -> Phantom:
    profile = lesion_profile(grid(*values.shape), lesion, z)
    if profile is None:
        return Phantom(values.astype(np.float32), np.zeros(values.shape, np.bool_))
    seen = (values + rise * profile).astype(np.float32)
    return Phantom(seen, profile > 0.5, cross_section(lesion, z))


def place(rng: Generator, modality: str, diameter: tuple[float, float], half_stack: float) -> Lesion:
    """A lesion where the modality's anatomy allows one; `half_stack` is the slices' greatest |z|."""
    radius = float(rng.uniform(*diameter))  # a share s of the side is a diameter of 2 s, a radius of s
    angle, distance = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform())
    centre, reach = {
        "CT": ((0.40 * rng.choice([-1, 1]), -0.05), (0.14, 0.26)),
        "MR": ((0.30 * rng.choice([-1, 1]), 0.0), (0.18, 0.45)),
        "CR": ((0.42 * rng.choice([-1, 1]), -0.12), (0.16, 0.38)),
        "US": ((0.0, 0.05), (0.60, 0.45)),
    }[modality]
    x, y = centre[0] + reach[0] * distance * np.cos(angle), centre[1] + reach[1] * distance * np.sin(angle)
    z = float(rng.uniform(-half_stack, half_stack))
    return Lesion(float(x), float(y), z, radius, float(rng.uniform(0, 0.15)), float(rng.uniform(0, 6.28)))


def chest_ct(
    rng: Generator, size: int, zs: list[float], lesion: Lesion | None, contrast: float
) -> list[Phantom]:
    """Axial chest slices in Hounsfield units: fat, muscle, ribs, spine, lungs with vessels, heart."""
    xy = grid(size, size)
    wide, deep = rng.uniform(0.80, 0.94), rng.uniform(0.60, 0.74)
    tilt, phase = rng.uniform(-0.04, 0.04), rng.uniform(0, 6.28)
    body = ellipse(xy, (tilt, 0), (wide, deep))
    wall = ellipse(xy, (tilt, 0), (wide - 0.08, deep - 0.08))
    rings = ellipse(xy, (tilt, 0), (wide - 0.11, deep - 0.11)) - ellipse(
        xy, (tilt, 0), (wide - 0.17, deep - 0.17)
    )
    ribs = rings * (np.cos(9 * np.arctan2(xy[1], xy[0] - tilt) + phase) > 0.2)
    spine = ellipse(xy, (tilt, deep - 0.22), (0.13, 0.12))
    soft = 45 + 12 * texture(rng, (size, size), 9)
    outside = -1000 + body * 900 + wall * (soft + 100) + 110 * ribs
    vessels = rng.uniform(-1, 1, (14, 4))
    heart_x = rng.uniform(0.0, 0.10)
    phantoms = []
    for z in zs:
        lung = 1 - 0.5 * abs(z)
        values = outside.copy()
        for side in (-1, 1):
            field = ellipse(xy, (tilt + 0.40 * side, -0.05), (0.27 * lung, (deep - 0.22) * lung))
            values += field * (-860 + 25 * texture(rng, (size, size), 12) - values)
        for x, y, drift, strength in vessels:
            centre = (tilt + 0.40 * np.sign(x) + 0.22 * x + 0.2 * drift * z, 0.36 * y)
            values += (350 + 250 * strength) * ellipse(xy, centre, (0.035, 0.035), 0.03) * (values < -300)
        heart = ellipse(xy, (tilt + heart_x, 0.0), (0.21 + 0.2 * z, 0.27 + 0.1 * z))
        values += heart * (soft - values)
        values += spine * (150 - values)
        rise = contrast * np.maximum(0, 260 - values)  # a calcified mass
        phantoms.append(_with_lesion(values, lesion, z, rise))
    return phantoms


def head_mr(
    rng: Generator, size: int, zs: list[float], lesion: Lesion | None, contrast: float
) -> list[Phantom]:
    """Axial head slices, FLAIR-like, arbitrary unit: scalp 0.8, skull 0.05, brain 0.45, fluid 0.12."""
    xy = grid(size, size)
    wide, deep = rng.uniform(0.66, 0.76), rng.uniform(0.80, 0.90)
    scalp = ellipse(xy, (0, 0), (wide, deep))
    skull = ellipse(xy, (0, 0), (wide - 0.06, deep - 0.06))
    brain = ellipse(xy, (0, 0), (wide - 0.12, deep - 0.12))
    cortex = brain - ellipse(xy, (0, 0), (wide - 0.24, deep - 0.24), 0.1)
    folds = 0.04 * texture(rng, (size, size), 16) + 0.03 * texture(rng, (size, size), 7)
    foci = rng.uniform(-1, 1, (5, 3))
    ventricle = rng.uniform(0.05, 0.11)
    phantoms = []
    for z in zs:
        values = 0.70 * scalp - 0.65 * skull + brain * (0.40 + folds) + 0.08 * cortex
        for side in (-1, 1):
            fluid = ellipse(xy, (0.13 * side, 0.02 + 0.1 * z), (ventricle, 0.26 - 0.2 * abs(z)))
            values += fluid * (0.12 - values)
        for x, y, strength in foci:
            values += (0.16 + 0.08 * strength) * ellipse(xy, (0.4 * x, 0.5 * y), (0.03, 0.03), 0.03)
        phantoms.append(_with_lesion(values, lesion, z, 0.50 * contrast))
    return phantoms


def chest_cr(rng: Generator, size: int, lesion: Lesion | None, contrast: float) -> Phantom:
    """A chest radiograph, 0 (air) … 1 (bone): lungs, heart, diaphragm, ribs, clavicles."""
    xy = x, y = grid(size, size)
    wide = rng.uniform(0.85, 0.97)
    body = np.clip((wide - np.abs(x) - 0.12 * np.maximum(0, -y - 0.5)) / 0.08, 0, 1)
    values = body * (0.50 + 0.04 * texture(rng, (size, size), 6))
    for side in (-1, 1):
        values -= 0.32 * ellipse(xy, (0.43 * side, -0.12), (0.31, 0.62), 0.10)
    heart = ellipse(xy, (rng.uniform(0.08, 0.18), 0.25), (rng.uniform(0.26, 0.36), 0.32), 0.10)
    values += 0.14 * heart + 0.08 * np.exp(-((x / 0.12) ** 2))
    dome = 0.50 + 0.25 * np.abs(x) + rng.uniform(-0.05, 0.05)
    values += 0.14 * np.clip((y - dome) / 0.08, 0, 1) * body
    phase, curve = rng.uniform(0, 6.28), rng.uniform(0.4, 0.7)
    ribs = np.cos(26 * (y - curve * (np.abs(x) - 0.45) ** 2) + phase) > 0.55
    values += 0.05 * ribs * body * (np.abs(x) > 0.15)
    values += 0.08 * (np.abs(y + 0.72 - 0.15 * np.abs(x)) < 0.035) * body
    return _with_lesion(values, lesion, lesion.z if lesion is not None else 0.0, 0.45 * contrast)


def ultrasound(
    rng: Generator, shape: tuple[int, int], frames: int, lesion: Lesion | None, contrast: float
) -> list[Phantom]:
    """Log-compressed echo of layered tissue, 0 … 1, with fascia, shadows and speckle; the probe drifts a little."""
    xy = grid(*shape)
    depth = xy[1] + 0.06 * texture(rng, shape, 5)
    layers = 0.36 + 0.06 * np.tanh((depth + rng.uniform(0.5, 0.8)) / 0.05) + 0.05 * texture(rng, shape, 8)
    layers -= 0.10 * (depth + 1) / 2
    for _ in range(3):
        level, width = rng.uniform(-0.8, 0.8), rng.uniform(0.02, 0.04)
        layers += rng.uniform(0.12, 0.25) * np.exp(-(((depth - level) / width) ** 2))
    shadow = np.exp(-(((xy[0] - rng.uniform(-1, 1)) / 0.06) ** 2)) * (depth > rng.uniform(-0.5, 0.3))
    layers -= 0.12 * shadow
    phantoms = []
    for frame in range(frames):
        moved = None
        if lesion is not None:
            moved = Lesion(lesion.x + 0.02 * frame, lesion.y, 0.0, lesion.radius, lesion.lobes, lesion.phase)
        phantom = _with_lesion(layers, moved, 0.0, 0.32 * contrast)
        # Rayleigh-distributed amplitude, log-compressed: speckle is additive noise with a long dark tail.
        amplitude = rng.rayleigh(1.0, (shape[0], (shape[1] + 1) // 2)).astype(np.float32)
        speckle = np.repeat(0.09 * np.log(amplitude + 0.05), 2, axis=1)[:, : shape[1]]
        phantoms.append(Phantom(phantom.values + speckle, phantom.lesion, phantom.radius))
    return phantoms
