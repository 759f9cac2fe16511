"""The histogram of grey levels: IBSI reference manual, section 3.4 (ZVCW), arXiv 1612.07003."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from fedimg.imaging.radiomics.first_order import intensity_statistics
from fedimg.values import Integers, Vector

CODES: Mapping[str, str] = MappingProxyType(
    {
        "mean": "X6K6",
        "variance": "CH89",
        "skewness": "88K1",
        "excess_kurtosis": "C3I7",
        "median": "WIFQ",
        "minimum": "1PR8",
        "percentile_10": "1PR",
        "percentile_90": "GPMT",
        "maximum": "3NCY",
        "mode": "AMMC",
        "interquartile_range": "WR0O",
        "range": "5Z3W",
        "mean_absolute_deviation": "D2ZX",
        "robust_mean_absolute_deviation": "WRZB",
        "median_absolute_deviation": "4RNL",
        "coefficient_of_variation": "CWYJ",
        "quartile_coefficient_of_dispersion": "SLWD",
        "entropy": "TLU2",
        "uniformity": "BJ5W",
        "maximum_gradient": "12CE",
        "maximum_gradient_level": "8E6O",
        "minimum_gradient": "VQB3",
        "minimum_gradient_level": "RHQZ",
    }
)
"""IBSI's permanent identifiers, by the name here."""


def intensity_histogram(levels: Integers) -> dict[str, float]:
    """Grey levels from 1, 0 outside of the region → the features of `CODES`; entropy in bits.

    Raises DataError where no level is above 0.
    """
    inside = levels[levels > 0]
    statistics = intensity_statistics(inside.astype(np.float64))
    counts = np.bincount(inside)[1:].astype(np.float64)
    share = counts / inside.size
    mean = statistics["mean"]
    # of several modes the one nearest the mean, then the lower one (3.4.10)
    modes = np.flatnonzero(counts == counts.max()) + 1
    gradient = _gradient(counts)
    wanted = {name: value for name, value in statistics.items() if name in CODES}
    return wanted | {
        "mode": float(modes[np.abs(modes - mean).argmin()]),
        "entropy": float(-np.sum(share[share > 0] * np.log2(share[share > 0]))),
        "uniformity": float(np.sum(share**2)),
        "maximum_gradient": float(gradient.max()),
        "maximum_gradient_level": float(gradient.argmax() + 1),
        "minimum_gradient": float(gradient.min()),
        "minimum_gradient_level": float(gradient.argmin() + 1),
    }


def _gradient(counts: Vector) -> Vector:
    """Central differences, one-sided at the ends (3.4.20); of one level 0."""
    return np.gradient(counts) if len(counts) > 1 else np.zeros(1)
