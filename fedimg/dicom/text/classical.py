"""The classical half of the text detector: strokes, their components, and components in a line.

It shares nothing with the trained half but the image, and fails in other ways: what it finds are
letters of one height side by side on one line, upright or turned by quarters, whatever their font.
Strokes are what an opening (dark text: a closing) takes away (white top-hat; Serra 1982), and the
pixels at either end of the range, which large letters are made of. Six letters or more of unlike
shapes make a line; rows of like shapes are rulers, and blocks at equal distances are grids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fedimg.dicom.text.boxes import Rectangle

_Grey = npt.NDArray[np.uint8]
_Mask = npt.NDArray[np.bool_]

_SHORTEST, _TALLEST = 5, 96  # pixels
_LETTERS = 6  # fewer are side markers and scales
_STROKE = 7  # pixels: strokes are thinner
_STEP = 0.25 * 255  # a stroke stands so far above its ground
_END = 255 // 64  # so far from the extreme the pixels of a solid letter may lie
_CROWDED = 600  # components: it is noise, and would take long
_UNLIKE = 0.2  # the areas and the widths of letters deviate so much from their mean
_LEVEL, _MOST_BLOCKS = 0.8, 0.2  # of a line's letters
_SOLID = 0.85  # of its rectangle: a component that fills more is a block, not a letter
_EVEN, _BLOCKY = 0.8, 0.6  # of a grid's neighbours; of its cells' rectangles, in the middle one
_SPECKS_PER_LETTER = 0.5
_RANGE = (0.2, 99.8)  # percentiles


class _Letter(NamedTuple):
    top: int
    bottom: int
    left: int
    right: int
    area: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def turned(self) -> _Letter:
        """With rows and columns exchanged: lines up and down become lines across."""
        return _Letter(self.left, self.right, self.top, self.bottom, self.area)


def text_lines(plane: npt.NDArray[Any]) -> list[Rectangle]:
    """Lines of text in a grey plane (rows, columns) of any integer type, not dilated, in order."""
    found: set[Rectangle] = set()
    for grey in _windows(plane):
        for image in (grey, 255 - grey):
            strokes = image - ndimage.grey_opening(image, size=(_STROKE, _STROKE))
            found.update(_lines(strokes > _STEP))
            found.update(_lines(image >= 255 - _END))
    return sorted(found)


def _windows(plane: npt.NDArray[Any]) -> Iterator[_Grey]:
    """The plane in 8 bits: its whole range, and what most pixels lie in where that is much narrower."""
    low, high = float(plane.min()), float(plane.max())
    if high <= low:
        return
    yield _window(plane, low, high)
    step = max(1, min(plane.shape) // 128)
    inner = [float(value) for value in np.percentile(plane[::step, ::step], _RANGE)]
    if 0 < inner[1] - inner[0] < 0.6 * (high - low):
        yield _window(plane, *inner)


def _window(plane: npt.NDArray[Any], low: float, high: float) -> _Grey:
    return np.asarray((np.clip(plane, low, high) - low) * (255.0 / (high - low)), np.float32).astype(np.uint8)


def _lines(mask: _Mask) -> Iterator[Rectangle]:
    if not mask.any() or mask.mean() > 0.5:
        return
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if not _LETTERS <= count <= 4 * _CROWDED:
        return
    areas = np.bincount(labels.ravel())
    letters, specks = [], []
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        longer, shorter = max(height, width), min(height, width)
        if longer < _SHORTEST:
            specks.append((rows.start, columns.start))
        elif longer <= _TALLEST and longer <= 12 * shorter:
            letters.append(_Letter(rows.start, rows.stop, columns.start, columns.stop, int(areas[index])))
    if not _LETTERS <= len(letters) <= _CROWDED:
        return
    places = np.array(specks, np.int64).reshape(-1, 2)
    across = [_outline(line) for line in _grouped(letters)]
    upright = [_outline(line) for line in _grouped([letter.turned() for letter in letters])]
    turned = [(Rectangle(box.y0, box.x0, box.y1, box.x1), size) for box, size in upright]
    for box, size in across + turned:
        within = ((places >= (box.y0, box.x0)) & (places <= (box.y1, box.x1))).all(axis=1).sum()
        if within <= _SPECKS_PER_LETTER * size:  # noise has more specks than letters
            yield box


def _outline(line: Sequence[_Letter]) -> tuple[Rectangle, int]:
    box = Rectangle(
        min(letter.left for letter in line),
        min(letter.top for letter in line),
        max(letter.right for letter in line) - 1,
        max(letter.bottom for letter in line) - 1,
    )
    return box, len(line)


def _grouped(letters: Iterable[_Letter]) -> Iterator[list[_Letter]]:
    """Runs of letters of like height on one line above or below, less than a height apart."""
    tall = (letter for letter in letters if letter.height >= _SHORTEST)
    waiting = sorted(
        (letter for letter in tall if letter.right - letter.left <= 2 * letter.height),
        key=lambda letter: (letter.left, letter.top),
    )
    while len(waiting) >= _LETTERS:
        line, rest = [waiting[0]], list[_Letter]()
        for letter in waiting[1:]:
            (line if _follows(line[-1], letter) else rest).append(letter)
        if len(line) >= _LETTERS and _unlike(line):
            yield line
        waiting = rest


def _follows(last: _Letter, letter: _Letter) -> bool:
    height = max(last.height, letter.height)
    slack = max(1, height // 6)
    level = abs(letter.bottom - last.bottom) <= slack or abs(letter.top - last.top) <= slack
    alike = min(last.height, letter.height) >= 0.6 * height
    return level and alike and -1 <= letter.left - last.right <= height


def _evenly(line: Sequence[_Letter]) -> float:
    """Share of neighbours that stand a pixel about the usual distance apart, by their left or right ends."""
    left = np.diff([letter.left for letter in line])
    right = np.diff([letter.right for letter in line])
    usual = np.median(np.concatenate([left, right]))
    return float((np.minimum(np.abs(left - usual), np.abs(right - usual)) <= 1).mean())


def _unlike(line: Sequence[_Letter]) -> bool:
    """Whether these are letters: of unlike widths and areas, few of them blocks, most on one level."""
    areas = np.array([letter.area for letter in line])
    widths = np.array([letter.right - letter.left for letter in line])
    heights = np.array([letter.height for letter in line])
    if _evenly(line) >= _EVEN and float(np.median(areas / (widths * heights))) >= _BLOCKY:
        return False
    unlike = min(areas.std() / areas.mean(), widths.std() / widths.mean()) >= _UNLIKE
    blocks = float((areas > _SOLID * widths * heights).mean())
    slack = max(1, int(heights.max()) // 6)
    ends = (np.array([letter.top for letter in line]), np.array([letter.bottom for letter in line]))
    level = max(float((np.abs(end - np.median(end)) <= slack).mean()) for end in ends)
    return bool(unlike) and blocks <= _MOST_BLOCKS and level >= _LEVEL
