"""Pixel layer L3: what is drawn at the same place of every slice of a series or every frame of a cine.

Anatomy and noise change from slice to slice; letters, logos and scales do not. A pixel is drawn if
its value stays the same over all compared images, is not the value of the background, and stands
out from its surroundings. Background is what no detector measured: padding, the field of view's
corners, clipped air. It is constant too, but it is the lowest value, one over large areas or that of
the image's corners, and those values are left out. So black letters over moving anatomy are not
seen here, and left to L4.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Rectangle = tuple[int, int, int, int]
Palette = tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16], npt.NDArray[np.uint16], int]

FEWEST = 6
"""Fewer images prove nothing: in few, noise is equal by chance."""
_MOST = 16  # compared, spread over all
_STEADY = 1 / 256  # of the range: how much a drawn value may vary (compression)
_CONTRAST = 0.2  # of the range, within a few pixels
_REACH = 2  # pixels to either side in which contrast is looked for
_JOIN, _MARGIN = 4, 2  # pixels between letters of one mark; pixels around strokes
_FEWEST_PIXELS = 12  # of strokes in one mark
_TILE = 8  # pixels: the raster of the rectangles
_BACKGROUND, _WIDE = 0.02, 0.15  # of all pixels: a dark value, and any, that covers more is no stroke
_CORNERS = 3  # of four, that show the same value
_MOST_DRAWN, _LEAST_MOVING = 0.2, 0.05  # of all pixels: beyond these the images do not differ enough to tell


class Image(Protocol):
    """What is compared: `structure.StoredImage`, values (frames, rows, columns, samples)."""

    @property
    def values(self) -> npt.NDArray[Any]: ...


@dataclass(frozen=True, slots=True)
class Graphics:
    """Drawn marks (letters, logos, scales) common to a series or to the frames of one object.

    Attributes:
        rows, columns: of the images compared; images of another size have other graphics.
        rectangles: (x0, y0, x1, y1), corners included, ordered.
        compared: how many images were compared.
    """

    rows: int
    columns: int
    rectangles: tuple[Rectangle, ...]
    compared: int


def of_series(samples: Iterable[Image]) -> Graphics | None:
    """Graphics common to single images spread over one series (about 12; fewer than `FEWEST` tell nothing).

    Images of another size, type or number of samples than the first are left out. None where there
    is nothing to compare; an empty `rectangles` where nothing is drawn.
    """
    chosen: list[npt.NDArray[Any]] = []
    for sample in samples:
        for frame in sample.values:
            if not chosen or (frame.shape, frame.dtype) == (chosen[0].shape, chosen[0].dtype):
                chosen.append(frame)
    return _common(chosen)


def of_frames(image: Image, palette: Palette | None = None) -> Graphics | None:
    """Graphics common to the frames of one object; None for fewer than `FEWEST` frames.

    `palette`: red, green and blue tables and the first value they map. Without it indices are compared.
    """
    if len(image.values) < FEWEST:
        return None
    if palette is None:
        return _common(list(image.values))
    *tables, first = palette
    light = sum(table[: min(map(len, tables))].astype(np.int64) for table in tables)
    picked = np.clip(image.values.astype(np.int64) - first, 0, min(map(len, tables)) - 1)
    return _common([np.take(light, frame) for frame in picked])


def _common(frames: list[npt.NDArray[Any]]) -> Graphics | None:
    if len(frames) < FEWEST:
        return None
    picked = np.unique(np.linspace(0, len(frames) - 1, min(_MOST, len(frames))).round().astype(int))
    stack = np.stack([frames[index] for index in picked])  # (images, rows, columns, samples)
    rows, columns = stack.shape[1:3]
    drawn = np.zeros((rows, columns), np.bool_)
    for sample in range(stack.shape[3]):
        drawn |= _drawn(stack[..., sample])
    return Graphics(rows, columns, tuple(_boxes(drawn)), len(picked))


def _drawn(stack: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Pixels (rows, columns) of strokes in (images, rows, columns)."""
    least, most = stack.min(axis=0).astype(np.int64), stack.max(axis=0).astype(np.int64)
    low, high = int(least.min()), int(most.max())
    span = high - low
    nothing = np.zeros(least.shape, np.bool_)
    if span == 0:
        return nothing
    steady = most - least <= span * _STEADY
    if steady.mean() > 1 - _LEAST_MOVING:  # the same picture again and again
        return nothing
    strokes = steady & ~_background(least, steady, low, span)
    if not strokes.any():
        return nothing
    # The middle image: what stands on one image only makes no contrast for what is beside it.
    half = len(stack) // 2
    middle = np.partition(stack, half, axis=0)[half].astype(np.int64)
    size = 2 * _REACH + 1
    relief = ndimage.maximum_filter(middle, size) - ndimage.minimum_filter(middle, size)
    strokes &= relief >= span * _CONTRAST
    return strokes if strokes.mean() <= _MOST_DRAWN else nothing


def _background(
    values: npt.NDArray[np.int64], steady: npt.NDArray[np.bool_], low: int, span: int
) -> npt.NDArray[np.bool_]:
    """Steady pixels of the lowest value, of the corners' common one, or of one over much of the image."""
    found, counts = np.unique(values[steady], return_counts=True)
    dark = found[(counts > _BACKGROUND * values.size) & (found <= low + span * _CONTRAST)]
    wide = found[counts > _WIDE * values.size]
    corners = [int(values[at]) for at in ((0, 0), (0, -1), (-1, 0), (-1, -1)) if steady[at]]
    common = [value for value in set(corners) if corners.count(value) >= _CORNERS]
    background: npt.NDArray[np.bool_] = (
        np.isin(values, [low, *dark.tolist(), *wide.tolist(), *common]) & steady
    )
    return background


def _boxes(drawn: npt.NDArray[np.bool_]) -> list[Rectangle]:
    """Few rectangles around the strokes: tiles that hold any, joined along rows, then downwards.

    A box around a whole ruler or the edge of a fan would hold the anatomy beside it.
    """
    rows, columns = drawn.shape
    labels, count = ndimage.label(ndimage.binary_dilation(drawn, np.ones((3, 3)), iterations=_JOIN))
    sizes = np.bincount(labels[drawn], minlength=count + 1)
    large = drawn & (sizes[labels] >= _FEWEST_PIXELS)
    around = np.asarray(ndimage.binary_dilation(large, np.ones((3, 3)), _MARGIN))
    down, across = -(-rows // _TILE), -(-columns // _TILE)
    padded = np.zeros((down * _TILE, across * _TILE), np.bool_)
    padded[:rows, :columns] = around
    tiles: npt.NDArray[np.bool_] = np.any(padded.reshape(down, _TILE, across, _TILE), axis=(1, 3))
    # (first tile of a run, past its last) → its first row of tiles
    open_runs: dict[tuple[int, int], int] = {}
    found = []
    for row in range(down + 1):
        runs = _runs(tiles[row]) if row < down else set()
        for run in open_runs.keys() - runs:
            top = open_runs.pop(run)
            x1, y1 = min(run[1] * _TILE, columns) - 1, min(row * _TILE, rows) - 1
            found.append((run[0] * _TILE, top * _TILE, x1, y1))
        for run in runs - open_runs.keys():
            open_runs[run] = row
    return sorted(found)


def _runs(row: npt.NDArray[np.bool_]) -> set[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], row, [False])).astype(np.int8)))
    return {(int(first), int(past)) for first, past in edges.reshape(-1, 2)}
