"""Small images with known geometry, built by hand."""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest

from fedimg.values import DecodedImage, DeidentifiedRecord


def make_decoded(pixels, spacing_mm=(1.0, 1.0, 1.0), affine=None, **changes: Any) -> DecodedImage:
    """(D, H, W) or (H, W) pixels; without `affine` the array's axes are left, posterior, superior."""
    array = np.asarray(pixels, dtype=np.float32)
    array = array if array.ndim != 2 else array[None]
    d, h, w = spacing_mm
    affine = np.diag([w, h, d, 1.0]) if affine is None else affine
    values = {"modality": "CR", "units": "arbitrary"} | changes
    return DecodedImage(array, affine, tuple(spacing_mm), **values)


def make_record(patient="p1", label=1, sha256="00", series="s1", instance="i1") -> DeidentifiedRecord:
    path = PurePosixPath("a/b.dcm")
    return DeidentifiedRecord(path, sha256, patient, "st1", series, instance, "CR", label, "train", "dicom")


@pytest.fixture
def decoded() -> Callable[..., DecodedImage]:
    return make_decoded


@pytest.fixture
def record() -> Callable[..., DeidentifiedRecord]:
    return make_record


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """Texture that no cleaning rule objects to."""

    def make(shape=(32, 32), seed=0, low=0.0, high=100.0):
        return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)

    return make


@pytest.fixture
def disc() -> Callable[..., np.ndarray]:
    """A disc of given diameter in millimetres, centred, 100 on 0; pixel values are area shares."""

    def make(shape, spacing_mm, diameter_mm, over=8):
        axes = [
            ((np.arange(n * over) + 0.5) / over - n / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True)
        ]
        inside = axes[0][:, None] ** 2 + axes[1][None, :] ** 2 <= (diameter_mm / 2) ** 2
        return 100 * inside.reshape(shape[0], over, shape[1], over).mean(axis=(1, 3)).astype(np.float32)

    return make
