"""Segmentation and detection without learning: thresholds, mathematical morphology and blobs.

Baselines for a lesion that is brighter than its surroundings, in two or three dimensions. N. Otsu, IEEE SMC 9(1),
1979; P. Soille, "Morphological Image Analysis", 2003 (top-hat, opening); T. Lindeberg, "Feature Detection with Automatic
Scale Selection", IJCV 30(2), 1998 (blobs). All are functions of one image and of public constants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fedimg.errors import ConfigError, DataError
from fedimg.values import Vector

Image = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SegmentationConfig:
    """Attributes:
    radius_px: of the largest lesion, in pixels of the image's own grid: what is larger is surroundings.
    opening_px: radius of the ball that must fit into a lesion; thinner things, as vessels, are left out.
    rim_px: so much of the body's outside is not looked at: skin, scalp, chest wall.
    smoothing_px: of the Gaussian before anything else; 0: none.
    components: so many of the largest pieces are kept.
    least_contrast: above its surroundings, in standard deviations of the smoothed body; below it nothing is found.
    """

    radius_px: int = 6
    opening_px: int = 1
    rim_px: int = 6
    smoothing_px: float = 1.0
    components: int = 1
    least_contrast: float = 1.0

    @classmethod
    def of_side(cls, side_px: int, components: int = 1) -> Self:
        """The same shares of an image of another size: the numbers are those of a side of 64 pixels."""
        scale = side_px / 64
        return cls(
            radius_px=max(1, round(6 * scale)),
            opening_px=round(scale),
            rim_px=round(6 * scale),
            smoothing_px=scale,
            components=components,
        )

    def __post_init__(self) -> None:
        for key, least in (
            ("radius_px", 1),
            ("opening_px", 0),
            ("rim_px", 0),
            ("smoothing_px", 0.0),
            ("components", 1),
            ("least_contrast", 0.0),
        ):
            if not least <= getattr(self, key) < np.inf:
                raise ConfigError(f"{key} from {least:g}", str(getattr(self, key)), "change this number")


@dataclass(frozen=True, slots=True)
class BlobConfig:
    """Attributes:
    least_radius_px, greatest_radius_px: of blobs that are looked for. scales: between them.
    threshold: least response, on an image scaled to [0, 1] within the body.
    overlap: of two blobs that share more than this part of the smaller one, the weaker is left out.
    most: so many of the strongest are returned.
    """

    least_radius_px: float = 3.0
    greatest_radius_px: float = 10.0
    scales: int = 6
    threshold: float = 0.05
    overlap: float = 0.5
    most: int = 20

    def __post_init__(self) -> None:
        holds = 0 < self.least_radius_px <= self.greatest_radius_px < np.inf and self.scales >= 1
        if not (holds and 0 <= self.threshold < 1 and 0 <= self.overlap <= 1 and self.most >= 1):
            raise ConfigError(
                "0 < least_radius_px ≤ greatest_radius_px, scales and most ≥ 1, threshold and overlap in [0, 1]",
                "a value outside",
                "change it",
            )


@dataclass(frozen=True, slots=True)
class Blob:
    """A bright ball: its centre in the image's indices, radius in pixels, and normalised response (more is clearer)."""

    centre: tuple[float, ...]
    radius_px: float
    score: float


def body_mask(image: Image) -> Mask:
    """What Otsu's threshold parts from air: the largest piece, with its holes (lungs) filled slice by slice.

    Of an image (D, H, W), or (H, W). All of an image of one value. Raises DataError for values that are not finite.
    """
    from skimage.filters import threshold_otsu

    _check(image)
    if image.min() == image.max():
        return np.ones(image.shape, np.bool_)
    largest = _largest(image > threshold_otsu(image), 1)
    planes = largest.reshape(-1, *image.shape[-2:])
    return np.stack([ndimage.binary_fill_holes(plane) for plane in planes]).reshape(image.shape)


def threshold(image: Image, config: SegmentationConfig | None = None, body: Mask | None = None) -> Mask:
    """What Otsu's threshold parts from the rest of the body, at most `components` pieces: nothing else is asked.

    Smoothed as `config` says, without its rim. Shapes and errors as of `segment`.
    """
    from skimage.filters import threshold_otsu

    own = config or SegmentationConfig()
    inside = _eroded(_body(image, body), own.rim_px)
    smooth = ndimage.gaussian_filter(np.asarray(image, np.float64), own.smoothing_px)
    values = smooth[inside]
    if not len(values) or values.min() == values.max():
        return np.zeros(image.shape, np.bool_)
    level = float(threshold_otsu(values))
    return _heaviest((smooth > level) & inside, np.where(inside, smooth - level, 0.0), own.components)


def segment(image: Image, config: SegmentationConfig | None = None, body: Mask | None = None) -> Mask:
    """The brightest compact things in the body, at most `components` of them; nothing where contrast is low.

    White top-hat (what no ball of `radius_px` fits into stands out against what is below), Otsu's threshold on it
    within the body, opening, largest pieces. Image and body (D, H, W) or (H, W); raises DataError for values that are
    not finite, or a body of another shape.
    """
    from skimage.filters import threshold_otsu

    own = config or SegmentationConfig()
    inside = _eroded(_body(image, body), own.rim_px)
    smooth = ndimage.gaussian_filter(np.asarray(image, np.float64), own.smoothing_px)
    raised = _top_hat(smooth, own.radius_px)
    values = raised[inside]
    if not len(values) or values.min() == values.max():
        return np.zeros(image.shape, np.bool_)
    threshold = max(float(threshold_otsu(values)), own.least_contrast * float(smooth[inside].std()))
    found = _opened((raised > threshold) & inside, own.opening_px)
    return _heaviest(_small(found, 2 * own.radius_px + 1), raised, own.components)


def detect_blobs(image: Image, config: BlobConfig | None = None, body: Mask | None = None) -> list[Blob]:
    """Bright blobs whose centre is in the body, the strongest first: extrema of the normalised Laplacian of Gaussians.

    A ball of radius r answers most at σ = r/√n in n dimensions. The score is −σ²∇²G ∗ image there. Raises DataError
    as `segment` does.
    """
    from skimage.feature import blob_log

    own = config or BlobConfig()
    inside = _body(image, body)
    scaled = _scaled(image, inside)
    root = float(np.sqrt(image.ndim))
    found = blob_log(
        scaled,
        min_sigma=own.least_radius_px / root,
        max_sigma=own.greatest_radius_px / root,
        num_sigma=own.scales,
        threshold=own.threshold,
        overlap=own.overlap,
    )
    responses = {
        sigma: -(sigma**2) * ndimage.gaussian_laplace(scaled, sigma)
        for sigma in {float(s) for s in found[:, -1]}
    }
    blobs = []
    for row in found:
        place = tuple(int(index) for index in row[: image.ndim])
        if inside[place]:
            centre = tuple(float(index) for index in row[: image.ndim])
            blobs.append(Blob(centre, float(row[-1]) * root, float(responses[float(row[-1])][place])))
    return sorted(blobs, key=lambda blob: (-blob.score, blob.centre))[: own.most]


def _check(image: Image) -> None:
    if image.ndim not in (2, 3) or not image.size or not np.isfinite(image).all():
        raise DataError("a finite image (H, W) or (D, H, W)", f"shape {image.shape}", "leave this image out")


def _body(image: Image, body: Mask | None) -> Mask:
    _check(image)
    if body is None:
        return body_mask(image)
    if body.shape != image.shape:
        raise DataError(
            f"a body mask of shape {image.shape}", str(body.shape), "pass one on the image's grid"
        )
    return body


def _scaled(image: Image, inside: Mask) -> Vector:
    """To [0, 1] between the extremes in the body; outside as dark as its darkest."""
    values = np.asarray(image[inside], np.float64)
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    whole = np.where(inside, np.asarray(image, np.float64), low)
    return np.asarray((whole - low) / (high - low if high > low else 1.0))


def _top_hat(image: Vector, radius: int) -> Vector:
    """Of a stack in each plane: slices lie further apart than pixels."""
    disc = _ball(radius, 2)
    planes = image.reshape(-1, *image.shape[-2:])
    return np.stack([ndimage.white_tophat(plane, footprint=disc) for plane in planes]).reshape(image.shape)


def _opened(mask: Mask, radius: int) -> Mask:
    """In each plane too."""
    if not radius:
        return mask
    disc = _ball(radius, 2)[(None,) * (mask.ndim - 2)]
    return np.asarray(ndimage.binary_opening(mask, disc))


def _eroded(mask: Mask, radius: int) -> Mask:
    """Without what lies within so many pixels of the outside, in the plane."""
    planes = np.pad(mask.reshape(-1, *mask.shape[-2:]), ((0, 0), (1, 1), (1, 1)))
    depth = np.stack([ndimage.distance_transform_edt(plane) for plane in planes])[:, 1:-1, 1:-1]
    return np.asarray((depth > radius).reshape(mask.shape))


def _heaviest(mask: Mask, weight: Vector, count: int) -> Mask:
    """The pieces that hold most weight: size and contrast at once."""
    labels, number = ndimage.label(mask)
    if number <= count:
        return mask
    sums = ndimage.sum_labels(weight, labels, np.arange(1, number + 1))
    return np.isin(labels, np.argsort(-np.asarray(sums), kind="stable")[:count] + 1)


def _small(mask: Mask, side: int) -> Mask:
    """Pieces that reach over no more than `side` pixels in the plane: a wall or a rib is no lesion."""
    labels, _ = ndimage.label(mask)
    kept = np.zeros(mask.shape, np.bool_)
    for number, where in enumerate(ndimage.find_objects(labels), 1):
        if all(part.stop - part.start <= side for part in where[-2:]):
            kept[where] |= labels[where] == number
    return kept


def _ball(radius: int, dimensions: int) -> Mask:
    axes = np.meshgrid(*[np.arange(-radius, radius + 1)] * dimensions, indexing="ij")
    return np.asarray(sum(axis**2 for axis in axes) <= radius**2)


def _largest(mask: Mask, count: int) -> Mask:
    labels, number = ndimage.label(mask)
    if number <= count:
        return np.asarray(mask, np.bool_)
    sizes = np.bincount(labels.ravel())[1:]
    return np.isin(labels, np.argsort(-sizes, kind="stable")[:count] + 1)
