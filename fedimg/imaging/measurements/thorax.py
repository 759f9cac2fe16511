"""The cardiothoracic ratio: heart's width by the chest's. C. Danzer, Am J Med Sci 157, 1919."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]

_LEAST_LUNG = 0.02  # of the image: what is smaller and dark is no lung


def cardiothoracic_ratio(heart_HW: Mask, thorax_HW: Mask) -> float | None:
    """From masks of a frontal view, columns across: the heart's whole width by the widest row inside the chest.

    None where either is empty. Both are widths in columns, so that the ratio needs no spacing.
    """
    columns = np.flatnonzero(heart_HW.any(axis=0))
    widest = max((np.ptp(np.flatnonzero(row)) + 1 for row in thorax_HW if row.any()), default=0)
    if not len(columns) or not widest:
        return None
    return float((np.ptp(columns) + 1) / widest)


def heuristic_cardiothoracic_ratio(image_HW: npt.NDArray[np.floating]) -> float | None:
    """The same from a frontal radiograph alone, where more is denser: a heuristic, not a diagnosis.

    Otsu's threshold parts lungs from the rest; they are the two largest dark regions that do not touch the border, one
    on either side of the middle. The chest is as wide as the lungs together reach in one row, and the heart as the
    widest gap between them below the middle of their height. Effusion, consolidation, rotation or a lung cut off by
    the border break it. None where no two lungs are found.
    """
    from skimage.filters import threshold_otsu

    if not np.isfinite(image_HW).all() or image_HW.min() == image_HW.max():
        return None
    dark = ndimage.binary_opening(image_HW < threshold_otsu(image_HW), iterations=1)
    lungs = _lungs(dark)
    if lungs is None:
        return None
    left, right = lungs
    rows = np.flatnonzero(left.any(axis=1) & right.any(axis=1))
    if not len(rows):
        return None
    reach = [_last(right[row]) - _first(left[row]) + 1 for row in rows]
    gaps = [_first(right[row]) - _last(left[row]) - 1 for row in rows if row >= rows.mean()]
    return float(max(0, *gaps) / max(reach))


def _lungs(dark: Mask) -> tuple[Mask, Mask] | None:
    """The one with the lower columns first."""
    labels, count = ndimage.label(dark)
    border = set(np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])))
    middle = dark.shape[1] / 2
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    found: dict[bool, int] = {}
    for number in sorted(range(1, count + 1), key=lambda n: -int(sizes[n])):
        if number in border or sizes[number] < _LEAST_LUNG * dark.size:
            continue
        side = bool(np.nonzero(labels == number)[1].mean() > middle)
        found.setdefault(side, number)
    if len(found) < 2:
        return None
    return labels == found[False], labels == found[True]


def _first(row: Mask) -> int:
    return int(row.argmax())


def _last(row: Mask) -> int:
    return len(row) - 1 - int(row[::-1].argmax())
