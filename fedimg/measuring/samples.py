"""What `fedimg measure` goes through: the released files of a home, or a folder of images with masks.

Everything here is patient data and for the site's own eyes. One sample is opened when its turn comes; what is wrong
with it is its own reason and stops no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from fedimg.dicom import pixels
from fedimg.dicom.acquisition import acquisition_parameters
from fedimg.dicom.image_file import open_image
from fedimg.dicom.refusal import Quarantined
from fedimg.dicom.voxel_labels import voxel_labels
from fedimg.errors import DataError
from fedimg.home import SiteHome
from fedimg.imaging import loading
from fedimg.imaging.findings import FIRST_NUMBER
from fedimg.imaging.measurements import Case
from fedimg.imaging.measurements.registry import ACQUISITION, Mask, Value
from fedimg.intake import admission
from fedimg.intake.admission import standing
from fedimg.measuring.home import acquired, known_spacing_mm, opened
from fedimg.sources.paths import inside, regular_files
from fedimg.sources.tabular import read_table
from fedimg.values import DecodedImage, DeidentifiedRecord, Drawn, Quarantine

TABLE = "labels.csv"
_IMAGES = (".dcm", ".nii", ".nii.gz", ".png", ".jpg", ".jpeg", ".tif", ".tiff", "")
_NIFTI = ".nii.gz"


@dataclass(frozen=True, slots=True)
class Sample:
    """Attributes:
    name: where to find it. patient: a home's pseudonym, "" in a folder. open: raises DataError, Quarantined.
    """

    name: str
    open: Callable[[], Case]
    patient: str = ""


def of_home(home: SiteHome, regions: Sequence[str], names: frozenset[str], *, series: bool) -> list[Sample]:
    """Released files with a valid receipt, each one or each series as a volume; what has none is a sample that says so.

    Raises ReceiptError where the receipts as a whole do not hold.
    """
    found = admission(home)
    profile = next((str(one.profile.get("name")) for one in standing(home).values()), "train")

    def case(group: Sequence[DeidentifiedRecord]) -> Case:
        image = opened(home, group)
        return _case(image, group[0].kind, regions, acquired(home, group[0], profile, names))

    groups = loading.grouped(found.records, "series" if series else "image")
    samples = [
        Sample(
            str(group[0].path.parent if len(group) > 1 else group[0].path),
            partial(case, group),
            group[0].patient_key,
        )
        for group in groups
    ]
    return [*samples, *(Sample("(no valid receipt)", partial(_raise, error)) for error in found.refused)]


def of_folder(
    folder: Path, masks: Path | None, regions: Sequence[str], names: frozenset[str]
) -> list[Sample]:
    """Of labels.csv (path, mask) where the folder has one, else every image file; masks then lie in a folder of their
    own, under the image's name with any image's ending.

    Raises DataError: no folder, no file, a table that cannot be read.
    """
    if not folder.is_dir() or (masks is not None and not masks.is_dir()):
        raise DataError("a folder of images, and one of masks", "another place", "name existing folders")
    if masks is None and (folder / TABLE).is_file():
        rows = read_table(folder / TABLE, ("path", "mask"), ("path",)).rows
        return [
            Sample(row["path"], partial(_listed, folder, row, number, regions, names))
            for number, row in enumerate(rows, start=2)
        ]
    drawn = {} if masks is None else dict(_by_stem(masks.resolve()))
    apart = masks.resolve() if masks is not None else None
    root = folder.resolve()
    files = [path for path in regular_files(root) if apart is None or apart not in path.parents]
    if not files:
        raise DataError("image files in the folder", "none", "name another folder")
    return [
        Sample(
            str(path.relative_to(root)),
            partial(_opened, path, drawn.get(_stem(path.relative_to(root)), ()), regions, names),
        )
        for path in files
    ]


def _listed(
    folder: Path, row: Mapping[str, str], number: int, regions: Sequence[str], names: frozenset[str]
) -> Case:
    parts = [part.strip() for part in row.get("mask", "").split(";") if part.strip()]
    masks = tuple(inside(folder, part, number) for part in parts)
    return _opened(inside(folder, row["path"], number), masks, regions, names)


def _opened(path: Path, masks: tuple[Path, ...], regions: Sequence[str], names: frozenset[str]) -> Case:
    file = open_image(path)
    labels = None
    if masks:
        labels = voxel_labels(path, Drawn(masks=masks, classes=1 + len(regions)))
    if file.kind == "image":
        image = replace(file.decode(), labels_DHW=labels)
        if labels is not None and labels.shape != image.pixels_DHW.shape:
            raise Quarantined(Quarantine.WRONG_SHAPE, "a mask of another size than its image")
        return _case(image, file.kind, regions, {})
    taken: Mapping[str, Value] = {}
    if file.kind == "dicom" and not names.isdisjoint(ACQUISITION):
        try:
            taken = acquisition_parameters(path)
        except DataError:  # no released file: what its header says is not asked
            taken = {}
    return _case(pixels.decode(path, labels=labels), file.kind, regions, taken)


def _case(image: DecodedImage, kind: str, regions: Sequence[str], taken: Mapping[str, Value]) -> Case:
    """Class k of what is drawn is `regions[k − 1]`; of one region whatever is drawn. Boxes are of a lesion."""
    masks: dict[str, Mask] = {}
    if (labels := image.labels_DHW) is not None:
        boxed = labels >= FIRST_NUMBER
        for number, region in enumerate(regions, start=1):
            inside_it = labels > 0 if len(regions) == 1 else labels == number
            masks[region] = np.asarray(inside_it | boxed if region == "lesion" else inside_it, np.bool_)
    return Case(image.pixels_DHW, known_spacing_mm(image, kind), image.units, masks, taken)


def _by_stem(folder: Path) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """Masks by name without ending; several of one name are laid over each other."""
    found: dict[str, list[Path]] = {}
    for path in regular_files(folder):
        found.setdefault(_stem(path.relative_to(folder)), []).append(path)
    yield from ((stem, tuple(paths)) for stem, paths in found.items())


def _stem(path: Path) -> str:
    name = path.name
    ending = _NIFTI if name.lower().endswith(_NIFTI) else path.suffix
    return str(path.with_name(name[: -len(ending)] if ending and len(ending) < len(name) else name))


def _raise(error: DataError) -> Case:
    raise error
