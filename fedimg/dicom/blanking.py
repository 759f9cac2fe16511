"""Masking: rectangles filled with one constant, and the mask that travels along in the receipt.

What is masked is gone: never blurred, never guessed from its surroundings. The rectangles are
few and stand in the evidence of the receipt, so that training can rebuild the mask and leave the
filled pixels out (`DecodedImage.mask_DHW`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from fedimg.dicom.masks import mask, mask_of
from fedimg.dicom.refusal import Quarantined
from fedimg.dicom.structure import StoredImage
from fedimg.dicom.text import Box
from fedimg.values import Quarantine

__all__ = ["MOST_AREAS", "black", "blank", "bounded", "mask", "mask_of", "outside"]

Rectangle = tuple[int, int, int, int]
Palette = tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16], npt.NDArray[np.uint16], int]

MOST_AREAS = 256
"""Rectangles that one receipt may hold; beyond them they are joined over all frames."""


def bounded(areas: Iterable[Box], frames: int) -> tuple[Box, ...]:
    """Few, ordered rectangles that cover at least `areas`.

    Where every frame has the same one, or where there would be more than `MOST_AREAS`, it is masked
    on all frames. Raises Quarantined (BURNED_IN_TEXT) where they are too many even so.
    """
    found = set(areas)
    everywhere = {area[1:] for area in found if area.frame is None or frames == 1}
    by_place: dict[Rectangle, int] = {}
    for area in found:
        by_place[area[1:]] = by_place.get(area[1:], 0) + 1
    everywhere |= {place for place, count in by_place.items() if count == frames}
    single = [area for area in found if area[1:] not in everywhere]
    if len(single) + len(everywhere) > MOST_AREAS:
        everywhere |= {area[1:] for area in single}
        single = []
    kept = _outermost(everywhere)
    if len(kept) > MOST_AREAS:
        raise Quarantined(Quarantine.BURNED_IN_TEXT, f"more than {MOST_AREAS} areas of text")
    return (*(Box(None, *place) for place in kept), *sorted(single))


def _outermost(places: Iterable[Rectangle]) -> list[Rectangle]:
    """Without rectangles that lie in another one."""
    ordered = sorted(places, key=lambda p: (-(p[2] - p[0]) * (p[3] - p[1]), p))
    kept: list[Rectangle] = []
    for x0, y0, x1, y1 in ordered:
        if not any(a <= x0 and b <= y0 and x1 <= c and y1 <= d for a, b, c, d in kept):
            kept.append((x0, y0, x1, y1))
    return sorted(kept)


def outside(kept: Sequence[Rectangle], rows: int, columns: int) -> tuple[Box, ...]:
    """The rest of the image as rectangles: a grid cut at every edge of the kept ones, joined along rows."""
    xs = sorted({0, columns, *(x for x0, _, x1, _ in kept for x in (x0, x1 + 1))})
    ys = sorted({0, rows, *(y for _, y0, _, y1 in kept for y in (y0, y1 + 1))})
    areas: list[Box] = []
    for top, bottom in pairwise(ys):
        start: int | None = None
        for left, right in pairwise(xs):
            within = any(
                x0 <= left and right - 1 <= x1 and y0 <= top and bottom - 1 <= y1 for x0, y0, x1, y1 in kept
            )
            if within:
                start = None
            elif start is None:
                start = left
                areas.append(Box(None, left, top, right - 1, bottom - 1))
            else:
                areas[-1] = areas[-1]._replace(x1=right - 1)
    return tuple(areas)


def blank(image: StoredImage, areas: Sequence[Box], palette: Palette | None = None) -> StoredImage:
    """The image with `areas` filled with black as it is displayed; itself where there are none."""
    if not areas:
        return image
    values = image.values.copy()
    constant = black(image, palette)
    for frame, x0, y0, x1, y1 in areas:
        frames = slice(None) if frame is None else slice(frame, frame + 1)
        values[frames, y0 : y1 + 1, x0 : x1 + 1] = constant
    return StoredImage(values, image.photometric, image.bits_stored)


def black(image: StoredImage, palette: Palette | None = None) -> npt.NDArray[Any]:
    """The stored value, one a sample, that this image shows darkest (PS3.3 C.7.6.3.1.2).

    Of eight bits black is the end of the range. Deeper ones hold physical values, whose range
    may be far wider than the image's: there it is the extreme that occurs.
    """
    values, kind = image.values, image.values.dtype
    if image.photometric == "PALETTE COLOR":
        return np.array([_darkest(palette)], kind)
    if image.photometric == "YBR_FULL":
        middle = 1 << (image.bits_stored - 1)
        return np.array([0, middle, middle], kind)
    if image.photometric == "RGB":
        return np.zeros(3, kind)
    inverse = image.photometric == "MONOCHROME1"
    if image.bits_stored <= 8:
        lowest = -(1 << (image.bits_stored - 1)) if kind.kind == "i" else 0
        return np.array([lowest + (1 << image.bits_stored) - 1 if inverse else lowest], kind)
    return np.array([values.max() if inverse else values.min()], kind)


def _darkest(palette: Palette | None) -> int:
    if palette is None:
        return 0
    *tables, first = palette
    shortest = min(map(len, tables))
    light = sum(table[:shortest].astype(np.int64) for table in tables)
    return first + int(np.argmin(light))
