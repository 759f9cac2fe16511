"""What the text detector looks at: stored values of any photometric interpretation as grey planes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[Any]

# YBR_FULL to RGB (PS3.3 C.7.6.3.1.2); chroma is centred before.
_FROM_YBR = np.array([[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]])
_COLOUR_STEP = 8  # of 255: channels nearer than this show nothing that another does not


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
        windows: the header's (centre, width) in stored values, if any.
    """

    values: npt.NDArray[Any]
    photometric: str
    bits_stored: int
    palette: tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16], npt.NDArray[np.uint16], int] | None = None
    windows: tuple[tuple[float, float], ...] = ()


def planes(frames: Frames, index: int) -> Iterator[Plane]:
    """Grey planes (rows, columns) of one frame in which all its text can be seen, the most telling first.

    Colour gives one plane for each channel that differs from those before. Polarity stays as it
    is: dark text on light is looked for as light on dark is.
    """
    frame = frames.values[index]
    if frame.shape[-1] == 1 and frames.palette is None:
        yield frame[..., 0]
        return
    seen: list[Plane] = []
    for plane in _coloured(frames, frame):
        if all(np.abs(plane - other).max() > _COLOUR_STEP for other in seen):
            seen.append(plane)
            yield plane


def _coloured(frames: Frames, frame: npt.NDArray[Any]) -> Iterator[Plane]:
    if frames.palette is not None and frame.shape[-1] == 1:
        stored = frame[..., 0].astype(np.int32)
        *tables, first = frames.palette
        for table in tables:
            deep = int(table.max()) > 255
            shown = table[np.clip(stored - first, 0, len(table) - 1)].astype(np.int32)
            yield shown >> 8 if deep else shown
        # The indices themselves: two entries of one colour hide nothing from another palette.
        yield stored & 0xFF if frames.bits_stored <= 8 else stored >> max(0, frames.bits_stored - 8)
        return
    full = (1 << frames.bits_stored) - 1
    colour = frame.astype(np.float32) * (255 / full)
    if frames.photometric.startswith("YBR") and "RCT" not in frames.photometric:
        colour = (colour - (0, 127.5, 127.5)) @ _FROM_YBR.T
    for channel in range(colour.shape[-1]):
        yield np.clip(np.rint(colour[..., channel]), 0, 255).astype(np.int32)
