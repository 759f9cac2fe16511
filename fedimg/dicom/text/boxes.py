"""Heat maps → boxes: connected cells with enough evidence, cut into pieces where they lie aslant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]

_MARGIN_CELLS = 1
_MOST_BEYOND = 6  # cells
_FILLED = 0.5  # a box emptier than this is cut in two
_SMALLEST_CUT = 6  # cells a side


class Decision(NamedTuple):
    """When connected cells above `grow` are a line: if `fewest` of them lie above `sure`.

    A line's box goes on for `beyond` times its height, since its ends are seen last. The values
    are those that `scripts/tune_text_detector.py` chose, on fonts and seeds that no reported figure
    was measured with.
    """

    sure: float = 0.7
    grow: float = 0.03
    fewest: int = 8
    beyond: float = 0.6


class Rectangle(NamedTuple):
    """Pixels, corners included."""

    x0: int
    y0: int
    x1: int
    y1: int

    def holds(self, other: Rectangle) -> bool:
        """Whether the other lies within this one."""
        return self.x0 <= other.x0 and self.y0 <= other.y0 and self.x1 >= other.x1 and self.y1 >= other.y1


CHOSEN = Decision()


def lines_of(
    heat: npt.NDArray[np.float32], cell: int, rows: int, columns: int, decision: Decision = CHOSEN
) -> list[Rectangle]:
    """Rectangles around the lines of a heat map whose cells are `cell` pixels a side, cut to the image."""
    labels, count = ndimage.label(heat > decision.grow, structure=np.ones((3, 3)))
    if not count:
        return []
    sure = ndimage.sum_labels(heat > decision.sure, labels, np.arange(1, count + 1))
    found = []
    for index, window in enumerate(ndimage.find_objects(labels)):
        if sure[index] < decision.fewest:
            continue
        inside = labels[window] == index + 1
        for top, left, bottom, right in pieces(inside, window[0].start, window[1].start):
            along = _MARGIN_CELLS + min(
                _MOST_BEYOND, round(decision.beyond * min(bottom - top, right - left))
            )
            across, down = (along, _MARGIN_CELLS) if right - left >= bottom - top else (_MARGIN_CELLS, along)
            found.append(
                Rectangle(
                    max(0, (left - across) * cell),
                    max(0, (top - down) * cell),
                    min(columns, (right + across) * cell) - 1,
                    min(rows, (bottom + down) * cell) - 1,
                )
            )
    return found


def pieces(inside: Mask, top: int, left: int) -> Iterator[tuple[int, int, int, int]]:
    """Half-open rectangles (top, left, bottom, right) that hold all of a component and not much else."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return
    inside = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, left = top + int(rows[0]), left + int(columns[0])
    height, width = inside.shape
    if inside.mean() >= _FILLED or max(height, width) < _SMALLEST_CUT:
        yield top, left, top + height, left + width
    elif width >= height:
        yield from pieces(inside[:, : width // 2], top, left)
        yield from pieces(inside[:, width // 2 :], top, left + width // 2)
    else:
        yield from pieces(inside[: height // 2], top, left)
        yield from pieces(inside[height // 2 :], top + height // 2, left)


def outermost(rectangles: Iterable[Rectangle]) -> list[Rectangle]:
    """Without those that lie within another, in order."""
    kept: list[Rectangle] = []
    for candidate in sorted(set(rectangles), key=lambda r: (r.x0 - r.x1) * (r.y1 - r.y0 + 1)):
        if not any(other.holds(candidate) for other in kept):
            kept.append(candidate)
    return sorted(kept)
