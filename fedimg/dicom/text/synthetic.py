"""Images with known text, for training the text detector: anatomy, marks, lines, and where the lines are.

Everything follows from the generator's seed and the font files. An image is drawn in [0, 1], its
visible range; `Painted` says which pixels belong to lines, and which to a single letter, which is
no line (a side marker is one letter) and counts neither way.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from fedimg.dicom.text.synthetic_anatomy import KINDS, anatomy
from fedimg.dicom.text.synthetic_decoys import KINDS as DECOYS
from fedimg.dicom.text.synthetic_decoys import decoy
from fedimg.dicom.text.synthetic_marks import draw_marks
from fedimg.dicom.text.synthetic_strokes import draw_strokes
from fedimg.dicom.text.synthetic_text import (
    Line,
    Style,
    can_draw,
    draw_block,
    draw_line,
    initials,
    made_up_text,
)

FloatImage = npt.NDArray[Any]
Generator = np.random.Generator

FEWEST_LETTERS = 2  # one is a marker, not a line
_CAPITALS_PX = (5.0, 30.0)
_LEAST_CONTRAST = 0.2
_FAINTEST = 0.01  # what a step of a narrow window is of the whole range
_LEGIBLE, _LEGIBLE_FAINT = 1.5, 2.5  # contrast over the deviation of what lies beneath
_SMALL_PX, _SMALL_CONTRAST = (7.5, 11.0), (0.28, 0.4)  # of the lines that are hardest to find
_UPRIGHT, _QUARTER, _TILTED = 0.52, 0.25, 0.16  # the rest lies at any angle
_LINES = ((0, 0.34), (1, 0.34), (2, 0.19), (3, 0.13))  # how many an image has, and how often


@dataclass(frozen=True, slots=True)
class Painted:
    """One image (h, w) with `text` and `ignored` in [0, 1]: the bodies of lines, and of what is none."""

    image: FloatImage
    text: FloatImage
    ignored: FloatImage


class Painter:
    """Draws training images from a pool of anatomies, made once, and a list of fonts.

    Images may be half as large as the anatomies: `side`, even. Of what is written, `blocks` is the share
    that is several lines below each other, and `small` the share as small and faint as must be found.
    """

    def __init__(
        self,
        fonts: Sequence[Path],
        rng: Generator,
        pool: int,
        side: int = 320,
        *,
        blocks: float = 0.0,
        small: float = 0.0,
    ) -> None:
        self._fonts, self._blocks, self._small = _by_family(fonts), blocks, small
        self._rng = rng
        self._pool = [_ground(index, side, rng) for index in range(pool)]

    def paint(self, side: int) -> Painted:
        """One image, of which one in three has no text."""
        rng = self._rng
        image = self._background(side)
        text, ignored = np.zeros_like(image), np.zeros_like(image)
        counts, shares = zip(*_LINES, strict=True)
        for _ in range(int(rng.choice(counts, p=shares))):
            small = self._small > 0 and rng.random() < self._small
            line = self._line(small)
            if line is None:
                continue
            target = text if line.letters >= FEWEST_LETTERS else ignored
            self._write(image, target, line, small)
        if rng.random() < 0.15:
            image = ndimage.gaussian_filter(image, rng.uniform(0.2, 0.7))
        if rng.random() < 0.15:
            image = _jpeg(image, int(rng.integers(50, 96)))
        return Painted(image, text, ignored)

    def _background(self, side: int) -> FloatImage:
        rng = self._rng
        whole = self._pool[int(rng.integers(0, len(self._pool)))]
        if rng.random() < 0.3:  # as in a halved copy
            whole = whole.reshape(whole.shape[0] // 2, 2, -1, 2).mean(axis=(1, 3))
        y, x = rng.integers(0, whole.shape[0] - side + 1, 2)
        image = whole[y : y + side, x : x + side]
        image = np.rot90(image, int(rng.integers(0, 4)))
        if rng.random() < 0.5:
            image = image[:, ::-1]
        image = image * rng.uniform(0.5, 1.1) + rng.uniform(-0.1, 0.2)
        if rng.random() < 0.15:
            image = 1 - image
        if rng.random() < 0.3:
            image = image + rng.normal(0, rng.uniform(0, 0.04), image.shape)
        image = np.clip(image, 0, 1).astype(np.float32)
        if rng.random() < 0.55:
            draw = draw_marks if rng.random() < 0.5 else draw_strokes
            cover = draw(side, int(rng.integers(1, 4)), rng)
            image = image * (1 - cover) + cover * np.float32(rng.choice([1, 1, 1, 0, rng.uniform(0, 1)]))
        return np.asarray(image, np.float32)

    def _line(self, small: bool) -> Line | None:
        rng = self._rng
        family = self._fonts[int(rng.integers(0, len(self._fonts)))]
        font = family[int(rng.integers(0, len(family)))]
        low, high = _CAPITALS_PX
        capitals = float(low * (high / low) ** (rng.uniform() ** 1.5))
        if small:
            capitals = float(rng.uniform(*_SMALL_PX))
        text = initials(rng) if rng.random() < 0.08 else made_up_text(rng)
        if not can_draw(font, text):
            return None
        turn = rng.random()
        angle = 0.0
        if turn > _UPRIGHT:
            angle = float(rng.choice([90, 180, 270]))
        if turn > _UPRIGHT + _QUARTER:
            angle = float(rng.choice([0, 90, 180, 270]) + rng.uniform(-15, 15))
        if turn > _UPRIGHT + _QUARTER + _TILTED:
            angle = float(rng.uniform(0, 360))
        zoom = int(rng.choice([2, 3])) if capitals > 14 and rng.random() < 0.2 else 1
        style = Style(capitals, angle, bool(rng.random() < 0.3), zoom)
        if self._blocks and rng.random() < self._blocks:
            below = (made_up_text(rng) for _ in range(int(rng.integers(1, 7))))
            return draw_block([text, *(line for line in below if can_draw(font, line))], font, style, rng)
        return draw_line(text, font, style)

    def _write(self, image: FloatImage, target: FloatImage, line: Line, small: bool) -> None:
        """Put a line somewhere, also across the edge: an image ends where it ends."""
        rng = self._rng
        side, (height, width) = image.shape[0], line.ink.shape
        y = int(rng.integers(min(0, side - height), max(1, side - height + 1)))
        x = int(rng.integers(-width // 3, max(1, side - width * 2 // 3)))
        if rng.random() < 0.25:  # close to an edge or in a corner
            y = int(rng.choice([rng.integers(0, 3), max(0, side - height - rng.integers(0, 3))]))
        if rng.random() < 0.15:
            x = int(rng.choice([rng.integers(0, 3), max(0, side - width - rng.integers(0, 3))]))
        rows, columns = slice(max(y, 0), y + height), slice(max(x, 0), x + width)
        ink = line.ink[rows.start - y : side - y, columns.start - x : side - x]
        body = line.body[rows.start - y : side - y, columns.start - x : side - x]
        place = image[rows, columns]
        if place.size == 0:
            return
        place[:] = _faintly_inked(place, ink, rng) if small else _inked(place, ink, body, rng)
        target[rows, columns] = np.maximum(target[rows, columns], body)


def _inked(place: FloatImage, ink: FloatImage, body: FloatImage, rng: Generator) -> FloatImage:
    style = rng.random()
    if style < 0.2:  # on a banner of its own
        ground = rng.choice([0.0, 1.0, rng.uniform(0, 1)])
        value = ground + _away(ground, rng.uniform(0.25, 1), rng)
        under = place * (1 - body) + ground * body
        return np.asarray(under * (1 - ink) + value * ink, np.float32)
    mean, deviation = float(place.mean()), float(place.std())
    contrast = max(rng.uniform(_LEAST_CONTRAST, 0.6), _LEGIBLE * deviation)
    if style < 0.35:  # faint, as in a narrow window of a wide range
        least = max(_FAINTEST, _LEGIBLE_FAINT * deviation)
        contrast = least * float(10 ** rng.uniform(0, 0.7))
    value = float(np.clip(mean + _away(mean, contrast, rng), 0, 1))
    if style > 0.35 and rng.random() < 0.4:  # machines like the extremes
        value = 1.0 if value > mean else 0.0
    if 0.35 < style < 0.45:  # with a rim of the other polarity
        rim = ndimage.grey_dilation(ink, size=(3, 3))
        place = place * (1 - rim) + rim * (0.0 if value > mean else 1.0)
    if style < 0.35 or style > 0.9:  # added to what is there, not over it
        return np.asarray(np.clip(place + ink * (value - mean), 0, 1), np.float32)
    return np.asarray(place * (1 - ink) + value * ink, np.float32)


def _faintly_inked(place: FloatImage, ink: FloatImage, rng: Generator) -> FloatImage:
    mean, deviation = float(place.mean()), float(place.std())
    contrast = max(rng.uniform(*_SMALL_CONTRAST), _LEGIBLE * deviation)
    value = float(np.clip(mean + _away(mean, contrast, rng), 0, 1))
    return np.asarray(place * (1 - ink) + value * ink, np.float32)


def _away(mean: float, contrast: float, rng: Generator) -> float:
    """A signed step that stays within [0, 1] where it can."""
    up, down = mean + contrast <= 1, mean - contrast >= 0
    if up == down:
        return contrast if (rng.random() < 0.5 if up else mean < 0.5) else -contrast
    return contrast if up else -contrast


def _ground(index: int, side: int, rng: Generator) -> FloatImage:
    """Three anatomies of all kinds, then two decoys, and so on."""
    turn, place = divmod(index, 5)
    if place < 3:
        return anatomy(KINDS[(3 * turn + place) % len(KINDS)], side, rng)
    return decoy(DECOYS[(2 * turn + place) % len(DECOYS)], side, rng)


def _jpeg(image: FloatImage, quality: int) -> FloatImage:
    stream = io.BytesIO()
    Image.fromarray((image * 255).astype(np.uint8)).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream), np.float32) / 255


def _by_family(fonts: Sequence[Path]) -> list[list[Path]]:
    """Fonts of one folder together, so that a folder of 150 files does not outweigh one of four."""
    families: dict[str, list[Path]] = {}
    for font in fonts:
        families.setdefault(font.parent.name, []).append(font)
    return [families[name] for name in sorted(families)]
