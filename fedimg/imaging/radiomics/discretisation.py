"""Intensities in a region → grey levels 1 … N_g: IBSI reference manual, section 2.7 (arXiv 1612.07003)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedimg.errors import ConfigError
from fedimg.values import Integers

Numbers = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]


def fixed_bin_number(image: Numbers, mask: Mask, number: int) -> Integers:
    """`number` equal bins from the least to the greatest intensity in the mask (IBSI K15C); 0 outside of it.

    For intensities of arbitrary units, as in magnetic resonance. A constant region is level 1.
    Raises ConfigError for a number below 1 or an empty mask.
    """
    _require(number >= 1, "a number of bins from 1", str(number))
    values = _inside(image, mask)
    low, high = values.min(), values.max()
    share = (values - low) / (high - low) if high > low else np.zeros(values.shape)
    return _levels(image, mask, np.minimum(np.floor(number * share), number - 1))


def fixed_bin_size(image: Numbers, mask: Mask, width: float, low: float | None = None) -> Integers:
    """Bins of `width` from `low`, else from the least intensity in the mask (IBSI Q3RU); 0 outside of it.

    For calibrated units: 25 HU, from the lower end of the range that the region was cut to. Intensities below
    `low` count in level 1. Raises ConfigError for a width that is not positive or an empty mask.
    """
    _require(0 < width < np.inf, "a bin width above 0", str(width))
    values = _inside(image, mask)
    start = values.min() if low is None else low
    return _levels(image, mask, np.maximum(np.floor((values - start) / width), 0))


def _inside(image: Numbers, mask: Mask) -> Numbers:
    _require(image.shape == mask.shape, f"a mask of shape {image.shape}", str(mask.shape))
    _require(bool(mask.any()), "a region of at least one voxel", "an empty mask")
    return image[mask].astype(np.float64)


def _levels(image: Numbers, mask: Mask, bins: Numbers) -> Integers:
    levels = np.zeros(image.shape, dtype=np.int64)
    levels[mask] = bins.astype(np.int64) + 1
    return levels


def _require(holds: bool, expected: str, found: str) -> None:
    if not holds:
        raise ConfigError(expected, found, "measure another region, or change the discretisation")
