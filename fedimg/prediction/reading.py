"""Logits of a series' images → probabilities of the series, what each image says, and what each voxel says.

A series is called by the largest of its images' scores: whoever has a finding in one image has one. A model that was
trained and calibrated image by image keeps the sensitivity that its threshold promises, since more images can only add
a call; its specificity falls with the number of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from fedimg.bundle import Metadata, Output
from fedimg.models.heat_map import found as found_centres
from fedimg.monitoring.calibration import calibrated

Floats = npt.NDArray[np.float64]
_LEAST = 1e-6  # of a probability whose logit is taken


@dataclass(frozen=True, slots=True)
class Reading:
    """Attributes:
    scores: class → probability of the series. score: that there is anything.
    by_image: (N,) each image's own. kind: the class that is called, if one is; index among the classes, from 0.
    best: the image with the largest score.
    values: regressions' largest number of an image, in its own unit.
    """

    scores: Mapping[str, float]
    score: float
    by_image: Floats
    kind: int
    best: int
    values: tuple[float, ...]

    @property
    def logit(self) -> float:
        return float(logit(np.array(self.score)))


def logit(probabilities: Floats) -> Floats:
    """Finite: probabilities closer to 0 or 1 than 10⁻⁶ count as that close."""
    p = np.clip(probabilities, _LEAST, 1 - _LEAST)
    return np.asarray(np.log(p / (1 - p)))


def part(logits: torch.Tensor, output: Output) -> torch.Tensor:
    """(N, outputs of all) → (N, *shape) of one of them."""
    return logits[:, output.start : output.stop].reshape(-1, *output.shape)


def read(logits: torch.Tensor, said: Metadata) -> Reading:
    """Of flat logits (N, outputs of all). What says whether there is anything: classes, else findings, voxels, places."""
    by_task = {one.task: one for one in said.outputs}
    deciding = next(
        by_task[task]
        for task in ("classification", "multilabel", "segmentation", "detection")
        if task in by_task
    )
    each = probabilities(part(logits, deciding), deciding.task, said.temperature)
    names, own = list(said.classes), each.max(axis=0)
    if deciding.task == "multilabel":
        by_image, first = each.max(axis=1), 0
    else:
        by_image, first = 1 - each[:, 0], 1
        own[0] = each[:, 0].min()
    best = int(np.argmax(by_image))
    return Reading(
        {name: float(value) for name, value in zip(names, own, strict=True)},
        float(by_image[best]),
        by_image,
        first + int(np.argmax(each[best, first:])),
        best,
        tuple(_value(part(logits, one), one) for one in said.outputs if one.task == "regression"),
    )


def probabilities(logits: torch.Tensor, task: str, temperature: float) -> Floats:
    """(N, …) logits of a task → (N, classes) probabilities of images, float64.

    Of voxels the largest of each class but the first, of places the best score of each; the first is 1 − all others'
    largest.
    """
    if task == "classification":
        return calibrated(logits.double().numpy(), temperature)
    if task == "multilabel":
        return np.asarray(torch.sigmoid(logits.double()).numpy())
    if task == "segmentation":
        largest = voxels(logits).flatten(2).amax(dim=2).double().numpy()
        largest[:, 0] = 1 - largest[:, 1:].max(axis=1)
        return np.asarray(largest)
    places = found_centres(logits.double()).numpy()
    classes = logits.shape[1] - (logits.dim() - 2)
    found = np.zeros((len(logits), 1 + classes))
    for kind in range(1, 1 + classes):
        found[:, kind] = np.where(places[:, :, -1] == kind, places[:, :, 0], 0).max(axis=1)
    found[:, 0] = 1 - found[:, 1:].max(axis=1)
    return found


def voxels(logits: torch.Tensor) -> torch.Tensor:
    """(N, classes, *spatial) → probabilities, float32."""
    return torch.softmax(logits.float(), dim=1)


def outlined(logits: torch.Tensor, kind: int | None = None) -> npt.NDArray[np.bool_]:
    """(N, classes, *spatial) → (N, *spatial): voxels of a class, or of any but the first, as an evaluation takes them."""
    chosen = logits.argmax(dim=1)
    return np.asarray((chosen > 0 if kind is None else chosen == kind).numpy())


def _value(numbers: torch.Tensor, output: Output) -> float:
    low, high = output.target_range or (0.0, 1.0)
    return float(low + (high - low) * numbers.double().clamp(0, 1).max())


def best_place(logits: torch.Tensor, kind: int | None) -> Sequence[float]:
    """(classes + axes, *spatial) of one image → score, centre, size, class of its best finding, of a class if named."""
    places = found_centres(logits[None].double())[0].numpy()
    own = places if kind is None else places[places[:, -1] == kind]
    return [float(one) for one in own[0]]
