"""Optional filters on the [0, 1] scale, at the final resolution, frame by frame."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from fedimg.imaging.config import EnhancementConfig
from fedimg.values import FloatArray


def enhance(values_DHW: FloatArray, config: EnhancementConfig) -> FloatArray:
    """Denoise, then equalise contrast; float32 in [0, 1], same shape, deterministic.

    Each slice is filtered in its own plane. CLAHE: Zuiderveld, Graphics Gems IV (1994);
    non-local means: Buades, Coll & Morel, CVPR 2005. Both as scikit-image does them.
    """
    if config.denoise == "none" and not config.clahe:
        return values_DHW
    frames = [_equalise(_denoise(frame, config), config) for frame in values_DHW]
    return np.clip(np.stack(frames), 0.0, 1.0).astype(np.float32)


def _denoise(frame_HW: FloatArray, config: EnhancementConfig) -> FloatArray:
    if config.denoise == "median":
        return np.asarray(ndimage.median_filter(frame_HW, config.median_px, mode="nearest"), dtype=np.float32)
    if config.denoise == "gaussian":
        return np.asarray(
            ndimage.gaussian_filter(frame_HW, config.gaussian_px, mode="nearest"), dtype=np.float32
        )
    if config.denoise == "nlm":
        from skimage.restoration import denoise_nl_means

        smooth = denoise_nl_means(
            frame_HW, patch_size=3, patch_distance=5, h=config.nlm_strength, fast_mode=True
        )
        return np.asarray(smooth, dtype=np.float32)
    return frame_HW


def _equalise(frame_HW: FloatArray, config: EnhancementConfig) -> FloatArray:
    # A constant frame has no contrast to equalise, and the library would divide by its range of zero.
    if not config.clahe or frame_HW.min() == frame_HW.max():
        return frame_HW
    from skimage.exposure import equalize_adapthist

    tile = [max(1, -(-side // config.clahe_tiles)) for side in frame_HW.shape]
    return np.asarray(
        equalize_adapthist(frame_HW, kernel_size=tile, clip_limit=config.clahe_clip_limit), dtype=np.float32
    )
