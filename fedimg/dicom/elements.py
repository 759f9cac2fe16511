"""Building data sets from keywords and values, and writing them as DICOM files (PS3.5, PS3.10)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any

from pydicom import config as pydicom_config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import UID

from fedimg.errors import DataError

IMPLEMENTATION_CLASS_UID = UID("2.25.213377417362953172583205170349216830469")
_IMPLEMENTATION_VERSION = "FEDIMG"


def derived_uid(*parts: str) -> str:
    """A UID of its parts alone (PS3.5 B.2, "2.25." + a UUIDv8 of SHA-256): equal in every run and process.

    No pseudonym: whoever knows the parts can recompute it. For files in front of the identity boundary.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    number = int.from_bytes(digest.digest()[:16], "big")
    number = number & ~(0xF << 76) | 8 << 76
    number = number & ~(0x3 << 62) | 2 << 62
    return f"2.25.{number}"


@lru_cache(maxsize=4096)
def _tag_and_vr(keyword: str) -> tuple[int, str]:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise DataError("a keyword of the DICOM dictionary", keyword, "see PS3.6")
    return tag, dictionary_VR(tag)


def fill(dataset: Dataset, attributes: Mapping[str, Any]) -> Dataset:
    """Set DICOM keywords; a list of mappings becomes a sequence. Values are written as given, unvalidated."""
    for keyword, given in attributes.items():
        tag, vr = _tag_and_vr(keyword)
        value = ItemSequence([fill(Dataset(), item) for item in given]) if vr == "SQ" else given
        if vr in ("US or SS", "US or OW", "OB or OW"):
            vr = "OW" if isinstance(value, bytes) else "US"
        # Generated values are right by construction, and planted ones wrong on purpose: no validation.
        dataset.add(DataElement(tag, vr, value, validation_mode=pydicom_config.IGNORE))
    return dataset


def file_meta(sop_class: str, instance: str, syntax: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0  # corrected while writing
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(instance)
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = _IMPLEMENTATION_VERSION
    return meta


def encoded(dataset: Dataset) -> bytes:
    """A data set with `file_meta` as the bytes of a DICOM file; its own `preamble`, if set, else zeros."""
    buffer = BytesIO()
    if not getattr(dataset, "preamble", None):
        dataset.preamble = b"\0" * 128
    dcmwrite(buffer, dataset, enforce_file_format=False)
    return buffer.getvalue()
