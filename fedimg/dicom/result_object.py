"""What all objects share that go back beside a study's images: whose they are, who made them, and what they are called.

UIDs follow from what an object is of (study, series, bundle, bytes of the images): the same again is the same object, not a
second one, and another input makes another. They are no pseudonyms; these objects stay where their images are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydicom.dataset import Dataset

from fedimg.dicom.elements import derived_uid
from fedimg.dicom.original import Original

MANUFACTURER = "fedimg"
NOT_DIAGNOSTIC = "NOT FOR DIAGNOSTIC USE"
Kind = Literal["SR", "SEG", "SC"]
SERIES_NUMBERS: Mapping[Kind, int] = {"SR": 9101, "SEG": 9102, "SC": 9103}
IDENTITY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)


@dataclass(frozen=True, slots=True)
class Maker:
    """Which model an object is of. Attributes: digest: of its bundle, hex. at: when the object is made."""

    name: str
    version: str
    digest: str
    at: datetime

    @property
    def date(self) -> str:
        return self.at.strftime("%Y%m%d")

    @property
    def time(self) -> str:
        return self.at.strftime("%H%M%S")

    @property
    def shown(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True)
class Uids:
    """Of one object."""

    instance: str
    series: str


def uids_of(kind: Kind, first: Original, maker: Maker, inputs: str) -> Uids:
    """Args: inputs: digest of all images that it is of."""
    of = (first.study_uid, first.series_uid, maker.digest)
    return Uids(derived_uid(f"fedimg {kind}", *of, inputs), derived_uid(f"fedimg {kind} series", *of))


def headers(originals: Sequence[Original]) -> list[Dataset]:
    """Copies in which every attribute of patient and study is there, if need be empty (type 2, PS3.5 7.4.3)."""
    return [_whole(one.header) for one in originals]


def _whole(header: Dataset) -> Dataset:
    copied = Dataset(header)
    for keyword in IDENTITY:
        if keyword not in copied:
            setattr(copied, keyword, "")
    copied.file_meta = header.file_meta
    return copied


def stamped(dataset: Dataset, maker: Maker, description: str) -> None:
    """When it was made, what the series is, and in what characters: a library would take the clock's word."""
    for keyword in ("ContentDate", "SeriesDate", "InstanceCreationDate"):
        setattr(dataset, keyword, maker.date)
    for keyword in ("ContentTime", "SeriesTime", "InstanceCreationTime"):
        setattr(dataset, keyword, maker.time)
    if equipment := dataset.get("ContributingEquipmentSequence"):
        equipment[
            -1
        ].ContributionDateTime = f"{maker.date}{maker.time}"  # the library itself; the others' are their own
    dataset.SeriesDescription = description[:64]
    dataset.SpecificCharacterSet = "ISO_IR 192"


def identity(first: Original) -> dict[str, Any]:
    """Patient and study, as plain values."""
    return {keyword: first.header.get(keyword, "") or "" for keyword in IDENTITY}
