"""Statistics of the intensities in a region: IBSI reference manual, section 3.3 (UHIW), arXiv 1612.07003.

A. Zwanenburg et al., "The Image Biomarker Standardization Initiative", Radiology 295(2), 2020,
doi 10.1148/radiol.2020191145.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from fedimg.errors import DataError
from fedimg.values import Vector

CODES: Mapping[str, str] = MappingProxyType(
    {
        "mean": "Q4LE",
        "variance": "ECT3",
        "skewness": "KE2A",
        "excess_kurtosis": "IPH6",
        "median": "Y12H",
        "minimum": "1GSF",
        "percentile_10": "QG58",
        "percentile_90": "8DWT",
        "maximum": "84IY",
        "interquartile_range": "SALO",
        "range": "2OJQ",
        "mean_absolute_deviation": "4FUA",
        "robust_mean_absolute_deviation": "1128",
        "median_absolute_deviation": "N72L",
        "coefficient_of_variation": "7TET",
        "quartile_coefficient_of_dispersion": "9S40",
        "energy": "N8CA",
        "root_mean_square": "5ZWQ",
    }
)
"""IBSI's permanent identifiers, by the name here."""


def intensity_statistics(values: npt.NDArray[np.floating]) -> dict[str, float]:
    """(n,) intensities of a region, in any unit → the features of `CODES`.

    A constant region has skewness and kurtosis 0 (IBSI 3.3.3, 3.3.4); a ratio to a mean of 0 is 0.
    Raises DataError for no values, or values that are not finite.
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    if x.size == 0 or not np.isfinite(x).all():
        raise DataError(
            "finite intensities of at least one voxel", f"{x.size} values", "choose another region"
        )
    mean, centred = x.mean(), x - x.mean()
    variance = float(np.mean(centred**2))
    p10, p25, median, p75, p90 = np.percentile(x, (10, 25, 50, 75, 90))
    robust = x[(x >= p10) & (x <= p90)]
    constant = x.min() == x.max()
    return {
        "mean": float(mean),
        "variance": variance,
        "skewness": 0.0 if constant else float(np.mean(centred**3) / variance**1.5),
        "excess_kurtosis": 0.0 if constant else float(np.mean(centred**4) / variance**2 - 3),
        "median": float(median),
        "minimum": float(x.min()),
        "percentile_10": float(p10),
        "percentile_90": float(p90),
        "maximum": float(x.max()),
        "interquartile_range": float(p75 - p25),
        "range": float(x.max() - x.min()),
        "mean_absolute_deviation": float(np.abs(centred).mean()),
        "robust_mean_absolute_deviation": _spread(robust),
        "median_absolute_deviation": float(np.abs(x - median).mean()),
        "coefficient_of_variation": _ratio(np.sqrt(variance), mean),
        "quartile_coefficient_of_dispersion": _ratio(p75 - p25, p75 + p25),
        "energy": float(np.sum(x**2)),
        "root_mean_square": float(np.sqrt(np.mean(x**2))),
    }


def _spread(values: Vector) -> float:
    """Mean distance from the mean; 0 of nothing, which percentiles between two values may leave."""
    return float(np.abs(values - values.mean()).mean()) if values.size else 0.0


def _ratio(over: float, under: float) -> float:
    return float(over / under) if under else 0.0
