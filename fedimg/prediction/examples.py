"""Original files of one series → what the network sees, by the stations that made its training's images.

`pixels` decode, `preprocessing` prepares: the same calls with the same configuration give the same floats. Only what
de-identification filled is another: here the original is looked at, training saw a constant in place of burned-in text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from fedimg.dicom.original import Original, open_original
from fedimg.dicom.refusal import Quarantined
from fedimg.errors import DataError
from fedimg.imaging import intensity, preprocessing
from fedimg.imaging.cleaning import Rejected
from fedimg.imaging.config import ImagingConfig
from fedimg.imaging.series import stack_order, stack_series
from fedimg.imaging.way_back import Way, way_of
from fedimg.values import DecodedImage, FloatArray


@dataclass(frozen=True, slots=True)
class Stack:
    """A grid of the series: its images one behind the other where they form a stack, else one file's own.

    Attributes: planes: (place in the files, frame) of each slice. image: its pixels and geometry.
    """

    planes: tuple[tuple[int, int], ...]
    image: DecodedImage = field(repr=False)


@dataclass(frozen=True, slots=True)
class Example:
    """One prepared image.

    Attributes: stack: place in `Examples.stacks`. slices: those of the stack that it shows, first to before last.
    """

    stack: int
    first: int
    last: int
    way: Way


@dataclass(frozen=True, slots=True)
class Examples:
    """Attributes: images: (N, C, *spatial) float32. left_out: files that cannot be used. inputs: SHA-256 over all files."""

    originals: tuple[Original, ...]
    stacks: tuple[Stack, ...]
    examples: tuple[Example, ...]
    images: torch.Tensor
    left_out: int
    inputs: str


def examples_of(files: Sequence[Path], config: ImagingConfig) -> Examples:
    """Of the files of one series, whatever their order.

    In two dimensions a file or frame that cannot be used is left out and counted, as in training; a volume with a slice
    that cannot be used is none.

    Raises DataError: no file of the series can be used (why the first one cannot), files of several series, or no stack.
    """
    originals, refusals = _opened(files)
    if not originals or (refusals and config.dimensions == 3):
        raise refusals[0] if refusals else DataError("files of a series", "none", "name its files")
    if len({(one.study_uid, one.series_uid) for one in originals}) > 1:
        raise DataError("files of one series", "several", "predict series by series")
    stacks = _stacks(originals, config)
    originals = _without_copies(originals, stacks)
    if config.dimensions == 3:
        made, unusable = _volumes(stacks, config)
    else:
        made, unusable = _frames(originals, stacks, config)
    refusals += unusable
    if not made:
        raise refusals[0]
    images = np.stack([image for _, image in made])
    digest = hashlib.sha256("\n".join(sorted(f"{one.sop_uid} {one.sha256}" for one in originals)).encode())
    return Examples(
        tuple(originals),
        stacks,
        tuple(example for example, _ in made),
        torch.from_numpy(images if config.dimensions == 3 else images[:, :, 0]),
        len(refusals),
        digest.hexdigest(),
    )


def _opened(files: Sequence[Path]) -> tuple[list[Original], list[DataError]]:
    """By SOPInstanceUID, so that names and order of files mean nothing; one that came twice counts once."""
    found: dict[str, Original] = {}
    refusals: list[DataError] = []
    for path in files:
        try:
            one = open_original(path)
        except Quarantined as refusal:
            refusals.append(refusal)
            continue
        same = found.setdefault(one.sop_uid, one)
        if same.sha256 != one.sha256:
            raise DataError(
                "one file of each instance", "two that differ", "remove the one that is not meant"
            )
    return [found[uid] for uid in sorted(found)], refusals


def _stacks(originals: Sequence[Original], config: ImagingConfig) -> tuple[Stack, ...]:
    """One where the files form a stack by their positions, else each file's own."""
    images = [one.image for one in originals]
    volumes = config.dimensions == 3 and config.unit == "image"
    if not volumes and len(images) > 1 and (config.dimensions == 3 or all(one.placed for one in originals)):
        try:
            order = stack_order(images)
            return (Stack(tuple((k, 0) for k in order), stack_series(images)),)
        except Rejected:
            if config.dimensions == 3:
                raise
    return tuple(
        Stack(tuple((k, frame) for frame in range(len(image.pixels_DHW))), image)
        for k, image in enumerate(images)
    )


def _without_copies(originals: Sequence[Original], stacks: Sequence[Stack]) -> list[Original]:
    """The same pixels once in memory: a file's are those of its slice of the stack."""
    found = list(originals)
    for stack in stacks:
        for place, (number, frame) in enumerate(stack.planes):
            if (one := found[number]).image is not stack.image and frame == 0:
                pixels = stack.image.pixels_DHW[place : place + 1]
                found[number] = replace(one, image=replace(one.image, pixels_DHW=pixels))
    return found


def _volumes(
    stacks: Sequence[Stack], config: ImagingConfig
) -> tuple[list[tuple[Example, FloatArray]], list[DataError]]:
    """A volume of each stack."""
    made, refusals = [], list[DataError]()
    for place, stack in enumerate(stacks):
        try:
            (prepared,) = preprocessing.prepare(stack.image, config)
        except Rejected as refusal:
            refusals.append(refusal)
            continue
        example = Example(
            place, 0, len(stack.planes), _way(stack.image, stack.image.pixels_DHW.shape, config)
        )
        made.append((example, prepared.image_CDHW))
    return made, refusals


def _frames(
    originals: Sequence[Original], stacks: Sequence[Stack], config: ImagingConfig
) -> tuple[list[tuple[Example, FloatArray]], list[DataError]]:
    """An image of each usable frame, file by file, in the order of the files."""
    where = {plane: (place, k) for place, stack in enumerate(stacks) for k, plane in enumerate(stack.planes)}
    made, refusals = [], list[DataError]()
    for number, original in enumerate(originals):
        try:
            prepared = preprocessing.prepare_frames(original.image, config)
        except Rejected as refusal:
            refusals.append(refusal)
            continue
        way = _way(original.image, (1, *original.image.pixels_DHW.shape[1:]), config)
        for frame, one in prepared:
            if (number, frame) in where:  # a repeated slice of a stack is not
                place, k = where[number, frame]
                made.append((Example(place, k, k + 1, way), one.image_CDHW))
    return made, refusals


def _way(image: DecodedImage, shape: Sequence[int], config: ImagingConfig) -> Way:
    return way_of(shape, image.spacing_mm, image.affine_lps_mm, config)


def picture(stack: Stack, at: int, config: ImagingConfig) -> npt.NDArray[np.float32]:
    """(H, W) of one slice, windowed as the network saw it, [0, 1]."""
    windowed: npt.NDArray[np.float32] = intensity.to_unit_range(stack.image, config.intensity)[at]
    return windowed
