"""The text detector: every plane of every frame, looked at by both halves; what one finds is found.

Every frame is looked at; of a frame that repeats most of the one before, only what changed. A place
that holds text in a quarter of the frames holds it in all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fedimg.dicom.text.boxes import Rectangle, lines_of, outermost, pieces
from fedimg.dicom.text.classical import text_lines
from fedimg.dicom.text.views import Box, Frames, Plane, differs, planes

if TYPE_CHECKING:
    from fedimg.dicom.text.network import TextNet

_MARGIN = 3  # pixels around a line that the classical half found
_CONTEXT = 64  # pixels around a change that are looked at with it
# Of a halved copy: in smaller ones whole organs look like letters. Smaller images are doubled.
SMALLEST_SIDE = 160
_SHORTEST_LINE = 12  # pixels: three letters need more, and test images of 10 × 10 look like digits
_RANGE = (0.5, 99.5)  # percentiles
_EVEN_AT_MOST = 0.5  # probability: less than is sure
_LASTING = 0.25  # of the frames


class TextDetector:
    """Finds lines of machine-written text. Deterministic; holds no state between images.

    Raises WeightsError when made, if the shipped weights are missing or changed.
    """

    def __init__(self, net: TextNet | None = None) -> None:
        """`net`: other weights than the shipped ones, to evaluate them."""
        # Torch takes seconds to load: only who looks for text waits for it.
        from fedimg.dicom.text import network

        self._net = net or network.shipped()
        self._heat, self._cell = network.heat, network.CELL
        self.version = "text-1:" + (network.WEIGHTS_SHA256 if net is None else "unpinned")

    def find(self, frames: Frames) -> list[Box]:
        """Boxes around the lines of text, dilated and cut to the image, in order.

        A box of all frames has frame None; so has every box of a single frame.
        """
        before: list[tuple[Plane, list[Rectangle]]] = []
        each: list[list[Rectangle]] = []
        for index in range(len(frames.values)):
            now: list[tuple[Plane, list[Rectangle]]] = []
            for place, plane in enumerate(planes(frames, index)):
                new = np.ones(plane.shape, np.bool_)
                known: list[Rectangle] = []
                if place < len(before):
                    new = plane != before[place][0]
                    known = before[place][1]
                if place:
                    new &= differs(plane, now[0][0])
                now.append((plane, self._in_part(plane, new, known)))
            before = now
            each.append(outermost(line for _, lines in now for line in lines))
        return _boxes(each, *frames.values.shape[1:3])

    def _in_part(
        self, plane: Plane, new: npt.NDArray[np.bool_], known: Sequence[Rectangle]
    ) -> list[Rectangle]:
        """Lines of a plane of which only the part marked `new` (rows, columns) has not been looked at."""
        rows, columns = np.flatnonzero(new.any(axis=1)), np.flatnonzero(new.any(axis=0))
        if not len(rows):
            return list(known)
        y0, y1 = max(0, int(rows[0]) - _CONTEXT), min(plane.shape[0], int(rows[-1]) + _CONTEXT + 1)
        x0, x1 = max(0, int(columns[0]) - _CONTEXT), min(plane.shape[1], int(columns[-1]) + _CONTEXT + 1)
        inner = Rectangle(int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1]))
        kept = [line for line in known if not inner.holds(line)]
        found = [
            Rectangle(left + x0, top + y0, right + x0, bottom + y0)
            for left, top, right, bottom in self._lines(
                plane[y0:y1, x0:x1], doubled=min(plane.shape) < SMALLEST_SIDE
            )
        ]
        return outermost(kept + found)

    def _lines(self, plane: Plane, *, doubled: bool) -> list[Rectangle]:
        if max(plane.shape) < _SHORTEST_LINE or plane.min() == plane.max():
            return []
        found = solid_lines(plane)
        for heat, cell in self.levels(plane, doubled=doubled):
            found += lines_of(heat, cell, *plane.shape)
        return outermost(found)

    def levels(self, plane: Plane, *, doubled: bool) -> Iterator[tuple[npt.NDArray[np.float32], int]]:
        """Heat maps of a plane that is not of one value, and of its halved copies, with their cells' pixels.

        Only the plane's own, or with `doubled` that of a copy of twice the size, where it is small.
        """
        grey = _as_float(plane)
        step = max(1, math.isqrt(grey.size) // 256)
        low, high = (float(value) for value in np.percentile(grey[::step, ::step], _RANGE))
        cell = self._cell
        if doubled:
            large = np.repeat(np.repeat(grey, 2, axis=0), 2, axis=1)
            yield self._evidence(large, low, high), cell // 2
            return
        yield self._evidence(grey, low, high), cell
        while min(grey.shape) >= 2 * SMALLEST_SIDE:
            grey, cell = _halved(grey), cell * 2
            yield self._evidence(grey, low, high), cell

    def _evidence(self, grey: npt.NDArray[np.float32], low: float, high: float) -> npt.NDArray[np.float32]:
        """The heat map, in which cells of one value are no sure evidence: a mask is not found again."""
        heat = self._heat(self._net, grey, low, high)
        return np.where(_even(grey, self._cell), np.minimum(heat, _EVEN_AT_MOST), heat)


def solid_lines(plane: Plane) -> list[Rectangle]:
    """What the classical half finds, dilated and cut to the plane."""
    rows, columns = plane.shape
    return [
        Rectangle(
            max(x0 - _MARGIN, 0),
            max(y0 - _MARGIN, 0),
            min(x1 + _MARGIN, columns - 1),
            min(y1 + _MARGIN, rows - 1),
        )
        for x0, y0, x1, y1 in text_lines(plane)
    ]


def _as_float(plane: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Single precision around the middle value: steps of one survive in 32-bit images too."""
    if plane.dtype.itemsize <= 2:
        return np.asarray(plane, np.float32)
    wide = plane.astype(np.float64)
    return np.asarray(wide - np.median(wide), np.float32)


def _even(grey: npt.NDArray[np.float32], cell: int) -> npt.NDArray[np.bool_]:
    """Cells (⌈H/cell⌉, ⌈W/cell⌉) of a plane (H, W) whose pixels have one value."""
    rows, columns = grey.shape
    whole = np.pad(grey, ((0, -rows % cell), (0, -columns % cell)), mode="edge")
    blocks = whole.reshape(whole.shape[0] // cell, cell, -1, cell)
    even: npt.NDArray[np.bool_] = (blocks == blocks[:, :1, :, :1]).all(axis=(1, 3))
    return even


def _halved(grey: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    rows, columns = grey.shape
    even = np.pad(grey, ((0, rows % 2), (0, columns % 2)), mode="edge")
    half: npt.NDArray[np.float32] = (
        even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    ) * np.float32(0.25)
    return half


def _boxes(each: Sequence[list[Rectangle]], rows: int, columns: int) -> list[Box]:
    """Rectangles by frame → boxes, those that last for all frames."""
    if len(each) == 1:
        return [Box(None, *rectangle) for rectangle in each[0]]
    count = np.zeros((rows, columns), np.int32)
    for rectangles in each:
        mask = np.zeros((rows, columns), np.bool_)
        for x0, y0, x1, y1 in rectangles:
            mask[y0 : y1 + 1, x0 : x1 + 1] = True
        count += mask
    lasting, _ = ndimage.label(count >= max(2, math.ceil(_LASTING * len(each))))
    always = [
        Rectangle(left, top, right - 1, bottom - 1)
        for index, window in enumerate(ndimage.find_objects(lasting), start=1)
        for top, left, bottom, right in pieces(lasting[window] == index, window[0].start, window[1].start)
    ]
    found = [Box(None, *rectangle) for rectangle in sorted(always)]
    for index, rectangles in enumerate(each):
        found += [
            Box(index, *rectangle)
            for rectangle in rectangles
            if not any(other.holds(rectangle) for other in always)
        ]
    return found
