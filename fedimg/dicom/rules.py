"""What the rules of a profile make of one value: a row, a VR and raw bytes in, a released element out.

Nothing here knows a data set, remembers anything or notes anything. None means: refused.
"""

from __future__ import annotations

from collections.abc import Callable

from fedimg.dicom import attributes, cleaning, dates, spelled
from fedimg.dicom.e1_1 import dummy
from fedimg.dicom.encoder import Element, text
from fedimg.dicom.lookup import TABLES
from fedimg.dicom.profile import Profile, Row, registered_uids
from fedimg.dicom.pseudonyms import Pseudonyms

CODE_VALUE, CODING_SCHEME, CODE_MEANING = 0x00080100, 0x00080102, 0x00080104
DUMMY_CODE = (
    text(CODE_VALUE, "SH", "REMOVED", closed=True),
    text(CODING_SCHEME, "SH", "99FEDIMG", closed=True),
    text(CODE_MEANING, "LO", "Removed", closed=True),
)


class Rules:
    """Args: weeks: by which the subject's dates move into the past."""

    def __init__(self, profile: Profile, pseudonyms: Pseudonyms, weeks: int) -> None:
        self._profile, self._pseudonyms, self._weeks = profile, pseudonyms, weeks
        self._by_kind: dict[str, Callable[[Row, str, bytes], Element | None]] = {
            "number": _number,
            "keyed": self._keyed,
            "registered": _registered,
            "words": _words,
            "device": _device,
            "code_part": _code_part,
            "age_band": _age,
            "age_cap": _age,
            "date": self._date,
            "datetime": self._date,
            "time": _time,
        }

    def released(self, row: Row, vr: str, raw: bytes) -> Element | None:
        """The element that may stay. `raw` is little-endian, `vr` one of the row's choices."""
        return self._by_kind[row.kind](row, vr, raw)

    def _date(self, row: Row, vr: str, raw: bytes) -> Element | None:
        value = raw.rstrip(b" \0").decode("ascii", "replace")
        try:
            if row.kind == "date":
                moved = dates.shift_date(value, self._weeks)
            else:
                moved = dates.shift_datetime(value, self._weeks, keep_time=self._profile.keep_times)
        except ValueError:
            return None
        return text(row.tag, vr, moved, closed=True)

    def _keyed(self, row: Row, _: str, raw: bytes) -> Element | None:
        known = registered_uids()
        keyed = [uid if uid in known else self._pseudonyms.uid(uid) for uid in _uids(raw) if uid]
        return text(row.tag, "UI", "\\".join(keyed)) if keyed else None


def _number(row: Row, vr: str, raw: bytes) -> Element | None:
    number = attributes.checked_number(raw, vr, row.maximum)
    if number is None:
        return None
    # Of tables the whole data set is judged, when their descriptors are known.
    if vr not in ("IS", "DS") and row.tag not in TABLES and spelled.reads_as_text(number, vr):
        return None
    return Element(row.tag, vr, number)


def _registered(row: Row, _: str, raw: bytes) -> Element | None:
    known = [uid for uid in _uids(raw) if uid in registered_uids()]
    return text(row.tag, "UI", "\\".join(known), closed=True) if known else None


def _words(row: Row, vr: str, raw: bytes) -> Element | None:
    """Of several values those of the vocabulary; the caller notes what was taken away."""
    words = [part.strip() for part in raw.strip(b" \0").decode("ascii", "replace").upper().split("\\")]
    if not any(words):
        return Element(row.tag, vr, b"")
    known = row.allowed or frozenset()
    if row.rule == "image_type":
        allowed = _in_their_places(words, known)
    else:
        allowed = [word for word in words if word in known][: row.maximum]
    return text(row.tag, vr, "\\".join(allowed), closed=True) if allowed else None


def _in_their_places(words: list[str], known: frozenset[str]) -> list[str]:
    """ImageType and FrameType: the first four values have meanings by place (PS3.3 C.7.6.1.1.2), so that a
    word in the midst that goes leaves OTHER behind.
    """
    if not set(words[:2]) <= known:
        return []
    placed = [word if not word or word in known else "OTHER" for word in words[:4]]
    return placed + [word for word in words[4:] if word in known]


def _device(row: Row, vr: str, raw: bytes) -> Element | None:
    parts = [part.strip() for part in raw.strip(b" \0").decode("ascii", "replace").split("\\")]
    return text(row.tag, vr, "\\".join(parts)) if all(map(cleaning.is_device, parts)) else None


def _code_part(row: Row, vr: str, raw: bytes) -> Element | None:
    return Element(row.tag, vr, raw, closed=True) if raw.isascii() else None  # judged with its whole item


def _age(row: Row, vr: str, raw: bytes) -> Element | None:
    value = raw.strip(b" \0").decode("ascii", "replace")
    try:
        return text(row.tag, vr, dates.age_band(value) if row.kind == "age_band" else dates.cap_age(value))
    except ValueError:
        return None


def _time(row: Row, vr: str, raw: bytes) -> Element | None:
    value = raw.strip(b" \0").decode("ascii", "replace")
    return text(row.tag, vr, value, closed=True) if cleaning.is_time(value) else None


def _uids(raw: bytes) -> list[str]:
    return [part.strip() for part in raw.rstrip(b" \0").decode("ascii", "surrogateescape").split("\\")]


def substitute(row: Row) -> Element | None:
    """What the row leaves in the place of a value: an empty one, a dummy, or nothing."""
    action = row.action if row.action in ("D", "Z") else row.fallback
    if row.kind == "constant" or action == "X" or (action == "D" and row.kind == "items"):
        return None
    if row.vr == "SQ":
        return Element(row.tag, "SQ", [] if action == "Z" else [list(DUMMY_CODE)])
    vr = row.choices[0]
    if action == "Z":
        return Element(row.tag, vr, b"")
    value = dummy(vr)
    return None if value is None else Element(row.tag, vr, value, closed=True)
