"""Answers to searches (QIDO-RS, PS3.18 10.6) as rows of which nothing is believed: UIDs are UIDs, or the row is none.

A UID goes into the address of the next question: what is none (PS3.5 9.1) gets no further than here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from fedimg.dicom.arrival import is_uid

_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_STUDY_DATE, _MODALITY = "00080020", "00080060"
_SERIES_OF_STUDY, _IMAGES_OF_STUDY, _IMAGES_OF_SERIES = "00201206", "00201208", "00201209"
_MOST_BRACKETS: Final = 1 << 19
"""An answer of brackets alone takes thirty times its size when it is read; 10,000 rows of an archive have 400,000."""
_CODE: Final = re.compile(r"[A-Z0-9_ ]{1,16}")
_DATE: Final = re.compile(r"[0-9]{8}")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")


class Level(Enum):
    """Value: (its UID's tag, tags of those that it is in, tag of how many it holds, tag of how many images)."""

    STUDY = (_STUDY, (), _SERIES_OF_STUDY, _IMAGES_OF_STUDY)
    SERIES = (_SERIES, (_STUDY,), _IMAGES_OF_SERIES, _IMAGES_OF_SERIES)
    INSTANCE = (_INSTANCE, (_STUDY, _SERIES), "", "")


@dataclass(frozen=True, slots=True)
class Row:
    """One study, series or instance.

    Attributes:
        uid: one of PS3.5 9.1. date: of the study, YYYYMMDD; modality: of the series; "" where it does not say.
        holds: series of the study, images of the series; images: of either; -1 where it does not say.
    """

    uid: str
    date: str = ""
    modality: str = ""
    holds: int = -1
    images: int = -1


@dataclass(frozen=True, slots=True)
class Page:
    """One answer. said: rows that it has. misnamed: of those, without a UID, or of another study or series."""

    rows: tuple[Row, ...]
    said: int
    misnamed: int


def page_of(body: bytes, level: Level, parents: tuple[str, ...] = ()) -> Page:
    """Rows of the DICOM JSON model (PS3.18 annex F). Raises ValueError for what is no list of data sets.

    Args:
        parents: UIDs of study and series that were asked about; a row that names another one is misnamed.
    """
    if not body.strip():
        return Page((), 0, 0)
    if body.count(b"[") + body.count(b"{") > _MOST_BRACKETS:
        raise ValueError
    try:
        found = json.loads(body)
    except RecursionError:
        raise ValueError from None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError
    rows = [row for one in found if (row := _row(one, level, parents)) is not None]
    return Page(tuple(rows), len(found), len(found) - len(rows))


def _row(dataset: Mapping[str, Any], level: Level, parents: tuple[str, ...]) -> Row | None:
    own, above, holds, images = level.value
    uid = _text(dataset, own)
    strange = any(_text(dataset, tag) not in ("", asked) for tag, asked in zip(above, parents, strict=True))
    if strange or not is_uid(uid):
        return None
    date, modality = _text(dataset, _STUDY_DATE), _text(dataset, _MODALITY)
    return Row(
        uid,
        date if _DATE.fullmatch(date) else "",
        modality if _CODE.fullmatch(modality) else "",
        _number(dataset, holds),
        _number(dataset, images),
    )


def _text(dataset: Mapping[str, Any], tag: str) -> str:
    """The first value; "" where there is none. Numbers as text: an IS may be written as either (PS3.18 F.2.3.1)."""
    element = dataset.get(tag)
    value = element.get("Value") if isinstance(element, dict) else None
    first = value[0] if isinstance(value, list) and value else ""
    return str(first) if isinstance(first, str) or (type(first) is int and 0 <= first < 1 << 30) else ""


def _number(dataset: Mapping[str, Any], tag: str) -> int:
    text = _text(dataset, tag)
    return int(text) if _NUMBER.fullmatch(text) else -1
