"""What is kept of each image: a digest, a thumbnail of 1 KiB, and a few numbers. Images themselves are let go at once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedimg.dicom.refusal import Quarantined
from fedimg.imaging import cleaning
from fedimg.imaging.cleaning import Rejected
from fedimg.imaging.config import CleaningConfig
from fedimg.imaging.thumbnails import area_mean, central_frame, windowed
from fedimg.quality.near import SIDE
from fedimg.quality.samples import Opened, Sample, Samples
from fedimg.values import DecodedImage, Quarantine, Vector

_MOST_FRAMES = 16  # of a stack that are looked at for being blank
_MOST_VALUES = 1 << 16  # of an image that its brightness is taken from
_NUMBERS = ("depth", "height", "width", "spacing_d", "spacing_h", "spacing_w", "brightness", "contrast")


@dataclass(frozen=True, slots=True)
class Taken:
    """One image's row. `reason` is a code of `Quarantine`; "" where the image can be used."""

    reason: str
    patient: str | None
    series: str | None
    kind: str = ""
    photometric: str = ""
    digest: bytes = b""
    numbers: tuple[float, ...] = (float("nan"),) * len(_NUMBERS)


@dataclass(frozen=True)
class Measured:
    """All images of a source, in its order: N rows.

    Attributes:
        taken: what belongs to each. thumbnails (N, 32, 32) uint8; black for images that cannot be used.
        numbers: (N,) each, NaN where an image could not be opened.
    """

    source: Samples
    taken: tuple[Taken, ...]
    thumbnails: npt.NDArray[np.uint8]

    @property
    def samples(self) -> tuple[Sample, ...]:
        return self.source.samples

    def numbers(self, name: str) -> Vector:
        place = _NUMBERS.index(name)
        return np.array([taken.numbers[place] for taken in self.taken], np.float64)

    def patient(self, index: int) -> str | None:
        """The patient, or the unit in its place; None where nobody is named."""
        return self.taken[index].patient

    def usable(self) -> npt.NDArray[np.bool_]:
        return np.array([not taken.reason for taken in self.taken], np.bool_)


def measure(
    source: Samples, config: CleaningConfig, progress: Callable[[int, int], None] | None = None
) -> Measured:
    """Open every image once. A bad one has a reason, and the others go on."""
    count = len(source.samples)
    thumbnails = np.zeros((count, SIDE, SIDE), np.uint8)
    taken: list[Taken] = []
    for index, sample in enumerate(source.samples):
        row, thumbnail = _of(sample, config)
        taken.append(row)
        if thumbnail is not None:
            thumbnails[index] = thumbnail
        if progress is not None:
            progress(index + 1, count)
    return Measured(source, tuple(taken), thumbnails)


def _of(sample: Sample, config: CleaningConfig) -> tuple[Taken, npt.NDArray[np.uint8] | None]:
    try:
        opened = sample.open()
        return _measured(sample, opened, config)
    except Quarantined as refusal:
        return Taken(str(refusal.reason), sample.patient, sample.series), None
    # A strange file may make a library fail in ways of its own: it is one that cannot be used.
    except Exception:  # noqa: BLE001
        return Taken(str(Quarantine.UNSAFE_STRUCTURE), sample.patient, sample.series), None


def _measured(
    sample: Sample, opened: Opened, config: CleaningConfig
) -> tuple[Taken, npt.NDArray[np.uint8] | None]:
    image = opened.image
    reason = _no_use(image, config)
    row = Taken(
        reason,
        sample.patient or opened.patient or None,
        sample.series or opened.series or None,
        image.modality,
        opened.photometric,
        _digest(image),
        (*image.pixels_DHW.shape, *image.spacing_mm, *_brightness(image)),
    )
    if reason:
        return row, None
    frame = central_frame(image)
    return row, np.rint(windowed(area_mean(frame, SIDE)) * 255).astype(np.uint8)


def _no_use(image: DecodedImage, config: CleaningConfig) -> str:
    """Why an image is no use for training, by the tests of preprocessing; "" where one of its frames is."""
    try:
        cleaning.check_shape(image, config)
    except Rejected as refusal:
        return str(refusal.reason)
    depth = len(image.pixels_DHW)
    reasons: Counter[str] = Counter()
    for d in np.unique(np.linspace(0, depth - 1, min(depth, _MOST_FRAMES)).round().astype(int)).tolist():
        mask = None if image.mask_DHW is None else image.mask_DHW[d]
        reason = cleaning.check_frame(image.pixels_DHW[d], mask, config)
        if reason is None:
            return ""
        reasons[str(reason)] += 1
    return reasons.most_common(1)[0][0]


def _digest(image: DecodedImage) -> bytes:
    """Of size and values in physical units: equal for copies in other encodings that lost nothing."""
    shape = np.asarray(image.pixels_DHW.shape, "<i8").tobytes()
    values = np.ascontiguousarray(image.pixels_DHW, "<f4") + np.float32(0)  # −0 is 0
    return hashlib.sha256(shape + values.tobytes()).digest()


def _brightness(image: DecodedImage) -> tuple[float, float]:
    """Mean and standard deviation, of evenly spaced values where there are many."""
    values = image.pixels_DHW.ravel()
    values = values[:: max(1, values.size // _MOST_VALUES)].astype(np.float64)
    return float(values.mean()), float(values.std())
