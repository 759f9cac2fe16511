"""What a model said of one series, as plain values; and what the writers of its objects need beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fedimg.codes import Code
from fedimg.dicom.original import Original
from fedimg.errors import DataError
from fedimg.values import FloatArray


class NotFinite(DataError):
    """A score or a measure that is no finite number: the model has failed, which says nothing of the study."""

    def __init__(self) -> None:
        super().__init__(
            "a score and measures that are finite", "NaN or infinity", "ask who released the model"
        )


@dataclass(frozen=True, slots=True)
class Found:
    """One finding at one place.

    Attributes:
        finding: the class that was called. code, site: what that means.
        score: its calibrated probability. where: in words, for people.
        size_mm: the largest diameter in the plane of the images; None where nothing is outlined or pixels have no size.
        image: SOPInstanceUID of the image that shows it best.
        centre_mm: patient coordinates (LPS, PS3.3 C.7.6.2.1.1); None without a frame of reference or without a place.
    """

    finding: str
    code: Code
    site: Code | None
    score: float
    where: str
    size_mm: float | None
    image: str
    centre_mm: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """Of one series.

    Attributes:
        kind: of disease, as the bundle says.
        scores: class → probability of the series. score: that there is anything at all, which is what is compared.
        called: score ≥ threshold; never where the bundle promises no threshold. found: empty where not called.
        measures: for the drift streams, by name. embedding: the same, a point; may be empty.
        seconds: that it took.
    """

    model_name: str
    model_version: str
    model_digest: str
    kind: str
    series_uid: str
    scores: Mapping[str, float]
    score: float
    threshold: float | None
    called: bool
    found: tuple[Found, ...]
    measures: Mapping[str, float]
    embedding: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Region:
    """A box on one image, in pixels between centres: of a finding that was boxed and not outlined."""

    top: float
    left: float
    bottom: float
    right: float


@dataclass(frozen=True, slots=True)
class Analysis:
    """A prediction with what is drawn and written of it.

    Attributes:
        originals: the files that were looked at. inputs: SHA-256, hex, over all of them.
        planes: (place in `originals`, frame) of each slice of the grid on which the finding was looked for.
        mask_DHW: on that grid, what was outlined; None where nothing was.
        shown: the slice that is shown. picture_HW: it, windowed to [0, 1].
        attention_HW: on it, [0, 1], how much the score rests on each place; no outline. box: on it.
        owed: the prepared image on which `attended` may still say what the score rests on; None where a place is known
            or none was asked for.
    """

    prediction: Prediction
    study_uid: str
    inputs: str
    originals: tuple[Original, ...] = field(repr=False)
    planes: tuple[tuple[int, int], ...] = field(repr=False)
    mask_DHW: npt.NDArray[np.bool_] | None = field(repr=False)
    shown: int
    picture_HW: FloatArray = field(repr=False)
    attention_HW: FloatArray | None = field(repr=False)
    box: Region | None
    owed: int | None = None


def prediction_of(said: Mapping[str, Any]) -> Prediction:
    """The prediction of which `dataclasses.asdict` has made `said`, through JSON or not. Raises DataError for another form."""
    try:
        found = tuple(_found_of(one) for one in said["found"])
        return Prediction(**{**said, "found": found, "embedding": tuple(said["embedding"])})
    except (TypeError, KeyError, AttributeError):
        raise DataError("a prediction as it was stored", "another form", "run the study again") from None


def _found_of(said: Mapping[str, Any]) -> Found:
    site, centre = said["site"], said["centre_mm"]
    read = {
        "code": Code(**said["code"]),
        "site": None if site is None else Code(**site),
        "centre_mm": None if centre is None else tuple(centre),
    }
    return Found(**{**said, **read})
