"""Examples become a data set ordered by patient, and splits that never cut through a patient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from fedimg.crypto.keys import keyed_digest
from fedimg.errors import DataError
from fedimg.imaging import features, intensity
from fedimg.imaging.config import ImagingConfig
from fedimg.imaging.labels import Kinds, labels_of
from fedimg.subgroups import UNKNOWN
from fedimg.values import SiteDataset, Volume

_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""ITU-R BT.601, as the decoder of colour DICOM uses."""


def build_dataset(
    volumes: Sequence[Volume], config: ImagingConfig | None = None, kind: Kinds = "class"
) -> SiteDataset:
    """Tensors ordered by patient key, within a patient as given.

    Args:
        volumes: of one shape. D = 1 gives images (N, C, H, W), else (N, C, D, H, W).
        config: gives the shape where there are no volumes: an empty site is a data set of no patient.
        kind: of the labels, see `labels.labels_of`.
    Raises DataError: volumes of different shapes, or none and no `config`.
    """
    order = sorted(range(len(volumes)), key=lambda i: volumes[i].patient_key)
    if config is not None:
        shape, flat = config.shape, config.dimensions == 2
    elif volumes:
        full = volumes[0].image_CDHW.shape
        flat = full[1] == 1
        shape = (full[0], *full[2:]) if flat else full
    else:
        raise DataError(
            "at least one example, or the shape of one", "neither", "pass the imaging configuration"
        )
    images = np.empty((len(volumes), *shape), dtype=np.float32)
    for place, source in enumerate(order):
        image = volumes[source].image_CDHW
        image = image[:, 0] if flat and image.ndim == 4 and image.shape[1] == 1 else image
        if image.shape != shape:
            found = f"{image.shape} beside {shape}"
            raise DataError("examples of one shape", found, "prepare all images with the same configuration")
        images[place] = image
    labels = labels_of([volumes[i] for i in order], kind, shape[1:])
    keys, first = _group([volumes[i].patient_key for i in order])
    groups = np.array([volumes[i].groups for i in order], dtype=np.int64).reshape(-1, len(UNKNOWN))
    return SiteDataset(torch.from_numpy(images), torch.from_numpy(labels), keys, first, groups)


def dataset_from_arrays(
    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64] | npt.NDArray[np.float32],
    patient_keys: Sequence[str],
    config: ImagingConfig,
) -> SiteDataset:
    """Declared public arrays → data set; the lane of sources without files.

    Args:
        images: (N, C, *spatial), uint8 in [0, 255] or float32 in [0, 1], C 1 or 3.
        labels: (N,). patient_keys: N names; equal ones are one patient.
    Guarantee: pixel values v become (v ÷ 255 − mean) ÷ std; sizes other than `config.image_size` are
        resized as files are. Orientation, spacing and windows do not exist here.
    Raises DataError: lengths, channels or dimensions that do not fit, values that are not finite.
    """
    spatial = len(config.image_size)
    if config.together:
        raise DataError(
            "files, which say what modality they are, for imaging.together", "arrays", "leave it empty"
        )
    if (
        images.ndim != 2 + spatial
        or images.shape[1] not in (1, 3)
        or not len(images) == len(labels) == len(patient_keys)
    ):
        found = f"images {images.shape}, {len(labels)} labels, {len(patient_keys)} names"
        raise DataError(
            f"N images (N, 1 or 3, {spatial} axes), labels and names", found, "set imaging.dimensions"
        )
    scale = np.float32(255) if images.dtype == np.uint8 else np.float32(1)
    values = images.astype(np.float32) / scale
    if not np.isfinite(values).all():
        raise DataError("finite pixel values", "NaN or infinity", "repair the arrays at their source")
    if images.shape[1] != config.channels:
        grey = np.tensordot(values, _LUMINANCE, axes=(1, 0))[:, None] if images.shape[1] == 3 else values
        values = np.repeat(grey, config.channels, axis=1)
    values = intensity.normalise(_resized(values, tuple(config.image_size)), config.intensity)
    values = features.without_any(values, config)
    order = np.argsort(np.asarray(patient_keys), kind="stable")
    keys, first = _group([patient_keys[i] for i in order])
    return SiteDataset(
        torch.from_numpy(np.ascontiguousarray(values[order])),
        torch.from_numpy(np.asarray(labels, np.float32 if labels.dtype.kind == "f" else np.int64)[order]),
        keys,
        first,
    )


def split(dataset: SiteDataset, fraction: float, key: bytes) -> tuple[SiteDataset, SiteDataset]:
    """(train, validation): a patient is in validation iff their keyed hash falls below `fraction`.

    Guarantee: whole patients only; where one patient goes depends on nobody else, so adding or
    removing a patient moves no other (a shuffled split would, and would break the neighbouring
    relation of the accounting). The share is met on average, not exactly.
    Raises DataError unless 0 ≤ fraction ≤ 1.
    """
    if not 0 <= fraction <= 1:
        raise DataError("a validation fraction in [0, 1]", str(fraction), "change validation_fraction")
    digests = [keyed_digest(key, b"validation", patient.encode()) for patient in dataset.patient_keys]
    uniform = np.array([int.from_bytes(d[:8], "big") for d in digests], dtype=np.float64) / 2.0**64
    held = uniform < fraction
    return dataset.of_patients(np.flatnonzero(~held)), dataset.of_patients(np.flatnonzero(held))


def _group(keys: Sequence[str]) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Distinct names of a sorted sequence, and where each begins, closed by the length."""
    starts = [i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]]
    return tuple(keys[i] for i in starts), np.array([*starts, len(keys)], dtype=np.int64)


def _resized(values: npt.NDArray[np.float32], size: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """(N, C, *spatial) to `size`: area averaging where an axis shrinks, else linear."""
    here = values.shape[2:]
    if here == size:
        return values
    shrinks = any(new < old for new, old in zip(size, here, strict=True))
    mode = "area" if shrinks else ("bilinear" if len(size) == 2 else "trilinear")
    # All arrays of a set have one shape, so they are interpolated together: MONAI's Resize calls the
    # same function, one image at a time.
    result = torch.nn.functional.interpolate(torch.from_numpy(values), size=size, mode=mode)
    return np.asarray(result.numpy(), dtype=np.float32)


def joined(parts: Sequence[SiteDataset]) -> SiteDataset:
    """All parts as one, of nobody's groups; patients of different parts are different patients."""
    lengths = np.concatenate([np.diff(part.first_image) for part in parts])
    return SiteDataset(
        torch.cat([part.images for part in parts]),
        torch.cat([part.labels for part in parts]),
        tuple(key_in(number, key) for number, part in enumerate(parts) for key in part.patient_keys),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]).astype(np.int64),
    )


def key_in(part: int, key: str) -> str:
    """A patient's key in what `joined` gives."""
    return f"{part:04d}/{key}"
