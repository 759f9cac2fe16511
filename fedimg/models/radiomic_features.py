"""Radiomics of whole images, in batches: numbers that mean something one by one, as a tree's questions want them.

Statistics and co-occurrence as the Image Biomarker Standardisation Initiative defines them (arXiv 1612.07003), on
`LEVELS` grey levels between an image's own extremes, and the shape of what Otsu's threshold leaves in front. A fixed
function of one image: it looks at no other image and is learnt from none, so that it costs no privacy.

Every number is put into [−3, 3] by the public range in its table. The ranges are coarse: chosen by what the numbers
can be, the generated images of `fedimg.cohort`, and a look at two public sets (docs/radiomics.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

import numpy as np
import torch

from fedimg.models.config import ModelConfig
from fedimg.models.foreground import shape_of_foreground
from fedimg.values import Integers, Vector

LEVELS = 16
DISTANCES = (1, 2, 4)
LARGEST = 3.0
_VOXELS_AT_ONCE = 1 << 21
_LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class Range:
    """What becomes −3 and 3 of a number, after `by`; what lies beyond is cut off."""

    low: float
    high: float
    by: Callable[[Vector], Vector] = lambda values: values

    def bounded(self, values: Vector) -> Vector:
        share = (self.by(values) - self.low) / (self.high - self.low)
        return np.asarray(LARGEST * np.clip(2 * share - 1, -1, 1))


def _logit(share: Vector) -> Vector:
    within = np.clip(share, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(within / (1 - within)))


def _log(values: Vector) -> Vector:
    return np.asarray(np.log(np.maximum(values, 1e-6)))


_STATISTICS: Mapping[str, Range] = MappingProxyType(
    {
        "mean": Range(-2, 2),  # in the unit of imaging.intensity: 0 and 1 are −2 and 2 by default
        "deviation": Range(0.2, 1.5),
        "skewness": Range(-2, 3, np.arcsinh),
        "excess_kurtosis": Range(-1.5, 5, np.arcsinh),
        "percentile_10": Range(-2, 2),
        "median": Range(-2, 2),
        "percentile_90": Range(-2, 2),
        "entropy": Range(0, 4),
    }
)
# by distance: neighbours are more alike than those further off
_TEXTURE: Mapping[str, tuple[Range, ...]] = MappingProxyType(
    {
        "correlation": (Range(0.4, 1), Range(0.1, 0.9), Range(0, 0.8)),
        "contrast": (Range(0.5, 3, np.log1p), Range(1, 3.5, np.log1p), Range(1.5, 4, np.log1p)),
        "inverse_difference_moment": (Range(0.3, 1), Range(0.2, 1), Range(0.1, 1)),
        "joint_entropy": (Range(0, 8),) * 3,
        "information_correlation_1": (Range(-0.5, 0), Range(-0.3, 0), Range(-0.2, 0)),
    }
)
_SHAPE: Mapping[str, Range] = MappingProxyType(
    {
        "foreground": Range(-5, 3, _logit),
        "separability": Range(0.5, 1),
        "elongation": Range(0.2, 1),
        "compactness": Range(0.05, 0.95),
        "pieces": Range(0.5, 5, np.log1p),
        "largest_piece": Range(0.4, 1),
        "thickness": Range(-4, -1.2, _log),
        "greatest_thickness": Range(-3, -0.7, _log),
    }
)
_BY_AXIS: Mapping[str, Range] = MappingProxyType({"centre": Range(-0.2, 0.2), "spread": Range(0, 0.35)})


def ranges(dimensions: int) -> dict[str, Range]:
    """Of every number by its name, in order: 35 of an image in two dimensions, 38 in three."""
    found = dict(_STATISTICS)
    for name, of_distances in _TEXTURE.items():
        found |= {f"{name}_{apart}": own for apart, own in zip(DISTANCES, of_distances, strict=True)}
    found |= _SHAPE
    if dimensions == 3:
        found["flatness"] = Range(0.1, 1)
    axes = "dhw"[-dimensions:]
    return found | {f"{name}_{axis}": own for name, own in _BY_AXIS.items() for axis in axes}


class RadiomicFeatures:
    """(B, C, *spatial) → (B, C · numbers) float32 in [−3, 3]; NaN of an image that is not finite."""

    def __init__(self, config: ModelConfig) -> None:
        self._ranges = ranges(config.dimensions)
        self._at_once = max(1, _VOXELS_AT_ONCE // int(np.prod(config.image_shape)))
        self.size = config.channels * len(self._ranges)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        parts = [self._of(part) for part in images.detach().cpu().double().split(self._at_once)]
        return torch.cat(parts).to(images.device)

    def _of(self, images: torch.Tensor) -> torch.Tensor:
        single = images.flatten(0, 1).numpy()
        known = np.isfinite(single).reshape(len(single), -1).all(axis=1)
        single = np.where(known.reshape(-1, *[1] * (single.ndim - 1)), single, 0.0)
        measured = radiomics(single)
        bounded = np.stack([own.bounded(measured[name]) for name, own in self._ranges.items()], axis=1)
        bounded[~known] = np.nan
        return torch.from_numpy(bounded.astype(np.float32)).reshape(len(images), self.size)


def radiomics(images: Vector) -> dict[str, Vector]:
    """(n, *spatial) finite → each number of `ranges`, (n,), before it is bounded."""
    flat = images.reshape(len(images), -1)
    low, span = flat.min(axis=1, keepdims=True), np.ptp(flat, axis=1)[:, None]
    share = (flat - low) / np.where(span > 0, span, 1.0)
    levels = np.minimum(np.floor(LEVELS * share), LEVELS - 1).astype(np.int64)
    found = _statistics(flat, levels)
    for distance in DISTANCES:
        texture = _texture(_pairs(levels.reshape(images.shape), distance))
        found |= {f"{name}_{distance}": values for name, values in texture.items()}
    return found | shape_of_foreground(share.reshape(images.shape))


def _statistics(flat: Vector, levels: Integers) -> dict[str, Vector]:
    mean, deviation = flat.mean(axis=1), flat.std(axis=1)
    constant = np.ptp(flat, axis=1) == 0
    scaled = (flat - mean[:, None]) / np.where(constant, 1.0, deviation)[:, None]
    p10, median, p90 = np.percentile(flat, (10, 50, 90), axis=1)
    share = counted(levels, LEVELS) / flat.shape[1]
    return {
        "mean": mean,
        "deviation": deviation,
        "skewness": np.where(constant, 0.0, np.mean(scaled**3, axis=1)),
        "excess_kurtosis": np.where(constant, 0.0, np.mean(scaled**4, axis=1) - 3),
        "percentile_10": p10,
        "median": median,
        "percentile_90": p90,
        "entropy": _entropy(share),
    }


def counted(cells: Integers, number: int) -> Vector:
    """(n, k) whole numbers below `number` → (n, number): how often each is in a row."""
    apart = cells + number * np.arange(len(cells))[:, None]
    return np.bincount(apart.ravel(), minlength=number * len(cells)).reshape(len(cells), number).astype(float)


def _pairs(levels: Integers, distance: int) -> Vector:
    """(n, N, N): how often two levels are `distance` apart along any line, both ways round (IBSI IAZD)."""
    spatial = levels.ndim - 1
    counts = np.zeros((len(levels), LEVELS**2))
    for line in product((0, 1, -1), repeat=spatial):
        if line <= (0,) * spatial:
            continue
        first = levels[(slice(None), *(_shifted(step * distance) for step in line))]
        second = levels[(slice(None), *(_shifted(-step * distance) for step in line))]
        if first.size:
            counts += counted((LEVELS * first + second).reshape(len(levels), -1), LEVELS**2)
    square = counts.reshape(-1, LEVELS, LEVELS)
    return np.asarray(square + square.transpose(0, 2, 1))


def _shifted(step: int) -> slice:
    return slice(max(0, -step), -step if step > 0 else None)


def _texture(counts: Vector) -> dict[str, Vector]:
    """IBSI NI2N, ACUI, WF0Z, TU9B and R8DG. An image with no pair so far apart is as one of one grey level."""
    total = counts.sum(axis=(1, 2))
    none = np.zeros_like(counts[0])
    none[0, 0] = 1.0
    p = np.where(total[:, None, None] > 0, counts / np.maximum(total, 1)[:, None, None], none)
    level = np.arange(LEVELS)
    apart = np.abs(level[:, None] - level[None, :])
    margin = p.sum(axis=2)
    mean = margin @ level
    variance = margin @ level**2 - mean**2
    covariance = np.einsum("nij,i,j->n", p, level, level) - mean**2
    flat = variance <= _LEAST
    joint, single = _entropy(p.reshape(len(p), -1)), _entropy(margin)
    return {
        "correlation": np.where(flat, 1.0, covariance / np.where(flat, 1.0, variance)),
        "contrast": np.einsum("nij,ij->n", p, apart**2),
        "inverse_difference_moment": np.einsum("nij,ij->n", p, 1 / (1 + apart**2)),
        "joint_entropy": joint,
        # of symmetric pairs, the entropy of independent ones is twice the margin's
        "information_correlation_1": np.where(
            single <= _LEAST, 0.0, (joint - 2 * single) / np.where(single <= _LEAST, 1.0, single)
        ),
    }


def _entropy(share: Vector) -> Vector:
    """(n, k) → (n,), in bits."""
    return np.asarray(-np.sum(share * np.log2(np.where(share > 0, share, 1.0)), axis=1))
