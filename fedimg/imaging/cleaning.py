"""Frames that are no use for training: blank, clipped, not finite, wrongly shaped, duplicates.

Every test looks at one image, or at images of one patient. A test across patients (the same picture
under two patient numbers, say) would let one patient decide what another contributes, and would
break the bound of one patient's share that all privacy accounting rests on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fedimg.errors import DataError
from fedimg.imaging.config import LARGEST_SPACING_MM, LEAST_SPACING_MM, CleaningConfig
from fedimg.values import DecodedImage, FloatArray, Quarantine, Volume

_ADVICE: dict[Quarantine, tuple[str, str, str]] = {
    Quarantine.PIXELS_NOT_FINITE: (
        "finite pixel values",
        "NaN or infinity",
        "repair the image at its source",
    ),
    Quarantine.PIXELS_BLANK: ("an image with content", "one value almost everywhere", "leave this image out"),
    Quarantine.PIXELS_CLIPPED: (
        "an image whose highlights are not cut off",
        "more pixels at the highest value than imaging.cleaning.saturated_fraction",
        "export it again without windowing, or raise that key",
    ),
    Quarantine.DUPLICATE: (
        "one slice at each position",
        "slices at the same position",
        "export one series only",
    ),
    Quarantine.WRONG_SHAPE: (
        "pixels and geometry that fit the task",
        "another shape or spacing",
        "convert it first",
    ),
}

# Beyond it, differences of float32 values overflow: as good as infinite, and no detector's reading.
_LARGEST_VALUE = 1e30


class Rejected(DataError):
    """One image that preprocessing holds back.

    Args:
        reason: the closed code.
        found: sizes and counts only; a general phrase where left out.
    """

    def __init__(self, reason: Quarantine, found: str | None = None) -> None:
        self.reason, self.detail = reason, found
        general = ("an image that can be used", "another one", "see the reason code in the manual")
        expected, phrase, remedy = _ADVICE.get(reason, general)
        super().__init__(expected, f"{found or phrase} ({reason.value})", remedy)

    def __reduce__(self) -> tuple[type[Rejected], tuple[Quarantine, str | None]]:
        return type(self), (self.reason, self.detail)


def check_shape(image: DecodedImage, config: CleaningConfig) -> None:
    """Raises Rejected unless pixels are (D, H, W), of allowed size, with a usable geometry."""
    shape = image.pixels_DHW.shape
    if len(shape) != 3 or min(shape) < 1:
        raise Rejected(Quarantine.WRONG_SHAPE, f"an array of {len(shape)} dimensions, or an empty one")
    if min(shape[1:]) < config.least_side_px:
        raise Rejected(Quarantine.WRONG_SHAPE, f"a side of {min(shape[1:])} px, least {config.least_side_px}")
    if image.pixels_DHW.size > config.largest_voxels:
        raise Rejected(
            Quarantine.WRONG_SHAPE, f"{image.pixels_DHW.size} voxels, limit {config.largest_voxels}"
        )
    spacing = np.asarray(image.spacing_mm, dtype=np.float64)
    # So written, it refuses NaN too.
    if spacing.shape != (3,) or not ((spacing >= LEAST_SPACING_MM) & (spacing <= LARGEST_SPACING_MM)).all():
        raise Rejected(
            Quarantine.WRONG_SHAPE, f"a spacing outside {LEAST_SPACING_MM:g} to {LARGEST_SPACING_MM:g} mm"
        )
    affine = np.asarray(image.affine_lps_mm)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise Rejected(Quarantine.WRONG_SHAPE, "a position or orientation that spans no volume")
    if image.mask_DHW is not None and image.mask_DHW.shape != shape:
        raise Rejected(Quarantine.WRONG_SHAPE, "a mask of another size than its image")


def check_frame(
    frame: FloatArray, masked: npt.NDArray[np.bool_] | None, config: CleaningConfig
) -> Quarantine | None:
    """Why one frame (any shape, masked pixels aside) is no use, or None."""
    values = frame.ravel() if masked is None else frame[~masked]
    if values.size == 0:
        return Quarantine.PIXELS_BLANK
    if not np.abs(values).max() < _LARGEST_VALUE:  # so written, it is true of NaN too
        return Quarantine.PIXELS_NOT_FINITE
    # The most frequent value of a nearly constant frame is its median: no histogram is needed.
    typical = np.partition(values, values.size // 2)[values.size // 2]
    if np.count_nonzero(values != typical) < config.blank_fraction * values.size:
        return Quarantine.PIXELS_BLANK
    if np.count_nonzero(values == values.max()) > config.saturated_fraction * values.size:
        return Quarantine.PIXELS_CLIPPED
    return None


def drop_duplicates(volumes: Sequence[Volume]) -> tuple[list[Volume], int]:
    """Keep the first of identical images of the same patient; returns the kept and the number dropped.

    Guarantee: what is kept of one patient does not depend on any other patient's images.
    """
    seen: set[tuple[str, bytes]] = set()
    kept: list[Volume] = []
    for volume in volumes:
        content = hashlib.sha256(str(volume.image_CDHW.shape).encode() + volume.image_CDHW.tobytes()).digest()
        if (volume.patient_key, content) not in seen:
            seen.add((volume.patient_key, content))
            kept.append(volume)
    return kept, len(volumes) - len(kept)
