"""What is known of an instance that arrives, from its header alone: nothing is decoded, and nothing is believed.

UIDs become keys of tables and of file names' digests, texts are shown to people: so UIDs are those of PS3.5 9.1 or the
file is refused, and texts are decoded, cut and rid of control characters. A file that two readers could understand in
two ways (lengths that do not add up, a file meta that names another object) is refused as well.
"""

from __future__ import annotations

import hashlib
import re
import threading
import unicodedata
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydicom.charset import default_encoding
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from fedimg.dicom.attributes import encodings_of, text_value, value_of
from fedimg.dicom.framing import after_meta, check_framing
from fedimg.dicom.geometry import group, numbers
from fedimg.dicom.pixels import DECODED
from fedimg.dicom.reader import PIXEL_KEYWORDS, ReadLimits, parse, pixel_shape, read_capped, transfer_syntax
from fedimg.dicom.refusal import Quarantined, contained
from fedimg.values import Quarantine

TRANSFER_SYNTAXES: Final = tuple(str(uid) for uid in DECODED)
"""UIDs of those whose pixels fedimg decodes, uncompressed ones first."""
_UID: Final = re.compile(rb"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*")
_LONGEST_UID: Final = 64
_CODE_STRING: Final = re.compile(r"[A-Z0-9_ ]{1,16}")
_DATE: Final = re.compile(r"[0-9]{8}")
_WHOLE_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,10}")
_URGENT: Final = frozenset({"STAT", "HIGH"})
_LONGEST_TEXT, _LONGEST_NAME, _LONGEST_RAW = (
    64,
    194,
    4096,
)  # LO; three groups of PN (PS3.5 6.2); bytes looked at
_OFF_UNIT: Final = 0.05  # of direction cosines: what rounding leaves

_one_at_a_time = threading.Lock()
"""`contained` keeps warnings in by changing filters of the process: two threads would undo each other's."""


@dataclass(frozen=True, slots=True)
class ArrivalLimits:
    """What is refused before memory is spent on it.

    Attributes:
        file_bytes: size of a file, and of a deflated one once inflated.
        pixel_samples: rows × columns × frames × samples per pixel.
    """

    file_bytes: int = 1 << 30
    pixel_samples: int = 1 << 29


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known of an instance from its header alone. UIDs were checked (PS3.5 9.1), texts are bounded.

    Attributes:
        rows, columns, frames: 0 where the object has no pixels. number: InstanceNumber.
        position_mm: of a single frame along the slice normal, where its plane is known.
        patient_id, patient_name, accession, study_date, description: patient data, for the site's own worklist.
        stat: its order says STAT or HIGH. size: bytes. sha256: hex, of the file's bytes.
    """

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class: str
    transfer_syntax: str
    modality: str
    body_part: str
    rows: int
    columns: int
    frames: int
    number: int | None
    position_mm: float | None
    spacing_between_mm: float | None
    patient_id: str
    patient_name: str
    accession: str
    study_date: str
    description: str
    stat: bool
    size: int
    sha256: str


DEFAULT_LIMITS: Final = ArrivalLimits()


def examine(path: Path, limits: ArrivalLimits = DEFAULT_LIMITS) -> Arrival:
    """What a file says of itself; it is read and hashed once, and no pixel is decoded.

    Raises Quarantined, and no other exception, whatever the file holds: UNREADABLE, NOT_AN_IMAGE (no DICOM at all),
    OBJECT_TYPE (a DICOMDIR; a file meta of another object), UNSAFE_STRUCTURE (sizes, lengths, UIDs).
    """
    try:
        data = read_capped(path, limits.file_bytes)
    except OSError as error:
        raise Quarantined(Quarantine.UNREADABLE, f"the system could not read it ({error.strerror})") from None
    return examine_bytes(data, limits)


def examine_bytes(data: bytes, limits: ArrivalLimits = DEFAULT_LIMITS) -> Arrival:
    """`examine` for bytes in memory."""
    if len(data) > limits.file_bytes:
        raise Quarantined(
            Quarantine.UNSAFE_STRUCTURE, f"a file of {len(data)} bytes, limit {limits.file_bytes}"
        )
    digest = hashlib.sha256(data).hexdigest()
    with _one_at_a_time:
        dataset = parse(data, ReadLimits(limits.file_bytes, limits.pixel_samples))
        try:
            with contained():
                _check_framing(data, dataset, limits)
                return _facts(dataset, len(data), digest)
        except Quarantined:
            raise
        # Elements are converted when they are read, and raise whatever the converter of their VR meets.
        except Exception as error:  # noqa: BLE001
            found = f"a header that cannot be read ({type(error).__name__})"
            raise Quarantined(Quarantine.UNREADABLE, found) from None


def is_uid(value: str) -> bool:
    """Whether a text is a UID of PS3.5 9.1."""
    return len(value) <= _LONGEST_UID and _UID.fullmatch(value.encode("utf-8", "replace")) is not None


def _check_framing(data: bytes, dataset: Dataset, limits: ArrivalLimits) -> None:
    start = after_meta(data)
    if transfer_syntax(dataset) == DeflatedExplicitVRLittleEndian:
        # The reader has inflated it within this limit.
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[start:], limits.file_bytes + 1)
        start = 0
    implicit, little = dataset.original_encoding
    check_framing(data, start, implicit=bool(implicit), little=little is not False)


def _facts(dataset: Dataset, size: int, digest: str) -> Arrival:
    syntax = str(transfer_syntax(dataset))
    if not is_uid(syntax):
        raise Quarantined(Quarantine.UNSAFE_STRUCTURE, "a TransferSyntaxUID that is no UID")
    sop_class, sop_uid = _uid(dataset, 0x00080016, "SOPClassUID"), _uid(dataset, 0x00080018, "SOPInstanceUID")
    _check_meta(dataset, sop_class, sop_uid)
    pixels = any(keyword in dataset for keyword in PIXEL_KEYWORDS)
    shape = pixel_shape(dataset) if pixels else None
    frames = shape.frames if shape is not None else 0
    texts = _Texts(dataset)
    return Arrival(
        study_uid=_uid(dataset, 0x0020000D, "StudyInstanceUID"),
        series_uid=_uid(dataset, 0x0020000E, "SeriesInstanceUID"),
        sop_uid=sop_uid,
        sop_class=sop_class,
        transfer_syntax=syntax,
        modality=texts.code(0x00080060),
        body_part=texts.code(0x00180015),
        rows=shape.rows if shape is not None else 0,
        columns=shape.columns if shape is not None else 0,
        frames=frames,
        number=texts.number(0x00200013),
        position_mm=_position_mm(dataset) if frames == 1 else None,
        spacing_between_mm=_spacing_mm(dataset),
        patient_id=texts.text(0x00100020),
        patient_name=texts.text(0x00100010, _LONGEST_NAME),
        accession=texts.text(0x00080050),
        study_date=texts.date(0x00080020),
        description=texts.text(0x00081030),
        stat=_is_urgent(dataset),
        size=size,
        sha256=digest,
    )


def _uid(dataset: Dataset, tag: int, keyword: str) -> str:
    """Padding off: a NUL by the standard, a blank by some devices."""
    raw = value_of(dataset, tag).rstrip(b"\0 ")
    if not raw:
        raise Quarantined(Quarantine.UNREADABLE, f"an object without {keyword}")
    if len(raw) > _LONGEST_UID or _UID.fullmatch(raw) is None:
        raise Quarantined(Quarantine.UNSAFE_STRUCTURE, f"{keyword} that is no UID of PS3.5 9.1")
    return raw.decode("ascii")


def _check_meta(dataset: Dataset, sop_class: str, sop_uid: str) -> None:
    """Whoever reads only the file meta must see the same object."""
    meta: Any = getattr(dataset, "file_meta", None)
    for tag, own, keyword in (
        (0x00020002, sop_class, "SOPClassUID"),
        (0x00020003, sop_uid, "SOPInstanceUID"),
    ):
        said = value_of(meta, tag).rstrip(b"\0 ") if meta is not None else b""
        if said and said != own.encode():
            raise Quarantined(Quarantine.OBJECT_TYPE, f"a file meta with another {keyword} than the data set")


class _Texts:
    """Texts of a data set as people may see them."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset, self._encodings = dataset, encodings_of(dataset, (default_encoding,))

    def text(self, tag: int, longest: int = _LONGEST_TEXT) -> str:
        """In its character set, without control, format and private characters, at most `longest` of them."""
        raw = value_of(self._dataset, tag)[:_LONGEST_RAW]
        decoded = text_value(raw, self._encodings)[: 4 * longest]
        shown = (c for c in decoded if unicodedata.category(c)[0] != "C" and c not in "\u2028\u2029")
        return "".join(shown).strip()[:longest]

    def code(self, tag: int) -> str:
        """A code string (CS); empty for another form. Of several values the first."""
        value = self.text(tag).partition("\\")[0].strip().upper()
        return value if _CODE_STRING.fullmatch(value) else ""

    def date(self, tag: int) -> str:
        value = self.text(tag)
        return value if _DATE.fullmatch(value) else ""

    def number(self, tag: int) -> int | None:
        value = self.text(tag)
        return int(value) if _WHOLE_NUMBER.fullmatch(value) else None


def _is_urgent(dataset: Dataset) -> bool:
    """RequestedProcedurePriority (0040,1003), also of the request attributes; StudyPriorityID (0032,000C)."""
    texts = [_Texts(dataset)]
    requests = dataset.get("RequestAttributesSequence") or ()
    texts += [_Texts(item) for item in list(requests)[:4]]
    return any(one.code(tag) in _URGENT for one in texts for tag in (0x00401003, 0x0032000C))


def _position_mm(dataset: Dataset) -> float | None:
    """ImagePositionPatient along the normal of ImageOrientationPatient (PS3.3 C.7.6.2.1.1)."""
    plane = group(dataset, "PlaneOrientationSequence", 0) or dataset
    place = group(dataset, "PlanePositionSequence", 0) or dataset
    cosines, position = (
        numbers(plane, "ImageOrientationPatient", 6),
        numbers(place, "ImagePositionPatient", 3),
    )
    if cosines is None or position is None:
        return None
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    off = (abs(np.linalg.norm(row) - 1), abs(np.linalg.norm(column) - 1), abs(row @ column))
    if max(off) > _OFF_UNIT:
        return None
    normal = np.cross(row, column)
    along = float(np.array(position) @ normal / np.linalg.norm(normal))
    return along if np.isfinite(along) else None


def _spacing_mm(dataset: Dataset) -> float | None:
    """SpacingBetweenSlices, its sign off, where it is between a micrometre and a metre."""
    for source in (group(dataset, "PixelMeasuresSequence", 0), dataset):
        value = numbers(source, "SpacingBetweenSlices", 1) if source is not None else None
        if value is not None and 1e-3 <= abs(value[0]) <= 1e3:
            return abs(value[0])
    return None
