"""A bundle → a model that can look at series: signature first, then the network, then whether it can work here."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fedimg.bundle import Metadata, Output, open_sealed
from fedimg.bundle.running import released_network
from fedimg.errors import DataError
from fedimg.imaging.config import ImagingConfig
from fedimg.prediction.backends import Backend, chosen
from fedimg.prediction.said_imaging import imaging_of

_VOXELS_AT_ONCE = 1 << 23
"""Of a batch: so many float32 numbers of images and a network's work on them stay within some 2 GiB."""
_MOST_AT_ONCE = 64


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A verified bundle, ready. Attributes: digest: names the bundle. imaging: how its images are prepared."""

    metadata: Metadata
    digest: str
    imaging: ImagingConfig
    backend: Backend = field(repr=False)

    def output(self, task: str) -> Output | None:
        """The stretch of a task's logits, if the model has it."""
        return next((one for one in self.metadata.outputs if one.task == task), None)

    def run(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(N, C, *spatial) → flat logits (N, outputs of all), and features (N, F) where the graph has such a layer."""
        together = max(1, min(_MOST_AT_ONCE, _VOXELS_AT_ONCE // math.prod(images.shape[1:])))
        parts = [self.backend.call(part) for part in images.split(together)]
        features = [one for _, one in parts if one is not None]
        logits = torch.cat([one.flatten(1) for one, _ in parts])
        return logits, torch.cat(features) if len(features) == len(parts) else None


def load(folder: Path, trusted: Collection[bytes]) -> Model:
    """Raises DataError as `open_sealed` and `network_of` do, and for a model that nobody can look at series with."""
    opened = open_sealed(folder, trusted)
    released = released_network(opened)
    said = released.said
    imaging = imaging_of(said.imaging)
    _check(said, imaging)
    return Model(said, opened.digest, imaging, chosen(released))


def _check(said: Metadata, imaging: ImagingConfig) -> None:
    """Raises DataError where logits are not what the bundle says, or a series alone is not what the model looks at."""
    expected = "a bundle whose model looks at the images of one series"
    remedy = "release a model of one modality and without a table"
    if imaging.together or imaging.features:
        raise DataError(expected, "one that takes several modalities, or numbers beside them", remedy)
    if all(one.task == "regression" for one in said.outputs):
        raise DataError(
            expected, "one that gives numbers only, and finds nothing", "release one with classes"
        )
    shape = imaging.shape
    if shape != said.image_shape:
        raise DataError("images of one shape in a bundle", "two", "ask for the bundle again")
    for one in said.outputs:
        wanted = len(said.classes)
        channels = one.shape[0]
        of_voxels = one.task in ("segmentation", "detection")
        if one.task == "detection":
            channels -= len(shape) - 2
        fits = channels == wanted or one.task == "regression"
        if not fits or (of_voxels and one.shape[1:] != shape[1:]):
            raise DataError("a name for each class in a bundle", "more or fewer", "ask for the bundle again")
