"""Grey images as PNG files, for the report."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

_SIDE_PX, _MOST_PX = 192, 768


def window_of(image_HW: npt.NDArray[np.float32]) -> tuple[float, float]:
    """The 0.5th and the 99.5th percentile: what is shown black and what white."""
    low, high = np.percentile(image_HW, (0.5, 99.5))
    return float(low), float(high)


def png_of(image_HW: npt.NDArray[np.float32], window: tuple[float, float] | None = None) -> bytes:
    """A grey PNG within `window`, or its own `window_of`, in whole steps enlarged to about 192 pixels or made
    smaller to at most 768.
    """
    low, high = window or window_of(image_HW)
    grey = np.clip((image_HW - low) / max(high - low, 1e-6), 0, 1)
    picture = Image.fromarray((255 * grey).astype(np.uint8))
    picture = picture.reduce(-(-max(picture.size) // _MOST_PX))
    scale = max(1, _SIDE_PX // max(picture.size))
    picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def both_of(
    before_HW: npt.NDArray[np.float32] | None, after_HW: npt.NDArray[np.float32]
) -> tuple[bytes | None, bytes]:
    """PNGs of an image before and after, in one window: what was burnt in and is gone would else make the rest
    brighter.
    """
    window = window_of(after_HW)
    return None if before_HW is None else png_of(before_HW, window), png_of(after_HW, window)
