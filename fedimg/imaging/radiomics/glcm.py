"""Grey level co-occurrence: IBSI reference manual, section 3.6 (LFYI), arXiv 1612.07003.

After R. Haralick et al., "Textural Features for Image Classification", IEEE SMC 3, 1973.
"""

from __future__ import annotations

from itertools import product
from typing import Literal, get_args

import numpy as np

from fedimg.errors import ConfigError
from fedimg.imaging.radiomics.glcm_features import CODES, co_occurrence_features
from fedimg.values import Integers, Vector

Aggregation = Literal[
    "2d_averaged", "2d_slice_merged", "25d_direction_merged", "25d_merged", "3d_averaged", "3d_merged"
]
"""Where a matrix is made, and what is added up before features are taken (IBSI BTW3, SUJT, JJUI, ZW7Z, ITBB, IAZD):
slices in their planes or the whole volume; every direction apart ("averaged"), or together."""

Offset = tuple[int, int, int]


def directions(*, volumetric: bool, distance: int = 1) -> list[Offset]:
    """One of each pair of opposite neighbours (d, h, w) at a Chebyshev distance along 4 or 13 lines."""
    lines = [offset for offset in product((0, 1, -1), repeat=3) if offset > (0, 0, 0)]
    chosen = lines if volumetric else [line for line in lines if line[0] == 0]
    return [(d * distance, h * distance, w * distance) for d, h, w in chosen]


def co_occurrences(levels_DHW: Integers, number: int, offset: Offset) -> Vector:
    """(D, N, N): in the slice where a pair begins, how often levels i and j lie `offset` apart, both ways round.

    Args:
        levels_DHW: 1 … `number`, and 0 outside of the region, where no pair is counted.
    """
    first, second = levels_DHW[_part(offset)], levels_DHW[_part((-offset[0], -offset[1], -offset[2]))]
    depth = len(levels_DHW)
    slices = np.broadcast_to(np.arange(len(first))[:, None, None], first.shape)
    known = (first > 0) & (second > 0)
    cells = (slices[known] * number + first[known] - 1) * number + second[known] - 1
    counts = np.bincount(cells, minlength=depth * number**2).reshape(depth, number, number)
    return np.asarray(counts + counts.transpose(0, 2, 1), dtype=np.float64)


def _part(offset: Offset) -> tuple[slice, ...]:
    """Where the first voxels of pairs lie; of the opposite offset, the second ones."""
    return tuple(slice(max(0, -step), -step if step > 0 else None) for step in offset)


def matrices(levels_DHW: Integers, aggregation: Aggregation, distance: int = 1) -> Vector:
    """(M, N, N) counts of which features are taken and averaged; those of no pair are left out.

    Args:
        levels_DHW: grey levels from 1 to N, the largest; 0 outside of the region.

    Raises ConfigError for an unknown aggregation, or a distance below 1.
    """
    if aggregation not in get_args(Aggregation) or distance < 1:
        raise ConfigError(
            f"one of {', '.join(get_args(Aggregation))}, at a distance from 1",
            f"{aggregation} at {distance}",
            "choose one of these",
        )
    number = int(levels_DHW.max(initial=1))
    offsets = directions(volumetric=aggregation.startswith("3d"), distance=distance)
    counts = np.stack([co_occurrences(levels_DHW, number, offset) for offset in offsets])
    if aggregation in ("25d_direction_merged", "3d_averaged"):
        counts = counts.sum(axis=1)
    elif aggregation == "2d_slice_merged":
        counts = counts.sum(axis=0)
    elif aggregation in ("25d_merged", "3d_merged"):
        counts = counts.sum(axis=(0, 1))
    flat = counts.reshape(-1, number, number)
    return np.asarray(flat[flat.sum(axis=(1, 2)) > 0])


def co_occurrence(
    levels_DHW: Integers, aggregation: Aggregation = "3d_merged", distance: int = 1
) -> dict[str, float]:
    """Features of `glcm_features.CODES`: means over the matrices of an aggregation; NaN where there is no pair."""
    found = matrices(levels_DHW, aggregation, distance)
    if not len(found):
        return dict.fromkeys(CODES, np.nan)
    features = co_occurrence_features(found)
    return {name: float(values.mean()) for name, values in features.items()}
