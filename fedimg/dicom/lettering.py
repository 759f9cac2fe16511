"""Text drawn into pixels, with the font that comes with Pillow: burned-in annotation for generated images."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

LINE_HEIGHT_PX, CHARACTER_WIDTH_PX = 11, 6
"""Of the built-in bitmap font: every character has the same width."""


@lru_cache(maxsize=256)
def _strokes(text: str) -> npt.NDArray[np.bool_]:
    canvas = Image.new("L", (CHARACTER_WIDTH_PX * len(text), LINE_HEIGHT_PX))
    ImageDraw.Draw(canvas).text((0, 0), text, fill=255, font=ImageFont.load_default_imagefont())
    strokes = np.asarray(canvas) > 127
    strokes.flags.writeable = False
    return strokes


def fitting(text: str, width_px: int) -> str:
    """As much of the text as one line of this width shows; other characters than Latin-1 become "?"."""
    shown = text.encode("latin-1", "replace").decode("latin-1")
    return shown[: max(0, width_px // CHARACTER_WIDTH_PX)].rstrip()


def draw(pixels: npt.NDArray[Any], text: str, row: int, column: int, value: float) -> None:
    """Write `text` into pixels (…, H, W) in place, its upper left corner at (row, column); clipped at the edges."""
    if not text:
        return
    window = pixels[..., row : row + LINE_HEIGHT_PX, column : column + CHARACTER_WIDTH_PX * len(text)]
    window[..., _strokes(text)[: window.shape[-2], : window.shape[-1]]] = value
