"""Which series of a study a model looks at, and of the others why not, in words for people.

It fails closed: a series of which a header does not say what the model asks for is not analysed, and shown as such. It
is never scored, and "not analysed" never means that nothing was found.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from fedimg.bundle import Metadata, Opened, read_metadata
from fedimg.dicom.arrival import Arrival
from fedimg.imaging.config import ImagingConfig
from fedimg.prediction.said_imaging import imaging_of

_IMAGES = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{tail}"
    for tail in (
        *(
            "1",
            "1.1",
            "1.1.1",
            "1.2",
            "1.2.1",
            "1.3",
            "1.3.1",
        ),  # CR, DX, MG, IO: for presentation, for processing
        *("2", "2.1", "2.2"),  # CT, Enhanced CT, legacy converted
        *("3.1", "6.1", "6.2"),  # US multi-frame, US, Enhanced US volume
        *("4", "4.1", "4.3", "4.4"),  # MR, Enhanced MR, Enhanced MR colour, legacy converted
        *("12.1", "12.1.1", "12.2", "12.2.1"),  # XA, XRF and their enhanced ones
        *("13.1.1", "13.1.3"),  # X-ray 3D angiographic, breast tomosynthesis
        *("20", "128", "128.1", "130"),  # NM, PET, legacy converted, Enhanced PET
    )
)
"""Image Storage of what a modality acquired (PS3.4 table B.5-1). Secondary Capture is none: it may show anything, a result of
this program among it."""
_LARGEST_GAP_RATIO = 1.5  # as `imaging.series`
_SAME_PLACE_MM = 1e-3


class Rules(Protocol):
    """What decides: a `Model`, or a bundle's words alone, for who routes and does not look."""

    @property
    def metadata(self) -> Metadata: ...
    @property
    def imaging(self) -> ImagingConfig: ...


@dataclass(frozen=True, slots=True)
class Words:
    """`Rules` without a network."""

    metadata: Metadata
    imaging: ImagingConfig


def rules_of(bundle: Opened) -> Words:
    """Of a bundle whose signature held. Raises DataError as `load` does for what it says."""
    said = read_metadata(bundle)
    return Words(said, imaging_of(said.imaging))


@dataclass(frozen=True, slots=True)
class Routed:
    """Attributes: series: UIDs of those to look at, in the order of their first instance. others: UID → why not."""

    series: tuple[str, ...]
    others: Mapping[str, str]


def routed(model: Rules, arrivals: Sequence[Arrival]) -> Routed:
    """Of the instances of one study, whatever their order."""
    by_series: dict[str, list[Arrival]] = {}
    for one in arrivals:
        by_series.setdefault(one.series_uid, []).append(one)
    others = {uid: why for uid, own in by_series.items() if (why := why_not(model, own))}
    return Routed(tuple(uid for uid in by_series if uid not in others), others)


def why_not(model: Rules, series: Sequence[Arrival]) -> str:
    """Of one series; "" where it is looked at."""
    said = model.metadata
    if not all(one.sop_class in _IMAGES and one.rows and one.columns for one in series):
        return "not images as a modality acquires them"
    if len({one.sop_class for one in series}) > 1 or len({one.modality for one in series}) > 1:
        return "images of different kinds in one series"
    if said.modalities and series[0].modality not in said.modalities:
        return f"another modality than {' or '.join(said.modalities)}"
    if said.body_parts and (why := _other_part(series, said.body_parts)):
        return why
    images = sum(max(1, one.frames) for one in {one.sop_uid: one for one in series}.values())
    if images < said.least_images:
        return f"{images} of at least {said.least_images} images"
    if model.imaging.dimensions == 3:
        return _no_volume(series, model.imaging.unit)
    return ""


def _other_part(series: Sequence[Arrival], wanted: Sequence[str]) -> str:
    """A part that is not said is another one: what a description or a look at the image would say is not asked."""
    said = {one.body_part.strip().upper() for one in series}
    if "" in said:
        return "no body part in the header"
    return "" if said <= set(wanted) else f"another body part than {' or '.join(wanted)}"


def _no_volume(series: Sequence[Arrival], unit: str) -> str:
    """Why no volume can be made of it, as far as headers say; pixels are asked when it is looked at."""
    if unit == "image":
        return "" if all(one.frames > 1 for one in series) else "single images, where the model takes volumes"
    if len(series) == 1:
        return "" if series[0].frames > 1 else "a single image, where the model takes a stack"
    if any(one.frames > 1 for one in series):
        return "several volumes in one series"
    if len({(one.rows, one.columns) for one in series}) > 1:
        return "images of different sizes, of which no stack can be made"
    positions = [one.position_mm for one in series if one.position_mm is not None]
    if len(positions) < len(series):
        return "images without a position, of which no stack can be made"
    ordered = sorted(positions)
    gaps = [b - a for a, b in pairwise(ordered) if b - a > _SAME_PLACE_MM]
    if not gaps:
        return "images at one position, of which no stack can be made"
    return "a stack with a slice missing" if max(gaps) > _LARGEST_GAP_RATIO * statistics.median(gaps) else ""
