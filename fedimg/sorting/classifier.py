"""A look at the image, where no header says what it shows: a small network that learnt on generated images alone.

266 features of a 64-pixel thumbnail (grey values, edges across and down, roughness, a histogram, symmetry) and one
hidden layer. It knows a chest CT, a head MR, a frontal chest radiograph and an ultrasound when it sees one, and that
most images are none of them; whichever it is not sure of stays unknown. `scripts/train_view_classifier.py` makes the
weights beside this file, which are pinned by SHA-256: others are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import load

from fedimg.errors import FedimgError
from fedimg.imaging.thumbnails import area_mean, windowed
from fedimg.sorting.answer import UNKNOWN
from fedimg.values import FloatArray

WEIGHTS = Path(__file__).with_name("weights.safetensors")
WEIGHTS_SHA256 = "e786c86d17493a2860bc57c6f98de8b2fe45296c142afda3e51782e26e319a0a"
SIDE, CELLS = 64, 8
HIDDEN = 48
THRESHOLD = 0.95
"""The least probability at which an answer is given; `docs/data-quality.md` says what it was measured to do."""


class Shown(NamedTuple):
    """What an image of a class shows."""

    modality: str
    body_part: str
    view: str


CLASSES: tuple[Shown, ...] = (
    Shown("CT", "chest", "axial"),
    Shown("MR", "head", "axial"),
    Shown("CR", "chest", "frontal"),  # pa or ap: no pixel says from where the rays came
    Shown("US", UNKNOWN, UNKNOWN),  # the generated hospitals sound one organ only
    Shown(UNKNOWN, UNKNOWN, UNKNOWN),  # anything else
)


class WeightsError(FedimgError):
    """The weights beside the code are not the ones it was tested with."""


@dataclass(frozen=True)
class ViewClassifier:
    """Standardised features → ReLU → logits ÷ temperature. All float32."""

    mean: FloatArray
    scale: FloatArray
    first: FloatArray
    first_bias: FloatArray
    second: FloatArray
    second_bias: FloatArray

    def probabilities(self, frame: FloatArray) -> FloatArray:
        """(5,), of `CLASSES`, of one frame (H, W)."""
        shares: FloatArray = self.of_features(features(frame)[None])[0]
        return shares

    def of_features(self, rows: FloatArray) -> FloatArray:
        """(N, features) → (N, 5)."""
        hidden = np.maximum((rows - self.mean) / self.scale @ self.first + self.first_bias, 0)
        logits = hidden @ self.second + self.second_bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: FloatArray = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        return shares

    def look(self, frame: FloatArray, modalities: Collection[str] = ()) -> tuple[Shown, float]:
        """The likeliest class and its probability.

        Args:
            modalities: what the header leaves possible; empty: everything.
        """
        shares = self.probabilities(frame)
        possible = [
            k
            for k, shown in enumerate(CLASSES)
            if not modalities or shown.modality in modalities or shown.modality == UNKNOWN
        ]
        among = shares[possible] / max(float(shares[possible].sum()), 1e-12)
        best = int(among.argmax())
        return CLASSES[possible[best]], float(among[best])


def features(frame: FloatArray) -> FloatArray:
    """(266,) numbers of a frame of any size, which do not depend on its unit."""
    small = windowed(area_mean(frame, SIDE))
    across, down = np.diff(small, axis=1, append=small[:, -1:]), np.diff(small, axis=0, append=small[-1:])
    grey = _cells(small)
    spread = np.sqrt(np.maximum(_cells(small * small) - grey * grey, 0))
    histogram = np.histogram(small, bins=8, range=(0, 1))[0] / small.size
    rest = [*histogram, _alike(small, small[:, ::-1]), _alike(small, small[::-1])]
    parts = (grey, spread, _cells(np.abs(across)), _cells(np.abs(down)))
    return np.concatenate([*(part.ravel() for part in parts), np.asarray(rest)]).astype(np.float32)


def _cells(small: FloatArray) -> FloatArray:
    means: FloatArray = small.reshape(CELLS, SIDE // CELLS, CELLS, SIDE // CELLS).mean(axis=(1, 3))
    return means


def _alike(one: FloatArray, other: FloatArray) -> float:
    """Correlation of two pictures; 0 where one has no contrast."""
    a, b = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 1e-6 else 0.0


@cache
def shipped() -> ViewClassifier:
    """The classifier with the shipped weights. Raises WeightsError where they are missing or changed."""
    try:
        data = WEIGHTS.read_bytes()
    except OSError:
        data = b""
    return opened(data, WEIGHTS_SHA256)


def opened(data: bytes, sha256: str) -> ViewClassifier:
    """A classifier from the bytes of a safetensors file. Raises WeightsError unless their digest is `sha256`."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        expected = f"view classifier weights with SHA-256 {sha256[:16]}…"
        raise WeightsError(expected, f"{found[:16]}…", "reinstall fedimg")
    return ViewClassifier(**{name: values.astype(np.float32) for name, values in load(data).items()})
