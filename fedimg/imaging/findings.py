"""What is drawn over an image → the centre and size of every finding, as a heat map that can be learnt.

Of masks a finding is a connected part of one class; boxes come numbered, from `FIRST_NUMBER` on (those of class k from
256·(k − 1) + `FIRST_NUMBER` to 256·k − 1), and each is one. A Gaussian stands around every centre, as wide as a sixth of the finding (Zhou et al. 2019, arXiv 1904.07850, section 3,
where its width follows from an overlap instead); where two meet, the higher one counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

FIRST_NUMBER = 128
"""As in `dicom.voxel_labels`: smaller values are classes."""
MOST = 128
"""Findings of one image; a mask of more parts is noise, and would take hours."""
LEAST_SIGMA = 0.8
_REACH = 5.0  # standard deviations; beyond, a Gaussian is below 4·10⁻⁶
Where = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """`kind`: its class, from 1. `where`: its extent, in voxels."""

    kind: int
    where: Where


def kind_of(value: int) -> int:
    return value // 256 + 1 if value >= FIRST_NUMBER else value


def findings_of(labels: npt.NDArray[Any]) -> list[Finding] | None:
    """Where each finding lies; None for more than `MOST`."""
    found: list[Finding] = []
    for value in np.unique(labels[labels > 0]).tolist():
        inside = labels == value
        if value >= FIRST_NUMBER:
            parts, count = inside.astype(np.int8), 1
        else:
            parts, count = ndimage.label(inside, structure=np.ones((3,) * labels.ndim))
        if len(found) + count > MOST:
            return None
        found += [Finding(kind_of(value), where) for where in ndimage.find_objects(parts)]
    return found


def linked(labels_DHW: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """A stack of slices whose boxes were numbered slice by slice → numbered through: one finding, one number.

    Boxes of one class in neighbouring slices are of one finding where they share at least half of the smaller one. None
    for more findings of a class than there are numbers.
    """
    if not (labels_DHW >= FIRST_NUMBER).any():
        return labels_DHW
    last: list[tuple[int, Where, int]] = []
    joined: list[int] = []  # of each chain, the one that it belongs to
    drawn: list[tuple[int, Where, int, int]] = []
    for depth, plane in enumerate(labels_DHW):
        here = []
        for value in np.unique(plane[plane >= FIRST_NUMBER]).tolist():
            (where,), kind = ndimage.find_objects((plane == value).astype(np.int8)), kind_of(value)
            chains = {_root(joined, chain) for k, before, chain in last if k == kind and _same(where, before)}
            chain = min(chains, default=len(joined))
            if not chains:
                joined.append(chain)
            for other in chains:
                joined[other] = chain
            here.append((kind, where, chain))
            drawn.append((depth, where, value, chain))
        last = here
    numbers: dict[int, dict[int, int]] = {}
    result = labels_DHW.astype(np.uint16)
    for depth, where, value, chain in drawn:
        kind = kind_of(value)
        own = numbers.setdefault(kind, {})
        number = own.setdefault(_root(joined, chain), len(own) + 1)
        if number > 256 - FIRST_NUMBER:
            return None
        plane = labels_DHW[depth][where]
        result[depth][where][plane == value] = 256 * kind - number
    return result


def _root(joined: list[int], chain: int) -> int:
    while joined[chain] != chain:
        chain = joined[chain]
    return chain


def _same(one: Where, other: Where) -> bool:
    shared, areas = 1, [1, 1]
    for a, b in zip(one, other, strict=True):
        shared *= max(0, min(a.stop, b.stop) - max(a.start, b.start))
        areas = [areas[0] * (a.stop - a.start), areas[1] * (b.stop - b.start)]
    return 2 * shared >= min(areas)


def heat_map(labels: npt.NDArray[Any], kinds: int = 1) -> npt.NDArray[np.float32]:
    """(*spatial) → (kinds + axes, *spatial): 1 at each centre of a kind and less around it; at each centre the size.

    Two findings about one centre stand in neighbouring voxels. All NaN for more than `MOST`, or a class beyond
    `kinds`: then this patient counts for nothing.
    """
    target = np.zeros((kinds + labels.ndim, *labels.shape), np.float32)
    found = findings_of(labels)
    if found is None or any(finding.kind > kinds for finding in found):
        return np.full_like(target, np.nan)
    taken = np.zeros(labels.shape, np.bool_)
    for finding in found:
        size = [side.stop - side.start for side in finding.where]
        centre = _free(taken, tuple((side.start + side.stop - 1) // 2 for side in finding.where))
        taken[centre] = True
        sigmas = [max(length / 6, LEAST_SIGMA) for length in size]
        near = tuple(
            slice(max(0, math.floor(at - _REACH * sigma)), math.ceil(at + _REACH * sigma) + 1)
            for at, sigma in zip(centre, sigmas, strict=True)
        )
        axes = np.ogrid[
            tuple(slice(s.start, min(s.stop, n)) for s, n in zip(near, labels.shape, strict=True))
        ]
        distance = sum(
            ((axis - at) / sigma) ** 2 for axis, at, sigma in zip(axes, centre, sigmas, strict=True)
        )
        heat = target[finding.kind - 1]
        np.maximum(heat[near], np.exp(-distance / 2), out=heat[near])
        heat[centre] = 1.0
        for axis, length in enumerate(size, start=kinds):
            target[axis][centre] = length
    return target


def _free(taken: npt.NDArray[np.bool_], centre: tuple[int, ...]) -> tuple[int, ...]:
    """The centre, or the next voxel along the last axis at which no finding has its own."""
    before, at, side = centre[:-1], centre[-1], taken.shape[-1]
    along = ((*before, (at + step) % side) for step in range(side))
    return next((place for place in along if not taken[place]), centre)
