"""Where a classifier's score comes from: how much it falls where a part of the image is covered.

Zeiler and Fergus 2014 (arXiv 1311.2901, section 4.2). No gradient, no hook, nothing of the network is touched: covered
copies of the image go through it like any others. It is attention and no outline: what is covered may matter to the
network for other reasons than a finding, and cells are coarse. It takes some 30 images' time: whoever has something more
urgent to do stops it between two of its steps, and goes on later where it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import numpy.typing as npt
import torch

_CELLS = {2: 6, 3: 3}
"""Along each axis, by dimensions: 36 or 27 copies of an image, each of which costs what an image costs."""
_REACH = 0.5  # of a cell, that is covered beyond each of its edges: neighbours overlap, and nothing falls between two


_VOXELS_AT_ONCE = 1 << 18
"""Of covered copies, between two looks at whether to go on: four of 256², one of a volume."""


@dataclass
class Begun:
    """A map as far as it was made. Attributes: scores: of the image, then of its covered copies, in order."""

    scores: list[float] = field(default_factory=list)


def covered_map(
    image: torch.Tensor,
    score: Callable[[torch.Tensor], npt.NDArray[np.float64]],
    begun: Begun | None = None,
    go_on: Callable[[], bool] = lambda: True,
) -> npt.NDArray[np.float32] | None:
    """(C, *spatial) and what gives (N,) logits of (N, C, *spatial) → (*spatial) in [0, 1]; all 0 where nothing matters.

    A cell is covered by each channel's mean of the image. Args: begun: of this very image; what a former call has found
    is not asked again. go_on: asked before every step; None is the answer where it says no, and `begun` is as far as it is.
    """
    spatial = tuple(image.shape[1:])
    cells = _CELLS[len(spatial)]
    edges = [np.linspace(0, side, min(cells, side) + 1) for side in spatial]
    windows = list(_windows(edges, spatial))
    scores = [] if begun is None else begun.scores
    mean = image.mean(dim=tuple(range(1, image.dim()))).reshape(-1, *(1,) * len(spatial))
    together = max(1, _VOXELS_AT_ONCE // math.prod(image.shape))
    while len(scores) <= len(windows):
        if not go_on():
            return None
        numbers = range(len(scores), min(len(scores) + together, len(windows) + 1))
        copies = [_covered(image, windows[k - 1][1], mean) if k else image for k in numbers]
        scores += [float(one) for one in score(torch.stack(copies))]
    falls = np.maximum(scores[0] - np.array(scores[1:]), 0.0)
    heat = np.zeros(spatial, np.float32)
    top = float(falls.max())
    if top > 0:
        for (inner, _), fall in zip(windows, falls, strict=True):
            heat[inner] = fall / top
    return heat


def _covered(image: torch.Tensor, place: tuple[slice, ...], mean: torch.Tensor) -> torch.Tensor:
    copy = image.clone()
    copy[(slice(None), *place)] = mean
    return copy


def _windows(
    edges: list[npt.NDArray[np.float64]], spatial: tuple[int, ...]
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Of each cell its own voxels, and those that are covered for it."""
    for index in product(*(range(len(axis) - 1) for axis in edges)):
        inner, outer = [], []
        for k, axis, side in zip(index, edges, spatial, strict=True):
            low, high = axis[k], axis[k + 1]
            reach = (high - low) * _REACH
            inner.append(slice(round(low), max(round(high), round(low) + 1)))
            outer.append(slice(max(0, round(low - reach)), min(side, round(high + reach) or 1)))
        yield tuple(inner), tuple(outer)
