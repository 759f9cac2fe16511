"""A home's released files as cases: pixels in physical units, where the lesion is, how the image was acquired."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fedimg.dicom.acquisition import acquisition_parameters
from fedimg.dicom.refusal import Quarantined
from fedimg.errors import ConfigError, DataError
from fedimg.home import SiteHome
from fedimg.imaging import loading, preprocessing
from fedimg.imaging.cleaning import Rejected
from fedimg.imaging.config import ImagingConfig
from fedimg.imaging.labels import of_group
from fedimg.imaging.measurements import Case, measure
from fedimg.imaging.measurements.registry import ACQUISITION, Value
from fedimg.imaging.rules import Rulebook
from fedimg.imaging.series import stack_series
from fedimg.imaging.traditional import SegmentationConfig, segment
from fedimg.intake import admitted
from fedimg.intake.released import decoder
from fedimg.values import DecodedImage, DeidentifiedRecord, Quarantine

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Decided:
    """What rules say of N examples, in a data set's order.

    Attributes: scores: (N, classes). labels: (N,). first_image: (U + 1,), as of `SiteDataset`. held_back: files.
    """

    scores: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    first_image: npt.NDArray[np.int64]
    held_back: int = 0


def decide(home: SiteHome, imaging: ImagingConfig, profile: str, book: Rulebook) -> Decided:
    """Of the same examples that a network is given of these files, before they are resampled.

    Nobody has drawn a lesion for a classifier: it is where `traditional.segment` sees one.
    """
    if imaging.together:
        several = f"imaging.together={list(imaging.together)}"
        raise ConfigError("one image an example, where rules decide", several, "leave rules out")
    found: list[tuple[str, int, npt.NDArray[np.float64]]] = []
    held_back = 0
    for group in loading.grouped(admitted(home, profile), imaging.unit):
        try:
            record = of_group(group, "class")
            image = preprocessing.usable(opened(home, group), imaging)
            taken = acquired(home, group[0], profile, book.names)
            for example in _examples(image, imaging.dimensions):
                case = case_of(example, record.kind, partial(_seen, example), taken, book.names)
                scores = book.decide(measure(case, book.names)).scores(book.classes)
                found.append((record.patient_key, record.label, scores))
        except (Rejected, Quarantined):
            held_back += 1
    keys = [patient for patient, _, _ in found]
    starts = [k for k, key in enumerate(keys) if k == 0 or key != keys[k - 1]]
    return Decided(
        np.array([scores for _, _, scores in found]).reshape(len(found), book.classes),
        np.array([label for _, label, _ in found], np.int64),
        np.array([*starts, len(found)], np.int64),
        held_back,
    )


def opened(home: SiteHome, group: Sequence[DeidentifiedRecord]) -> DecodedImage:
    """One file, or the slices of a series as one volume. Raises Rejected for a file that does not decode, or no stack."""
    decode, images = decoder(home), list[DecodedImage]()
    for record in group:
        image = decode(record)
        if isinstance(image, Quarantine):
            raise Rejected(image, "a released file that does not decode")
        images.append(image)
    return images[0] if len(images) == 1 else stack_series(images)


def acquired(
    home: SiteHome, record: DeidentifiedRecord, profile: str, names: frozenset[str]
) -> Mapping[str, Value]:
    """Acquisition parameters of a released DICOM file, where any of them is asked for."""
    if record.kind != "dicom" or names.isdisjoint(ACQUISITION):
        return {}
    with suppress(DataError):  # not readable: then they are not known
        return dict(acquisition_parameters(home.released / record.path, profile))
    return {}


def case_of(
    image: DecodedImage,
    kind: str,
    lesion: Callable[[], Mask | None],
    acquisition: Mapping[str, Value],
    names: frozenset[str],
) -> Case:
    """`kind`: of the file. `lesion` is asked only where `names` have something of it."""
    drawn = (
        lesion() if any(name not in ACQUISITION and not name.startswith("image_") for name in names) else None
    )
    masks = {} if drawn is None else {"lesion": drawn}
    return Case(image.pixels_DHW, known_spacing_mm(image, kind), image.units, masks, acquisition)


def known_spacing_mm(image: DecodedImage, kind: str) -> tuple[float, float, float] | None:
    """None of a picture, or of what was made of one: decoding puts 1 mm where nobody knows how large pixels are."""
    made = kind == "dicom" and image.modality == "OT" and image.spacing_mm[1:] == (1.0, 1.0)
    return None if made or kind == "image" else image.spacing_mm


def _examples(image: DecodedImage, dimensions: int) -> Iterator[DecodedImage]:
    if dimensions == 3:
        yield image
        return
    for frame in image.pixels_DHW:
        yield _frame(image, frame)


def _frame(image: DecodedImage, frame: npt.NDArray[Any]) -> DecodedImage:
    return DecodedImage(
        frame[None], image.affine_lps_mm, image.spacing_mm, image.modality, image.units, image.window
    )


def _seen(image: DecodedImage) -> Mask:
    """In a single plane as one, since a body of one slice has no depth."""
    pixels = image.pixels_DHW
    config = SegmentationConfig.of_side(min(pixels.shape[1:]))
    return segment(pixels, config) if len(pixels) > 1 else segment(pixels[0], config)[None]
