"""An original file, opened to be looked at: its pixels as training's are decoded, and what a result has to say of it.

Nothing here is de-identified, and nothing of it leaves the hospital by this way: the header is for the objects that go
back beside the images.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from fedimg.dicom.geometry import geometry
from fedimg.dicom.pixels import decode_dataset, finite
from fedimg.dicom.reader import DEFAULT_LIMITS, PIXEL_KEYWORDS, ReadLimits, parse, read_capped
from fedimg.dicom.refusal import Quarantined, contained
from fedimg.values import DecodedImage, Quarantine

_LETTERS = frozenset("LRAPHF")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


@dataclass(frozen=True, slots=True)
class Original:
    """One file.

    Attributes:
        path, sha256: where it lies, and of its bytes. image: its pixels, as `pixels.decode` gives them.
        frames: of each depth of the image, the number of the stored frame, from 1.
        placed, measured: whether the file says where its pixels lie, and how far apart they are.
        directions: the patient's directions along rows and along columns, PatientOrientation's first letters; "" unknown.
        header: its data set without pixels, for what is written beside it.
    """

    path: Path
    sha256: str
    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class: str
    number: int | None
    frames: tuple[int, ...]
    placed: bool
    measured: bool
    directions: tuple[str, str]
    image: DecodedImage = field(repr=False)
    header: Dataset = field(repr=False)


def open_original(path: Path, limits: ReadLimits = DEFAULT_LIMITS) -> Original:
    """Raises Quarantined only, as `pixels.decode` does, and UNREADABLE for a file without its UIDs."""
    try:
        data = read_capped(path, limits.file_bytes)
    except OSError as error:
        raise Quarantined(Quarantine.UNREADABLE, f"the system could not read it ({error.strerror})") from None
    dataset = parse(data, limits)
    image = finite(decode_dataset(dataset))
    try:
        with contained():
            uids = [str(dataset.get(key) or "") for key in _UIDS]
            place = geometry(dataset, len(image.pixels_DHW))
            number, directions = _number(dataset), _directions(dataset)
            for keyword in PIXEL_KEYWORDS:
                if keyword in dataset:
                    del dataset[keyword]
            dataset.decode()
    except Exception as error:  # noqa: BLE001 - attributes of a bad file fail in ways of their own, and are quoted then
        found = f"a header that does not parse ({type(error).__name__})"
        raise Quarantined(Quarantine.UNREADABLE, found) from None
    if not all(uids):
        raise Quarantined(Quarantine.UNREADABLE, "a file without one of its UIDs")
    study, series, sop, sop_class = uids
    return Original(
        path,
        hashlib.sha256(data).hexdigest(),
        study,
        series,
        sop,
        sop_class,
        number,
        tuple(int(frame) + 1 for frame in place.order),
        place.placed,
        place.measured,
        directions,
        image,
        dataset,
    )


def _number(dataset: Dataset) -> int | None:
    try:
        return int(dataset.get("InstanceNumber"))
    except (TypeError, ValueError):
        return None


def _directions(dataset: Dataset) -> tuple[str, str]:
    """PS3.3 C.7.6.1.1.1: the direction of the rows (to the right), then of the columns (down)."""
    value = dataset.get("PatientOrientation")
    if value is None or isinstance(value, str) or len(value) != 2:
        return "", ""
    letters = [str(one)[:1] for one in value]
    return (letters[0], letters[1]) if set(letters) <= _LETTERS else ("", "")
