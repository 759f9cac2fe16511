"""The mask that travels along: areas in a receipt's evidence → True where pixels were filled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedimg.values import Area

Mask = npt.NDArray[np.bool_]


def mask(areas: Iterable[Area], shape: tuple[int, int, int]) -> Mask:
    """True where `areas` cover an image of (frames, rows, columns); what lies beyond it covers nothing."""
    covered = np.zeros(shape, np.bool_)
    for frame, x0, y0, x1, y1 in areas:
        frames = slice(None) if frame is None else slice(frame, frame + 1)
        covered[frames, y0 : y1 + 1, x0 : x1 + 1] = True
    return covered


def areas_of(evidence: Mapping[str, Any]) -> tuple[Area, ...]:
    """The masked areas that a receipt's evidence (or its "pixels") tells of."""
    pixels = evidence.get("pixels", evidence)
    return tuple((frame, x0, y0, x1, y1) for frame, x0, y0, x1, y1 in pixels.get("masked", ()))


def mask_of(evidence: Mapping[str, Any], shape: tuple[int, int, int]) -> Mask | None:
    """The mask of a released file, frames in stored order; None where nothing was masked.

    Args:
        evidence: `Receipt.evidence`, or its "pixels". shape: (frames, rows, columns) of the image.
    """
    areas = areas_of(evidence)
    return mask(areas, shape) if areas else None
