"""What an image is labelled with, as one array a data set: of one kind, or of several kinds in one row an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fedimg.errors import DataError
from fedimg.imaging.cleaning import Rejected
from fedimg.values import NO_CLASS, DeidentifiedRecord, Quarantine, Volume

LabelKind = Literal["class", "findings", "voxels", "places", "number"]
"""What a label is: of an image a class, a sum of 2^k over findings, or a number; or a class of every voxel, of
which "places" takes the findings' boxes."""
Kinds = LabelKind | tuple[LabelKind, ...]
"""One kind, which every image must have; or several, of which an image must have one."""
_CLASSES: frozenset[LabelKind] = frozenset({"class", "findings"})


def of_voxels(kinds: Kinds) -> bool:
    return not {"voxels", "places"}.isdisjoint((kinds,) if isinstance(kinds, str) else kinds)


def of_group(
    group: Sequence[DeidentifiedRecord], kinds: Kinds, *, one_is_enough: bool = False
) -> DeidentifiedRecord:
    """One record with what its slices are labelled: the highest class, all findings, the largest number.

    Of several kinds what a slice lacks its series lacks, but for a class that another slice shows. Raises Rejected
    where one kind is asked for and missing. `one_is_enough`: of several modalities one file has to have it.
    """
    values = [r.value for r in group if r.value is not None]
    number = max(values, default=None) if one_is_enough or len(values) == len(group) else None
    known = [r.label for r in group if r.label >= 0]
    label = max(known, default=NO_CLASS)
    if kinds == "findings" or (not isinstance(kinds, str) and "findings" in kinds):
        label = reduce(or_, known, 0)
        label = label if known else NO_CLASS
    if isinstance(kinds, str):
        if kinds == "number" and number is None:
            raise Rejected(Quarantine.NO_LABEL, "an image without its number")
        if kinds in _CLASSES and (not known or (len(known) < len(group) and not one_is_enough)):
            raise Rejected(Quarantine.NO_LABEL, "an image without its class")
    elif not one_is_enough and len(known) < len(group) and (label == 0 or "findings" in kinds):
        label = NO_CLASS  # another slice may show more
    return replace(group[0], label=label, value=number)


def check_any(record: DeidentifiedRecord, kinds: tuple[LabelKind, ...], *, drawn: bool) -> None:
    """Raises Rejected for an image with none of several kinds."""
    there = {"number": record.value is not None, "voxels": drawn, "places": drawn}
    if not any(there.get(kind, record.label >= 0) for kind in kinds):
        raise Rejected(Quarantine.NO_LABEL, "an image of which nothing is said that is to be learnt")


def labels_of(volumes: Sequence[Volume], kinds: Kinds, spatial: tuple[int, ...]) -> npt.NDArray[Any]:
    """Of volumes in order: (N,) int64 classes, (N,) float32 numbers, (N, *spatial) int64 classes of voxels; of several
    kinds (N, …) float64, each flat, one behind the other, NaN where it is missing.

    Raises DataError: a class for every voxel alone, and an image without.
    """
    if not isinstance(kinds, str):
        each = [_flat(volumes, kind, spatial) for kind in kinds]
        return np.concatenate(each, axis=1)
    if kinds == "number":
        return np.array([volume.value for volume in volumes], dtype=np.float32)
    if kinds in _CLASSES:
        return np.array([volume.label for volume in volumes], dtype=np.int64)
    labels = np.zeros((len(volumes), *spatial), dtype=np.int64)
    for place, volume in enumerate(volumes):
        if volume.labels_DHW is None:
            raise DataError("a class for every voxel", "an image without", "draw masks for all images")
        labels[place] = volume.labels_DHW.reshape(spatial)
    return labels


def _flat(volumes: Sequence[Volume], kind: LabelKind, spatial: tuple[int, ...]) -> npt.NDArray[np.float64]:
    if kind == "number":
        return np.array([volume.value for volume in volumes], np.float64).reshape(-1, 1)
    if kind in _CLASSES:
        classes = np.array([volume.label for volume in volumes], np.float64).reshape(-1, 1)
        return np.where(classes >= 0, classes, np.nan)
    found = np.full((len(volumes), int(np.prod(spatial))), np.nan)
    for place, volume in enumerate(volumes):
        if volume.labels_DHW is not None:
            found[place] = volume.labels_DHW.reshape(-1)
    return found
