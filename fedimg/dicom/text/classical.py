"""Pixel layer L4, first pass: lines of letters written into an image by a machine, found classically.

Machines write text in one extreme value (white or black). Components of that value that stand out
from their surroundings, of one height, side by side on one base line, are a line of text. Found
lines hold a file back. A first pass only: of upright lines over generated anatomy it sees all of
16 pixels type, 9 in 10 of 10 to 12 pixels, half of 8 pixels; grey, rotated, hand-written and
scanned text, and words of fewer than five letters, it does not see. It holds back about 1 in 100
images of pure noise. The trained detector is a later layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Rectangle = tuple[int, int, int, int]
_Image = npt.NDArray[Any]

_SHORTEST, _TALLEST = 5, 96  # pixels
_LETTERS = 5  # fewer are side markers and scales
_CONTRAST = 0.3  # of the frame's range, across the rim of a letter
# How far below the extreme a stroke may lie: solid letters, and thin ones that were smoothed.
_DEPTHS = (1 / 64, 0.3)
_SPECKS_PER_LETTER = 1
_MOST_COMPONENTS = 20_000


class _Letter(NamedTuple):
    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top


def text_lines(values: _Image) -> list[Rectangle]:
    """Lines of text as (x0, y0, x1, y1), corners included. `values`: (frames, rows, columns, samples)."""
    lightest = values.max(axis=(0, 3)).astype(np.int64)
    darkest = values.min(axis=(0, 3)).astype(np.int64)
    found = []
    # Text of a single frame is in the extreme over all frames too.
    for image in (lightest, -darkest):
        low, high = int(image.min()), int(image.max())
        if high > low:
            for depth in _DEPTHS:
                found += list(_lines(image, low, high, depth))
    return sorted(set(found))


def _lines(image: _Image, low: int, high: int, depth: float) -> Iterator[Rectangle]:
    mask = image >= high - depth * (high - low)
    if mask.mean() > 0.5:
        return
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if count < _LETTERS or count > _MOST_COMPONENTS:
        return
    boxes = ndimage.find_objects(labels)
    specks = [(rows.start, columns.start) for rows, columns in boxes if rows.stop - rows.start < _SHORTEST]
    likely = [
        (index, rows, columns)
        for index, (rows, columns) in enumerate(boxes, start=1)
        if _like_a_letter(rows.stop - rows.start, columns.stop - columns.start)
    ]
    if len(likely) < _LETTERS:
        return
    letters = [
        _Letter(rows.start, rows.stop, columns.start, columns.stop)
        for index, rows, columns in likely
        if _stands_out(image, labels, index, rows, columns, (high - low) * _CONTRAST)
    ]
    places = np.array(specks, np.int64).reshape(-1, 2)
    for line in _grouped(letters):
        x0, x1 = min(letter.left for letter in line), max(letter.right for letter in line) - 1
        y0, y1 = min(letter.top for letter in line), max(letter.bottom for letter in line) - 1
        within = ((places >= (y0, x0)) & (places <= (y1, x1))).all(axis=1).sum()
        if within <= _SPECKS_PER_LETTER * len(line):  # noise has more specks than letters
            yield (x0, y0, x1, y1)


def _like_a_letter(height: int, width: int) -> bool:
    return _SHORTEST <= height <= _TALLEST and width <= 3 * height


def _stands_out(
    image: _Image, labels: _Image, index: int, rows: slice, columns: slice, contrast: float
) -> bool:
    """Whether most of a component's rim lies well below it, and it is drawn by strokes, not a blob."""
    box = (slice(max(rows.start - 2, 0), rows.stop + 2), slice(max(columns.start - 2, 0), columns.stop + 2))
    inside = labels[box] == index
    rim = ndimage.binary_dilation(inside, iterations=2) & ~inside
    if not rim.any():
        return False
    level = image[box][inside].mean()
    return bool(np.mean(level - image[box][rim] > contrast) > 0.6)


def _grouped(letters: list[_Letter]) -> Iterator[list[_Letter]]:
    """Runs of letters of like height on one base line, less than two heights apart."""
    waiting = sorted(letters, key=lambda letter: letter.left)
    while len(waiting) >= _LETTERS:
        line, rest = [waiting[0]], []
        for letter in waiting[1:]:
            last = line[-1]
            height = max(last.height, letter.height)
            aligned = abs(letter.bottom - last.bottom) <= max(1, height // 4)
            alike = min(last.height, letter.height) >= 0.6 * height
            if aligned and alike and letter.left - last.right <= 2 * height:
                line.append(letter)
            else:
                rest.append(letter)
        if len(line) >= _LETTERS:
            yield line
        waiting = rest
