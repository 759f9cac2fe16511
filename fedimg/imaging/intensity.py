"""Windowing and normalisation with public constants."""

from __future__ import annotations

import numpy as np

from fedimg.imaging.config import IntensityConfig
from fedimg.values import DecodedImage, FloatArray


def value_range(image: DecodedImage, config: IntensityConfig) -> tuple[float, float]:
    """The stored values that become 0 and 1: the CT window, else the file's, else percentiles of this image.

    Returns low < high. (Centre, width) is read as DICOM PS3.3 C.11.2.1.3.2, LINEAR_EXACT: centre ± width ÷ 2.
    """
    window = image.window if config.file_window else None
    if image.units == "HU":
        window = config.hu_window
    if window is not None and abs(window[0]) < 1e30 and 0 < window[1] < 1e30:
        return window[0] - window[1] / 2, window[0] + window[1] / 2
    values = image.pixels_DHW if image.mask_DHW is None else image.pixels_DHW[~image.mask_DHW]
    low, high = np.percentile(values, config.percentiles)
    if not low < high:  # fewer distinct values than the percentiles can tell apart
        low, high = values.min(), values.max()
    return (float(low), float(high)) if low < high else (float(low), float(low) + 1.0)


def to_unit_range(image: DecodedImage, config: IntensityConfig) -> FloatArray:
    """Pixels (D, H, W) clipped to [0, 1]; regions that de-identification blanked become 0.

    Values beyond the window are clipped before any resampling, so that metal or a marker does not
    ring into its surroundings.
    """
    low, high = value_range(image, config)
    width = max(np.float32(high - low), np.float32(1e-30))  # a difference of denormals may round to 0
    with np.errstate(over="ignore"):
        scaled = (image.pixels_DHW - np.float32(low)) / width
    np.clip(scaled, 0.0, 1.0, out=scaled)
    if image.mask_DHW is not None:
        scaled[image.mask_DHW] = 0.0
    return scaled


def normalise(values: FloatArray, config: IntensityConfig) -> FloatArray:
    """(x − mean) ÷ std with the public constants; float32 of the same shape."""
    return (values - np.float32(config.mean)) / np.float32(config.std)
