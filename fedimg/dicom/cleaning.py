"""Action C on text: what of a value may stay, judged word by word. Nothing here knows a data set.

Clean Descriptors (PS3.15 E.3.5) by a list of medical words instead of by a list of names: what is not
in the list goes. Retain Device Identity (E.3.7) only for what looks like a device's number.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from fedimg.dicom import dates

# A number of at most three digits, with a fraction, an axis or a unit behind it: "5", "1.25", "3MM", "0.5".
_NUMBER = re.compile(r"\d{1,3}(?:\.\d{1,3})?(?:MM|CM|MS|S|SEC|MIN|ML|T|KV|KVP|MAS|B|D|%|X\d{1,3})?")
_SPLIT = re.compile(r"[^\w.%+]+|_")
# Days as people write them: 2012-03-09, 9.3.12, 03/2012, 9 Mar 2012, March 9, 2012. No part of one is a number.
_MONTH = r"(?:JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)[A-Z]*"
_WRITTEN_DAY = re.compile(
    r"(?<!\d)(?:\d{1,4}(?P<glue>[-./\\ ])\d{1,2}(?P=glue)\d{1,4}|\d{1,2}[-./]\d{4}|\d{4}[-./]\d{1,2}"
    rf"|\d{{1,2}}(?:ST|ND|RD|TH)?[-. ]*{_MONTH}[-., ]*\d{{2,4}}|{_MONTH}[. ]*\d{{1,2}}(?:ST|ND|RD|TH)?,? *\d{{2,4}})(?!\d)"
)
_LONGEST_DESCRIPTOR = 64
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._\-/+#:]{0,63}")
_LETTERS = re.compile(r"[A-Za-z]+")
_DIGITS = re.compile(r"\d+")
# Letters of a device's number that are more than two and no name: what vendors and sites put before it.
DEVICE_WORDS = frozenset(
    [
        "CTAWP",
        "MRC",
        "MRT",
        "PET",
        "SPECT",
        "AWP",
        "PACS",
        "ICS",
        "SCANNER",
        "ROOM",
        "UNIT",
        "SYSTEM",
        "SIEMENS",
        "PHILIPS",
        "TOSHIBA",
        "CANON",
        "AGFA",
        "FUJI",
    ]
)
_TIME = re.compile(r"(?:[01]\d|2[0-4])(?:[0-5]\d(?:[0-5]\d|60)?)?(?:(?<=\d{6})\.\d{1,6})?|240000")


def descriptor(value: str, terms: Collection[str], names: Collection[str]) -> tuple[str, list[str]]:
    """What may stay of a descriptor, upper case, and the words that may not.

    A word stays if `terms` holds it and it is no part of a person's name in this object (`names`, upper
    case); a number if it is short. Order is kept; at most 64 characters stay.
    """
    upper = value.upper()
    removed = [match[0] for match in _WRITTEN_DAY.finditer(upper)]
    parts = [
        part.strip(".+%") if not _NUMBER.fullmatch(part) else part
        for part in _SPLIT.split(_WRITTEN_DAY.sub(" ", upper))
    ]
    tokens = [token for token in parts if token]
    kept: list[str] = []
    for index, token in enumerate(tokens):
        number = _NUMBER.fullmatch(token) is not None
        if token.isdigit():  # several in a row are a number of somebody
            beside = tokens[max(index - 1, 0) : index] + tokens[index + 1 : index + 2]
            number = number and not any(other.isdigit() for other in beside)
        (kept if (number or token in terms) and token not in names else removed).append(token)
    text = " ".join(kept)
    if len(text) > _LONGEST_DESCRIPTOR:
        text = text[: text.rfind(" ", 0, _LONGEST_DESCRIPTOR + 1)]
    return text, removed


def is_descriptor(value: str, terms: Collection[str]) -> bool:
    """Whether every word of a written value may stand in a descriptor."""
    return value.isascii() and all(word in terms or _NUMBER.fullmatch(word) for word in value.split())


def is_device(value: str) -> bool:
    """Whether a text looks like a device's number: it holds a digit, no word, and no date.

    Runs of letters are at most two long or known (`DEVICE_WORDS`); a run of eight digits that is a
    day of 1900 to 2099 is a date.
    """
    if _DEVICE.fullmatch(value) is None or not any(character.isdigit() for character in value):
        return False
    letters = all(len(run) <= 2 or run.upper() in DEVICE_WORDS for run in _LETTERS.findall(value))
    if _WRITTEN_DAY.search(value.upper()):
        return False
    return letters and not any(_is_day(run) for run in _DIGITS.findall(value))


def _is_day(digits: str) -> bool:
    if len(digits) != 8:
        return False
    for year, month, day in ((digits[:4], digits[4:6], digits[6:]), (digits[4:], digits[2:4], digits[:2])):
        if 1900 <= int(year) <= 2099 and dates.is_day(int(year), int(month), int(day)):
            return True
    year, month, day = digits[4:], digits[:2], digits[2:4]
    return 1900 <= int(year) <= 2099 and dates.is_day(int(year), int(month), int(day))


def is_time(value: str) -> bool:
    """Whether every value of a TM is a time of day (24:00 too), alone."""
    return all(not part or _TIME.fullmatch(part) is not None for part in value.split("\\"))
