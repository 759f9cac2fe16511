"""Scanners: how a hospital's machines turn anatomy into stored values, and what they call themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter

from fedimg.cohort.anatomy import Generator, texture
from fedimg.values import FloatArray


@dataclass(frozen=True, slots=True)
class Scanner:
    """One machine.

    Attributes:
        manufacturer, model, software, kernel: as written into the header.
        noise: of the modality's typical noise. blur_px: point spread, standard deviation at 64 pixels.
        gain, gamma: of brightness (not CT, whose unit is fixed). shading: of the MR coil.
        field_of_view_mm: side of the image.
        signed: CT stored as signed numbers. inverted: CR stored as MONOCHROME1.
        syntax: transfer syntax of its files.
    """

    manufacturer: str
    model: str
    software: str
    kernel: str
    noise: float
    blur_px: float
    gain: float
    gamma: float
    shading: float
    field_of_view_mm: float
    signed: bool
    inverted: bool
    syntax: str


_FLEET: tuple[Scanner, ...] = (
    Scanner(
        "Aurelia Imaging",
        "Polaris 64",
        "4.2.1",
        "B30f",
        0.9,
        0.45,
        1.00,
        1.00,
        0.10,
        340.0,
        False,
        False,
        "explicit_le",
    ),
    Scanner(
        "Norwerk",
        "Helix Pro",
        "VB17A",
        "STANDARD",
        1.3,
        0.70,
        0.85,
        1.20,
        0.25,
        380.0,
        True,
        True,
        "implicit_le",
    ),
    Scanner(
        "Kitami Medical",
        "Sora XR",
        "R3.0",
        "FC18",
        1.1,
        0.55,
        1.15,
        0.85,
        0.20,
        320.0,
        False,
        True,
        "explicit_le",
    ),
    Scanner(
        "Brightwell", "Meridian", "12.0", "SOFT", 1.6, 0.80, 0.95, 1.10, 0.30, 360.0, True, False, "jpeg_ls"
    ),
    Scanner(
        "Aurelia Imaging", "Polaris 16", "2.9", "B60s", 1.8, 0.35, 1.10, 0.90, 0.15, 350.0, False, True, "rle"
    ),
    Scanner(
        "Castellan", "Orbit", "7.1b", "C", 1.2, 0.60, 0.90, 1.05, 0.22, 330.0, True, False, "deflated_le"
    ),
)

_NOISE: Mapping[str, float] = {"CT": 28.0, "MR": 0.030, "CR": 0.022, "US": 0.015}


def scanner_of(hospital: int) -> Scanner:
    """The machine park of a hospital; past the fleet's end, used machines in other states of repair."""
    model = _FLEET[hospital % len(_FLEET)]
    wear = hospital // len(_FLEET)
    if wear == 0:
        return model
    rng = np.random.default_rng([hospital, 20])
    return replace(
        model,
        software=f"{model.software}.{wear}",
        noise=model.noise * float(rng.uniform(0.8, 1.3)),
        blur_px=model.blur_px * float(rng.uniform(0.8, 1.3)),
        gain=model.gain * float(rng.uniform(0.9, 1.1)),
        field_of_view_mm=model.field_of_view_mm * float(rng.uniform(0.93, 1.07)),
    )


def acquire(values: FloatArray, modality: str, scanner: Scanner, noise: float, rng: Generator) -> FloatArray:
    """Point spread, noise, and (not CT) shading, gain and gamma; (H, W) in the phantom's unit."""
    size = values.shape[1]
    white = rng.standard_normal(values.shape, dtype=np.float32)
    deviation = np.float32(_NOISE[modality] * scanner.noise * noise)
    if modality == "CT":
        # Noise is made sharper than the image by reconstruction: half of it stays uncorrelated.
        seen: FloatArray = gaussian_filter(
            values + deviation * white, scanner.blur_px * size / 64, mode="nearest"
        )
        return seen + 0.5 * deviation * rng.standard_normal(values.shape, dtype=np.float32)
    seen = gaussian_filter(values, scanner.blur_px * size / 64, mode="nearest")
    if modality == "MR":
        seen = seen * (1 + np.float32(scanner.shading) * texture(rng, values.shape, 3))
    seen = seen + deviation * white
    brightness: FloatArray = np.float32(scanner.gain) * np.clip(seen, 0, 1.3) ** np.float32(scanner.gamma)
    return brightness
