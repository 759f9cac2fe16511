"""Station 3's core: one decoded image → training examples, the same floats every time.

check → window → orient → spacing or size → enhance → pad → normalise
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fedimg.imaging import cleaning, enhancement, intensity, resampling
from fedimg.imaging.cleaning import Rejected
from fedimg.imaging.config import ImagingConfig
from fedimg.imaging.resampling import Grid
from fedimg.imaging.series import stack_series
from fedimg.values import DecodedImage, DeidentifiedRecord, FloatArray, Quarantine, Volume

Labels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
__all__ = [
    "ImagingConfig",
    "Prepared",
    "Rejected",
    "prepare",
    "prepare_series",
    "preprocess",
    "to_volumes",
    "usable",
]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What depends on pixels and configuration alone, and is therefore cached: no label, no patient.

    image_CDHW float32, finite, of `ImagingConfig.shape` without features (D is 1 in 2 dimensions); spacing_mm (D, H, W).
    labels_DHW: the class of every voxel, where the file came with one for each.
    """

    image_CDHW: FloatArray
    spacing_mm: tuple[float, float, float]
    labels_DHW: Labels | None = None


def preprocess(image: DecodedImage, record: DeidentifiedRecord, config: ImagingConfig) -> list[Volume]:
    """`prepare` with the record's patient and label attached."""
    return to_volumes(prepare(image, config), record)


def to_volumes(prepared: Sequence[Prepared], record: DeidentifiedRecord) -> list[Volume]:
    """Labels and patients come from the record each time: a corrected label needs no new cache."""
    value = math.nan if record.value is None else record.value
    return [
        Volume(
            p.image_CDHW, p.spacing_mm, record.patient_key, record.label, p.labels_DHW, value, record.groups
        )
        for p in prepared
    ]


def prepare(image: DecodedImage, config: ImagingConfig) -> list[Prepared]:
    """Examples of one file: each frame with 2 dimensions, the whole with 3. Never an empty list.

    Guarantee: deterministic; every result has `config.shape`; no statistic of any other image enters.
    Raises Rejected (blank, clipped, not finite, wrong shape) if no frame of the file can be used;
    single bad frames of a cine or a volume are left out.
    """
    return [example for _, example in prepare_frames(image, config)]


def prepare_frames(image: DecodedImage, config: ImagingConfig) -> list[tuple[int, Prepared]]:
    """`prepare`, each example with the frame that it shows; 0 with 3 dimensions, where it shows all of them."""
    frames = usable_frames(image, config)
    image = of_frames(image, frames) if config.dimensions == 2 else image
    window = Grid(intensity.to_unit_range(image, config.intensity), image.spacing_mm)
    grid = placed(window, image.affine_lps_mm, config)
    examples = grid.values_DHW[:, None] if config.dimensions == 2 else grid.values_DHW[None]
    labels = _labels(image, config) or [None] * len(examples)
    return [
        (frame, Prepared(np.repeat(example[None], config.channels, axis=0), grid.spacing_mm, own))
        for frame, example, own in zip(frames, examples, labels, strict=True)
    ]


def usable(image: DecodedImage, config: ImagingConfig) -> DecodedImage:
    """The frames of a file that become examples, or the whole with 3 dimensions. Raises Rejected as `prepare`."""
    frames = usable_frames(image, config)
    return of_frames(image, frames) if config.dimensions == 2 else image


def usable_frames(image: DecodedImage, config: ImagingConfig) -> list[int]:
    """Which frames become examples, in order; with 3 dimensions [0], for the whole. Raises Rejected as `prepare`."""
    cleaning.check_shape(image, config.cleaning)
    if config.dimensions == 2:
        return _usable_frames(image, config)
    reason = cleaning.check_frame(image.pixels_DHW, image.mask_DHW, config.cleaning)
    if reason is not None:
        raise Rejected(reason)
    return [0]


def placed(window: Grid, affine_lps_mm: npt.NDArray[np.float64], config: ImagingConfig) -> Grid:
    """Windowed values in [0, 1] → as all sites show them, of `image_size`, enhanced, padded and normalised."""
    grid = resampling.orient(window, affine_lps_mm, config.dimensions)
    grid = resampling.resample(grid, config)
    grid = replace(grid, values_DHW=enhancement.enhance(grid.values_DHW, config.enhancement))
    grid = resampling.crop_or_pad(grid, config.image_size)
    return replace(grid, values_DHW=intensity.normalise(grid.values_DHW, config.intensity))


def _labels(image: DecodedImage, config: ImagingConfig) -> list[Labels | None] | None:
    """The same way for a class of every voxel, without anything between two classes: one array an example."""
    if image.labels_DHW is None:
        return None
    labels = placed_labels(image.labels_DHW, image, config)
    return [frame[None] for frame in labels] if config.dimensions == 2 else [labels]


def placed_labels(labels_DHW: Labels, image: DecodedImage, config: ImagingConfig) -> npt.NDArray[Any]:
    """`placed` for classes, which lie on the grid of `image`: none is made up between two."""
    grid = Grid(labels_DHW.astype(np.float32), image.spacing_mm)
    grid = resampling.orient(grid, image.affine_lps_mm, config.dimensions)
    grid = resampling.crop_or_pad(resampling.resample_labels(grid, config), config.image_size)
    return grid.values_DHW.astype(labels_DHW.dtype)


def prepare_series(images: Sequence[DecodedImage], config: ImagingConfig) -> list[Prepared]:
    """One example from the single-slice files of one series. Raises Rejected."""
    for image in images:
        cleaning.check_shape(image, config.cleaning)
    return prepare(stack_series(images), config)


def _usable_frames(image: DecodedImage, config: ImagingConfig) -> list[int]:
    """The frames worth keeping, at most `frames_per_file`, in order. Raises Rejected if there is none."""
    depth = image.pixels_DHW.shape[0]
    wanted = range(depth)
    if config.frames_per_file is not None and depth > config.frames_per_file:
        wanted = np.unique(np.linspace(0, depth - 1, config.frames_per_file).round().astype(int)).tolist()
    reasons: Counter[Quarantine] = Counter()
    kept: list[int] = []
    seen: set[bytes] = set()
    for d in wanted:
        mask = None if image.mask_DHW is None else image.mask_DHW[d]
        reason = cleaning.check_frame(image.pixels_DHW[d], mask, config.cleaning)
        if reason is None and config.cleaning.drop_duplicates and depth > 1:
            content = image.pixels_DHW[d].tobytes()
            reason = Quarantine.DUPLICATE if content in seen else None
            seen.add(content)
        if reason is None:
            kept.append(d)
        else:
            reasons[reason] += 1
    if not kept:
        raise Rejected(reasons.most_common(1)[0][0])
    return kept


def of_frames(image: DecodedImage, kept: Sequence[int]) -> DecodedImage:
    """These frames alone."""
    if len(kept) == len(image.pixels_DHW):
        return image
    frames = list(kept)
    mask_kept = None if image.mask_DHW is None else image.mask_DHW[frames]
    labels_kept = None if image.labels_DHW is None else image.labels_DHW[frames]
    return replace(image, pixels_DHW=image.pixels_DHW[frames], mask_DHW=mask_kept, labels_DHW=labels_kept)
