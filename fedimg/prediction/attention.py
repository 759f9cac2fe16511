"""Where a classifier's score comes from: how much it falls where a part of the image is covered.

Zeiler and Fergus 2014 (arXiv 1311.2901, section 4.2). No gradient, no hook, nothing of the network is touched: covered
copies of the image go through it like any others. It is attention and no outline: what is covered may matter to the
network for other reasons than a finding, and cells are coarse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import numpy.typing as npt
import torch

_CELLS = {2: 6, 3: 3}
"""Along each axis, by dimensions: 36 or 27 copies of an image, each of which costs what an image costs."""
_REACH = 0.5  # of a cell, that is covered beyond each of its edges: neighbours overlap, and nothing falls between two


def covered_map(
    image: torch.Tensor, score: Callable[[torch.Tensor], npt.NDArray[np.float64]]
) -> npt.NDArray[np.float32]:
    """(C, *spatial) and what gives (N,) logits of (N, C, *spatial) → (*spatial) in [0, 1]; all 0 where nothing matters.

    A cell is covered by each channel's mean of the image.
    """
    spatial = tuple(image.shape[1:])
    cells = _CELLS[len(spatial)]
    edges = [np.linspace(0, side, min(cells, side) + 1) for side in spatial]
    mean = image.mean(dim=tuple(range(1, image.dim())))
    copies, places = [], list[tuple[slice, ...]]()
    for inner, outer in _windows(edges, spatial):
        copy = image.clone()
        copy[(slice(None), *outer)] = mean.reshape(-1, *(1,) * len(spatial))
        copies.append(copy)
        places.append(inner)
    found = score(torch.stack([image, *copies]))
    falls = np.maximum(found[0] - found[1:], 0.0)
    heat = np.zeros(spatial, np.float32)
    top = float(falls.max())
    if top > 0:
        for where, fall in zip(places, falls, strict=True):
            heat[where] = fall / top
    return heat


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
