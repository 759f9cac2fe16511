"""Tissue by Hounsfield units, in public ranges."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from fedimg.values import Vector

RANGES_HU: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "lung": (-1000.0, -500.0),
        "fat": (-190.0, -30.0),
        "soft_tissue": (-29.0, 150.0),
        "bone": (150.0, np.inf),
    }
)
"""From … to, both included; bone is what lies above 150, and so are calcium and contrast medium.

lung: aerated, normally and more: L. Gattinoni et al., AJRCCM 164(9), 2001, doi 10.1164/ajrccm.164.9.2103121. fat and
soft tissue (skeletal muscle): N. Mitsiopoulos et al., J Appl Physiol 85(1), 1998, doi 10.1152/jappl.1998.85.1.115."""


def tissue_fractions(values_HU: npt.NDArray[np.floating]) -> dict[str, float]:
    """(n,) of a region, n > 0, rounded to whole units → each tissue's share of it; they need not add up to 1."""
    whole: Vector = np.asarray(values_HU, dtype=np.float64).round()
    return {tissue: float(_within(whole, tissue).mean()) for tissue in RANGES_HU}


def _within(values: Vector, tissue: str) -> npt.NDArray[np.bool_]:
    low, high = RANGES_HU[tissue]
    above = values > low if tissue == "bone" else values >= low
    return np.asarray(above & (values <= high))
