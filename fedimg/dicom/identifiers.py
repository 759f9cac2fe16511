"""What one input says about its patient, and every spelling under which that could survive.

Collected while the walk removes values; searched for by `gate` in the bytes that were written.
Numbers, coded strings and words under four characters do not count, or half of all files would
be held back for words such as "HEAD"; parts of a person's name count from three letters on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice

from fedimg.dicom.profile import registered_uids

_TOKEN = re.compile(r"[^\W_]+")
_LONG_NUMBER = re.compile(r"[0-9]{6,}")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_SHORTEST_NAME_PART, _SHORTEST_WORD, _SHORTEST_NUMBER, _SHORTEST_UID = 3, 4, 6, 8
_LONGEST_PHRASE, _MOST_WORDS = 64, 400
_LONGEST_KEPT = 1024  # of the values whose needles are kept for the next files
_Spell = Callable[[str], Iterable[str]]


@dataclass(slots=True)
class Identifiers:
    """Removed values of one input, as text; `stored` keeps non-ASCII ones as the file spelled them."""

    names: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    uids: set[str] = field(default_factory=set)
    dates: set[str] = field(default_factory=set)
    stored: set[bytes] = field(default_factory=set)

    def add(self, vr: str, value: str, raw: bytes) -> None:
        """One removed element; `value` may hold several, separated by backslashes."""
        if vr == "PN":
            self.names.update(value.split("\\"))
        elif vr == "UI":
            self.uids.update(part.strip(" \0") for part in value.split("\\"))
        elif vr in ("DA", "DT"):
            self.dates.update(part.strip(" \0") for part in value.split("\\"))
        else:
            self.texts.update(value.split("\\") if vr in ("LO", "SH", "AE") else (value,))
        if not raw.isascii():
            self.stored.update(part for part in re.split(rb"[\\^=\s]+", raw) if len(part) >= _SHORTEST_WORD)

    def needles(self, encodings: Iterable[str] = ()) -> frozenset[bytes]:
        """Every spelling as lower-case bytes: UTF-8, Latin-1, UTF-16LE and `encodings` (the file's own)."""
        codecs = tuple(encodings)
        values = [(spell, value) for spell, found in self._spelled() for value in found]
        return frozenset(raw.lower() for raw in self.stored).union(
            *(
                (_needles_of if len(value) <= _LONGEST_KEPT else _needles_of.__wrapped__)(
                    spell, value, codecs
                )
                for spell, value in values
            )
        )

    def _spelled(self) -> Iterator[tuple[_Spell, set[str]]]:
        yield _name_spellings, self.names
        yield _text_spellings, self.texts
        yield _date_spellings, self.dates
        yield _uid_spellings, self.uids


# Files of one patient and device have most values in common.
@lru_cache(maxsize=4096)
def _needles_of(spell: _Spell, value: str, codecs: tuple[str, ...]) -> frozenset[bytes]:
    """The needles of one removed value."""
    needles = set()
    for text in spell(value):
        if text.isascii():
            lower = text.lower()
            needles.add(lower.encode())
            needles.add(lower.encode("utf-16-le"))
            continue
        for form in _unicode_forms(text):
            needles.add(form.encode("utf-16-le").lower())
            for codec in ("utf-8", "latin-1", *codecs):
                encoded = _encoded(form, codec)
                if encoded is not None:
                    needles.add(encoded.lower())
    return frozenset(needles)


def _encoded(text: str, codec: str) -> bytes | None:
    try:
        return text.encode(codec)
    except (UnicodeEncodeError, LookupError):
        return None  # a text that this character set cannot spell is not in the file in this character set


def _unicode_forms(text: str) -> set[str]:
    """Composed and decomposed, as given, lower and upper case: bytes.lower() folds ASCII only."""
    forms = {unicodedata.normalize(form, text) for form in ("NFC", "NFD")}
    return {cased for form in forms for cased in (form, form.lower(), form.upper())}


def _name_spellings(name: str) -> Iterator[str]:
    """A PN value: whole, its parts, and family and given name in either order (PS3.5 6.2.1)."""
    for group in name.split("="):
        parts = [part for part in re.split(r"[\^\s,]+", group.strip(" \0")) if part]
        yield from (part for part in parts if len(part) >= _shortest(part))
        for token in _TOKEN.findall(group):
            if len(token) >= _shortest(token):
                yield token
        if len(parts) > 1:
            for first, second in ((parts[0], parts[1]), (parts[1], parts[0])):
                for glue in ("^", " ", "_", ", ", ",", ""):
                    if len(first + glue + second) >= _SHORTEST_WORD:
                        yield first + glue + second


def _shortest(token: str) -> int:
    if token.isdigit():
        return _SHORTEST_NUMBER
    # An ideograph carries a word: two of them are a name.
    return 2 if not token.isascii() and ord(token[0]) > 0x2E7F else _SHORTEST_NAME_PART


def _text_spellings(value: str) -> Iterator[str]:
    """Free text, numbers of patients, places: the whole if short, and its words."""
    whole = value.strip(" \0\r\n\t")
    short_number = whole.isdigit() and len(whole) < _SHORTEST_NUMBER
    spelled = any(character.isalnum() for character in whole)
    if _SHORTEST_WORD <= len(whole) <= _LONGEST_PHRASE and spelled and not short_number:
        yield whole
    for match in islice(_TOKEN.finditer(whole), _MOST_WORDS):
        token = match[0]
        if len(token) >= (_SHORTEST_NUMBER if token.isdigit() else _SHORTEST_WORD):
            yield token
        if not token.isdigit():  # "MRN88213947" may come back as a bare number
            yield from _LONG_NUMBER.findall(token)


def _uid_spellings(value: str) -> Iterator[str]:
    if len(value) >= _SHORTEST_UID and value not in registered_uids():
        yield value


def _date_spellings(value: str) -> Iterator[str]:
    """A DA or DT value in the ways people and programs write the day."""
    match = re.match(r"(\d{4})[.\-]?(\d{2})[.\-]?(\d{2})", value)
    if match is None:
        return
    year, month, day = match.groups()
    if not 1 <= int(month) <= 12:
        return
    for glue in ("", "-", "/", "."):
        yield f"{year}{glue}{month}{glue}{day}"
        yield f"{day}{glue}{month}{glue}{year}"
        yield f"{month}{glue}{day}{glue}{year}"
    name = _MONTHS[int(month) - 1]
    for written_day in {day, str(int(day))}:
        for glue in (" ", "-"):
            yield f"{written_day}{glue}{name}{glue}{year}"
        yield f"{name} {written_day} {year}"
        yield f"{name} {written_day}, {year}"
