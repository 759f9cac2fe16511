"""Pixel layer L3: what is drawn at the same place of every slice of a series or every frame of a cine."""

from __future__ import annotations

from dataclasses import dataclass

Rectangle = tuple[int, int, int, int]


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
