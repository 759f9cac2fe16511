"""The shape of a region in millimetres: IBSI reference manual, section 3.1 (HCUG), arXiv 1612.07003."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from fedimg.errors import DataError
from fedimg.values import Vector

Mask = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]

CODES: Mapping[str, str] = MappingProxyType(
    {
        "volume_mesh_mm3": "RNU0",
        "volume_voxels_mm3": "YEKZ",
        "surface_area_mm2": "C0JK",
        "surface_to_volume_ratio": "2PR5",
        "compactness_1": "SKGS",
        "compactness_2": "BQWJ",
        "spherical_disproportion": "KRCK",
        "sphericity": "QCFX",
        "asphericity": "25C7",
        "centre_of_mass_shift_mm": "KLMA",
        "maximum_3d_diameter_mm": "L0JK",
        "major_axis_length_mm": "TDIC",
        "minor_axis_length_mm": "P9VJ",
        "least_axis_length_mm": "7J51",
        "elongation": "Q3CK",
        "flatness": "N17B",
        "volume_density_box": "PBX1",
        "area_density_box": "R59B",
        "volume_density_ellipsoid": "6BDE",
        "area_density_ellipsoid": "RDD2",
        "volume_density_hull": "R3ER",
        "area_density_hull": "7T7F",
        "integrated_intensity": "99N0",
    }
)
"""IBSI's permanent identifiers, by the name here."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """A closed surface of triangles: vertices (V, 3) in mm, faces (F, 3) of indices into them."""

    vertices_mm: Vector
    faces: npt.NDArray[np.int64]

    @property
    def volume_mm3(self) -> float:
        """Of signed tetrahedra to the origin (3.1.1)."""
        a, b, c = (self.vertices_mm[self.faces[:, corner]] for corner in range(3))
        return float(abs(np.sum(a * np.cross(b, c))) / 6)

    @property
    def area_mm2(self) -> float:
        """Of all triangles (3.1.3)."""
        a, b, c = (self.vertices_mm[self.faces[:, corner]] for corner in range(3))
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def surface(mask_DHW: Mask, spacing_mm: Spacing) -> Mesh:
    """Marching cubes half way between inside and outside (3.1: isolevel 0.5; Lewiner et al. 2003).

    Raises DataError for an empty mask.
    """
    from skimage.measure import marching_cubes

    if not mask_DHW.any():
        raise DataError("a region of at least one voxel", "an empty mask", "choose another region")
    padded = np.pad(_cropped(mask_DHW).astype(np.float32), 1)
    vertices, faces, _, _ = marching_cubes(padded, 0.5, spacing=spacing_mm)
    return Mesh(vertices.astype(np.float64), faces.astype(np.int64))


def _cropped(mask: Mask) -> Mask:
    where = np.argwhere(mask)
    return mask[tuple(slice(low, high) for low, high in zip(where.min(0), where.max(0) + 1, strict=True))]


def morphology(
    mask_DHW: Mask, spacing_mm: Spacing, image_DHW: npt.NDArray[np.floating] | None = None
) -> dict[str, float]:
    """Features of `CODES`; those that need intensities only with an image of the mask's shape.

    Axis lengths are of the region's voxel centres, so that one voxel has none. Raises DataError for an empty mask.
    """
    mesh = surface(mask_DHW, spacing_mm)
    points = np.argwhere(mask_DHW) * np.asarray(spacing_mm)
    volume, area = mesh.volume_mm3, mesh.area_mm2
    found = {
        "volume_mesh_mm3": volume,
        "volume_voxels_mm3": float(len(points) * np.prod(spacing_mm)),
        "surface_area_mm2": area,
        "surface_to_volume_ratio": area / volume,
    }
    found |= _compared_with_a_ball(volume, area) | _extents(mesh, points, volume, area)
    if image_DHW is not None:
        values = image_DHW[mask_DHW].astype(np.float64)
        found["integrated_intensity"] = float(values.mean() * volume)
        found["centre_of_mass_shift_mm"] = _shift(points, values)
    return found


def _compared_with_a_ball(volume: float, area: float) -> dict[str, float]:
    """3.1.5 to 3.1.9; all of them say the same of V²/A³."""
    ratio = 36 * np.pi * volume**2 / area**3
    return {
        "compactness_1": float(volume / (np.sqrt(np.pi) * area**1.5)),
        "compactness_2": float(ratio),
        "spherical_disproportion": float(ratio ** (-1 / 3)),
        "sphericity": float(ratio ** (1 / 3)),
        "asphericity": float(ratio ** (-1 / 3) - 1),
    }


def _extents(mesh: Mesh, points: Vector, volume: float, area: float) -> dict[str, float]:
    corners, hull = _hull(mesh.vertices_mm)
    sides = np.ptp(mesh.vertices_mm, axis=0)
    box_area = 2 * (sides[0] * sides[1] + sides[0] * sides[2] + sides[1] * sides[2])
    axes = axis_lengths(points)
    return {
        "maximum_3d_diameter_mm": float(pdist(corners).max()),
        "major_axis_length_mm": float(axes[0]),
        "minor_axis_length_mm": float(axes[1]),
        "least_axis_length_mm": float(axes[2]),
        "elongation": float(axes[1] / axes[0]) if axes[0] else 1.0,
        "flatness": float(axes[2] / axes[0]) if axes[0] else 1.0,
        "volume_density_box": float(volume / np.prod(sides)),
        "area_density_box": float(area / box_area),
        "volume_density_hull": volume / hull[0],
        "area_density_hull": area / hull[1],
    } | _of_ellipsoid(axes / 2, volume, area)


def axis_lengths(points_mm: Vector) -> Vector:
    """(n, k) → (k,): 4√λ of the covariance's eigenvalues, the greatest first (3.1.12).

    Over n − 1: the manual leaves it open, and its reference values hold only so.
    """
    centred = points_mm - points_mm.mean(axis=0)
    values = np.linalg.eigvalsh(centred.T @ centred / max(1, len(points_mm) - 1))
    return np.asarray(4 * np.sqrt(np.maximum(values[::-1], 0.0)))


def _of_ellipsoid(half: Vector, volume: float, area: float) -> dict[str, float]:
    """Of the ellipsoid with these half axes (3.1.20, 3.1.21); a flat region has none."""
    a, b, c = half
    if c <= 0:
        return {}
    return {
        "volume_density_ellipsoid": float(3 * volume / (4 * np.pi * a * b * c)),
        "area_density_ellipsoid": float(area / ellipsoid_area(a, b, c)),
    }


def ellipsoid_area(a: float, b: float, c: float) -> float:
    """4πab Σ (αβ)^ν/(1 − 4ν²)·P_ν((α² + β²)/2αβ), ν to 20, of half axes a ≥ b ≥ c > 0, as 3.1.21 defines it.

    With its α and β, both against a, it is an approximation, exact for a ball; the exact area (DLMF 19.33.1) of the
    digital phantom's ellipsoid is 4 % larger.
    """
    alpha, beta = 1 - (b / a) ** 2, 1 - (c / a) ** 2  # squared
    # t_ν = (αβ)^ν P_ν by Legendre's recurrence, which needs no division by αβ
    before, term, total = 0.0, 1.0, 1.0
    for order in range(1, 21):
        after = ((2 * order - 1) * (alpha + beta) / 2 * term - (order - 1) * alpha * beta * before) / order
        before, term = term, after
        total += term / (1 - 4 * order**2)
    return float(4 * np.pi * a * b * total)


def _hull(vertices: Vector) -> tuple[Vector, tuple[float, float]]:
    """Corners of the convex hull, its volume and area; of float32 corners in one plane to the tolerance."""
    try:
        hull = ConvexHull(vertices)
    except QhullError:  # pragma: no cover - a mesh around a voxel has a volume
        raise DataError("a surface around a volume", "a flat one", "choose another region") from None
    return vertices[hull.vertices], (float(hull.volume), float(hull.area))


def _shift(points: Vector, values: Vector) -> float:
    """From the centre of voxels to that of intensities (3.1.10); 0 where these add up to none."""
    total = values.sum()
    if not total:
        return 0.0
    return float(np.linalg.norm(points.mean(axis=0) - values @ points / total))
