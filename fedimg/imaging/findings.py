"""What is drawn over an image → the centre and size of every finding, as a heat map that can be learnt.

Of masks a finding is a connected part of one class, of boxes each box (they come numbered). A Gaussian stands
around every centre, as wide as a sixth of the finding (Zhou et al. 2019, arXiv 1904.07850, section 3, where its
width follows from an overlap instead); where two meet, the higher one counts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

_LEAST_SIGMA = 0.8


def heat_map(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """(*spatial) → (1 + axes, *spatial): 1 at each centre and less around it; at each centre the finding's size."""
    target = np.zeros((1 + labels.ndim, *labels.shape), np.float32)
    grid = np.meshgrid(*(np.arange(side) for side in labels.shape), indexing="ij", sparse=True)
    for value in np.unique(labels[labels > 0]):
        parts, _ = ndimage.label(labels == value, structure=np.ones((3,) * labels.ndim))
        for box in ndimage.find_objects(parts):
            size = [side.stop - side.start for side in box]
            centre = tuple((side.start + side.stop - 1) // 2 for side in box)
            distance = sum(
                ((axis - at) / max(length / 6, _LEAST_SIGMA)) ** 2
                for axis, at, length in zip(grid, centre, size, strict=True)
            )
            np.maximum(target[0], np.exp(-distance / 2), out=target[0])
            target[(0, *centre)] = 1.0
            target[(slice(1, None), *centre)] = size
    return target
