"""Grey images as PNG files, for the report."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

_SIDE_PX = 192


def png_of(image_HW: npt.NDArray[np.float32]) -> bytes:
    """A grey PNG between the 0.5th and 99.5th percentile, enlarged in whole steps to about 192 pixels."""
    low, high = np.percentile(image_HW, (0.5, 99.5))
    grey = np.clip((image_HW - low) / max(float(high - low), 1e-6), 0, 1)
    picture = Image.fromarray((255 * grey).astype(np.uint8))
    scale = max(1, _SIDE_PX // max(picture.size))
    picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()
