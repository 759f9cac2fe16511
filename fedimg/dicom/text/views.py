"""What the text detector looks at: stored values of any photometric interpretation as grey planes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[Any]
_Table = npt.NDArray[np.uint16]
Palette = tuple[_Table, _Table, _Table, int]

# YBR_FULL to RGB (PS3.3 C.7.6.3.1.2); chroma is centred before.
_FROM_YBR = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], np.float32)
_LUMA_AND_CHROMA = ("YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT")
_COLOUR_STEP = 8  # of 255: what is nearer than this looks alike
_INDEX_STEP, _MOST_INDICES = 16, 1024


class Box(NamedTuple):
    """A rectangle of pixels, corners included; `frame` None means every frame."""

    frame: int | None
    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True, slots=True)
class Frames:
    """Stored values as they were decoded.

    Attributes:
        values: (frames, rows, columns, samples), integers.
        photometric: PhotometricInterpretation of `values`.
        palette: three LUTs (red, green, blue) and the first stored value they map; for PALETTE COLOR.
        windows: the header's (centre, width) in stored values, if any; nothing depends on them, since a
            viewer may choose others, and the network's local views show what any window would: a view
            of the window as well found none more of 180 faint lines, two to four times the noise.
    """

    values: npt.NDArray[Any]
    photometric: str
    bits_stored: int
    palette: Palette | None = None
    windows: tuple[tuple[float, float], ...] = ()


def planes(frames: Frames, index: int) -> list[Plane]:
    """Grey planes (rows, columns) of one frame in which all its text can be seen.

    One for monochrome values; polarity stays as it is, since dark text on light is looked for as
    light on dark is. Colour gives red, green and blue, in 8 bits, without those that show nothing of
    their own. A palette that gives one colour to indices far apart hides what another palette
    would show: then the indices are looked at, too.
    """
    frame = frames.values[index]
    if frame.shape[-1] == 1 and frames.palette is None:
        return [frame[..., 0]]
    if frame.shape[-1] == 1:
        stored = frame[..., 0].astype(np.int32)
        colours = _looked_up(stored, frames.palette)
    else:
        stored = None
        colours = _channels(frame, frames)
    kept = [colours[0]]
    for plane in colours[1:]:
        if all(differs(plane, other).any() for other in kept):
            kept.append(plane)
    if stored is not None and _hides(stored, colours):
        kept.append(stored)
    return kept


def differs(plane: Plane, other: Plane) -> npt.NDArray[np.bool_]:
    """Where one plane of a frame shows what another does not."""
    apart: npt.NDArray[np.bool_] = np.abs(plane - other) > _COLOUR_STEP
    return apart


def _looked_up(stored: Plane, palette: Palette | None) -> list[Plane]:
    if palette is None:
        return [stored]
    *tables, first = palette
    shown = []
    for table in tables:
        eight = table >> 8 if int(table.max(initial=0)) > 255 else table
        shown.append(eight.astype(np.int32)[np.clip(stored - first, 0, len(table) - 1)])
    return shown


def _hides(stored: Plane, colours: list[Plane]) -> bool:
    """Whether indices that are far apart look alike."""
    _, places = np.unique(stored, return_index=True)
    if len(places) > _MOST_INDICES:
        return True
    indices = stored.ravel()[places]
    far = np.abs(indices[:, None] - indices) > _INDEX_STEP
    alike = np.ones_like(far)
    for plane in colours:
        shown = plane.ravel()[places]
        alike &= np.abs(shown[:, None] - shown) <= _COLOUR_STEP
    return bool((far & alike).any())


def _channels(frame: npt.NDArray[Any], frames: Frames) -> list[Plane]:
    colour = frame.astype(np.float32) * np.float32(255 / ((1 << frames.bits_stored) - 1))
    if frames.photometric in _LUMA_AND_CHROMA:
        colour = (colour - np.array([0, 127.5, 127.5], np.float32)) @ _FROM_YBR.T
    eight = np.clip(np.rint(colour), 0, 255).astype(np.int32)
    return [eight[..., channel] for channel in range(eight.shape[-1])]
