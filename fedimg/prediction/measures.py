"""Numbers of a series for the drift streams: of its images as the network saw them, its geometry, and its score."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from fedimg.imaging.config import ImagingConfig
from fedimg.prediction.examples import Examples
from fedimg.prediction.reading import Reading

EMBEDDED = 16
_SIDE = 8
"""Of the coarse picture that stands for features where the graph offers none."""
_SEED = 20260131  # public: a projection that changed would look like drift
_LAPLACIAN = torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])


def measures_of(found: Examples, reading: Reading, config: ImagingConfig) -> dict[str, float]:
    """Always the same names.

    image.*: of the windowed images on [0, 1], all of the series together: mean, std, blank (share of voxels at or below
    the window, padding among them), noise (standard deviation after Immerkær 1996, doi 10.1006/cviu.1996.0060).
    meta.*: images of the series, pixel and slice distance in mm. score.*: value and logit. ops.left_out: files.
    """
    shown = found.images[:, 0] * config.intensity.std + config.intensity.mean
    stack = found.stacks[found.examples[reading.best].stack]
    depth, height, _ = stack.image.spacing_mm
    return {
        "image.mean": float(shown.mean()),
        "image.std": float(shown.std(correction=0)),
        "image.noise": noise(shown),
        "image.blank": float((shown <= 1e-6).float().mean()),
        "meta.images": float(sum(len(one.planes) for one in found.stacks)),
        "meta.pixel_mm": float(height),
        "meta.slice_mm": float(depth),
        "score.value": reading.score,
        "score.logit": reading.logit,
        "ops.left_out": float(found.left_out),
    } | {f"value.{k}": value for k, value in enumerate(reading.values)}


def noise(images: torch.Tensor) -> float:
    """(N, *spatial) → the standard deviation of white noise that explains how rough they are; 0 for tiny ones."""
    planes = images.reshape(-1, 1, *images.shape[-2:])
    height, width = planes.shape[-2:]
    if min(height, width) < 3:
        return 0.0
    rough = F.conv2d(planes, _LAPLACIAN[None, None].to(planes.dtype)).abs().sum()
    inner = len(planes) * (height - 2) * (width - 2)
    return float(math.sqrt(math.pi / 2) * rough / (6 * inner))


def embedding_of(images: torch.Tensor, features: torch.Tensor | None) -> tuple[float, ...]:
    """16 numbers: the mean over a series of what the network's last layer reads, else of coarse pictures, by a fixed
    random projection (Johnson and Lindenstrauss 1984): distances between series are kept, roughly.
    """
    if features is None:
        pool = F.adaptive_avg_pool2d if images.dim() == 4 else F.adaptive_avg_pool3d
        features = pool(images, _SIDE).flatten(1)
    mean = features.double().mean(dim=0).numpy()
    return tuple(float(value) for value in mean @ _projection(len(mean)))


@lru_cache(maxsize=8)
def _projection(size: int) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = np.random.default_rng(_SEED).standard_normal(
        (size, EMBEDDED)
    ) / math.sqrt(EMBEDDED)
    found.flags.writeable = False
    return found
