"""The images of a folder, of a source's manifests, or of a site's home: one `Sample` each, opened when its turn comes.

Everything here may be patient data (names are paths); it is for the site's own eyes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from fedimg import declared_public, intake
from fedimg.dicom.image_file import ImageFile, open_image
from fedimg.errors import DataError
from fedimg.home import SiteHome
from fedimg.imaging import patients
from fedimg.sources import PUBLIC, SourceManifest
from fedimg.values import Area, DecodedImage, SiteDataset, SourceItem

Part = Literal["train", "validation", "public"]
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class Opened:
    """An image, and what only its own header says: "" where it says nothing."""

    image: DecodedImage
    photometric: str = ""
    patient: str = ""
    series: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image before it is opened.

    Attributes:
        name: where to find it. site, part: where it is used; sites are told apart in a simulation only.
        patient, series: None: ask the header. label: class index. has_mask: a segmentation belongs to it.
        open: raises Quarantined.
    """

    name: str
    open: Callable[[], Opened]
    site: str = ""
    part: Part = "train"
    patient: str | None = None
    series: str | None = None
    label: int | None = None
    has_mask: bool = False


@dataclass(frozen=True)
class Samples:
    """A whole source.

    Attributes:
        title: in words of this program or of the person who asked.
        unit: what a patient's place is taken by where nothing is known of patients.
        labelled: whether labels are to be expected. held_back: what the source itself refuses, by reason.
    """

    title: str
    samples: tuple[Sample, ...]
    classes: tuple[str, ...] = ()
    unit: Literal["patient", "image"] = "patient"
    labelled: bool = True
    held_back: Mapping[str, int] | None = None


def of_folder(folder: Path) -> Samples:
    """Every file below a folder; patients by their headers, no labels. Raises DataError where there is none."""
    if not folder.is_dir():
        raise DataError("a folder of image files", "none there", "name the folder, or data=… and its keys")
    items = intake.FolderInputs(folder)
    samples = tuple(Sample(str(item.path.relative_to(folder)), partial(_opened, item.path)) for item in items)
    return Samples("a folder", samples, labelled=False)


def of_manifests(manifests: Mapping[str, SourceManifest]) -> Samples:
    """What a run would be given: every site's share, and the public set."""
    samples: list[Sample] = []
    held: dict[str, int] = {}
    for site, manifest in manifests.items():
        place, part = ("", "public") if site == PUBLIC else (site, "train")
        samples += [_of_item(item, place, part) for item in manifest.items]  # type: ignore[arg-type]
        if manifest.arrays is not None:
            arrays = manifest.arrays
            rows = zip(arrays.images, arrays.labels, arrays.patient_keys, strict=True)
            samples += _of_rows(rows, place, part)  # type: ignore[arg-type]
        for reason, items in manifest.held_back.items():
            held[str(reason)] = held.get(str(reason), 0) + len(items)
    first = next(iter(manifests.values()))
    title = f"{len(manifests)} shares of one source" if len(manifests) > 1 else "one source"
    return Samples(title, tuple(samples), first.classes, first.unit, held_back=held)


def of_home(home: SiteHome, validation_fraction: float, profile: str | None = None) -> Samples:
    """What a site would train on: released files with a valid receipt. Raises ReceiptError."""
    records = intake.admission(home, profile).records
    keys = sorted({record.patient_key for record in records})
    held = _validation(home, keys, validation_fraction)
    samples = [
        Sample(
            str(record.path),
            partial(_opened, home.released / record.path, record.masked),
            part="public"
            if record.split == "public"
            else "validation"
            if record.patient_key in held
            else "train",
            patient=record.patient_key,
            series=record.series_key,
            label=record.label,
        )
        for record in records
    ]
    public = declared_public.load_arrays(home.root, home.signing_key.public_bytes)
    if public is not None:
        held = _validation(home, sorted(set(public.units)), validation_fraction)
        for row in zip(public.images, public.labels, public.units, strict=True):
            samples += _of_rows([row], "", "validation" if row[2] in held else "train")
    return Samples("a site's home", tuple(samples), unit="image" if public is not None else "patient")


def _validation(home: SiteHome, keys: list[str], fraction: float) -> set[str]:
    """Who is held out of this home's trainings, by the very function that holds them out."""
    count = len(keys)
    stand_in = SiteDataset(
        torch.zeros(count, 1), torch.zeros(count, dtype=torch.int64), tuple(keys), np.arange(count + 1)
    )
    key = home.site_key.derive("validation-split", project="fedimg")
    return set(patients.split(stand_in, fraction, key)[1].patient_keys)


def _of_item(item: SourceItem, site: str, part: Part) -> Sample:
    return Sample(
        str(item.path),
        partial(_opened, item.path),
        site,
        part,
        item.patient_id,
        label=item.label,
        has_mask=item.drawn is not None,
    )


Row = tuple[npt.NDArray[np.uint8] | npt.NDArray[np.float32], np.int64, str]


def _of_rows(rows: Iterable[Row], site: str, part: Part) -> Iterator[Sample]:
    for image, label, unit in rows:
        yield Sample(unit, partial(_of_array, image), site, part, unit, unit, int(label))


def _of_array(image: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> Opened:
    values = image.astype(np.float32)
    grey = np.tensordot(_LUMINANCE, values, axes=(0, 0)) if len(values) == 3 else values[0]
    pixels = np.asarray(grey if grey.ndim == 3 else grey[None], np.float32)
    photometric = "RGB" if len(values) == 3 else ""
    return Opened(DecodedImage(pixels, np.eye(4), (1.0, 1.0, 1.0), "OT", "arbitrary"), photometric)


def _opened(path: Path, masked: tuple[Area, ...] = ()) -> Opened:
    file: ImageFile = open_image(path)
    image = file.decode(masked)
    header = file.header
    if header is None:
        return Opened(image)
    patient, issuer = header.text("PatientID"), header.text("IssuerOfPatientID")
    return Opened(
        image,
        header.text("PhotometricInterpretation"),
        f"{issuer}\0{patient}" if patient else "",
        header.text("SeriesInstanceUID"),
    )
