"""Dates moved by whole weeks, and ages that no longer single anybody out.

Whole weeks keep the day of the week and every interval within a subject. A time of day is never
touched by such a shift, so 24:00 and leap seconds need no arithmetic. DA and DT: PS3.5 section
6.2; the ages over 89: 45 CFR 164.514(b)(2)(i)(C). Only profiles that keep dates move them.
"""

from __future__ import annotations

import re
from datetime import date, timedelta

_DA = re.compile(r"(\d{4})(\d{2})(\d{2})")
_DOTTED = re.compile(r"(\d{4})\.(\d{2})\.(\d{2})")  # ACR-NEMA 2.0
_DT = re.compile(r"(\d{4})(\d{2})?(\d{2})?(\d{2,6}(?:\.\d{1,6})?)?([+-]\d{4})?")
_TIME_LENGTHS = (0, 2, 4, 6)
_AGE = re.compile(r"(\d{3})([DWMY])")
_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}

OLDEST_AGE = "090Y"
AGE_BAND_YEARS = 5


def shift_date(value: str, weeks: int) -> str:
    """A DA value, `weeks` earlier. Backslashes separate values; dotted ACR-NEMA dates lose their dots.

    Raises ValueError (without the value) for anything that is not a date.
    """
    return "\\".join(_shift_one_date(part.strip(" \0"), weeks) for part in value.split("\\"))


def shift_datetime(value: str, weeks: int, *, keep_time: bool) -> str:
    """A DT value, `weeks` earlier, at the precision it came with.

    A partial value (YYYY or YYYYMM) is taken at the middle of its span and cut again, so that its
    interval to other dates errs by at most half a year or half a month. `keep_time` false leaves
    the date alone, without zone. Raises ValueError (without the value).
    """
    return "\\".join(_shift_one_datetime(part.strip(" \0"), weeks, keep_time) for part in value.split("\\"))


def is_day(year: int, month: int, day: int) -> bool:
    """Whether the calendar has such a day."""
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _moved(year: int, month: int, day: int, weeks: int) -> date:
    try:
        return date(year, month, day) - timedelta(weeks=weeks)
    except (ValueError, OverflowError):
        raise ValueError("a date that the calendar does not have") from None


def _shift_one_date(value: str, weeks: int) -> str:
    if not value:
        return ""
    match = _DA.fullmatch(value) or _DOTTED.fullmatch(value)
    if match is None:
        raise ValueError("a value that is not a date")
    year, month, day = map(int, match.groups())
    moved = _moved(year, month, day, weeks)
    return _compact(moved)


def _compact(moved: date) -> str:
    return (
        f"{moved.year:04d}{moved.month:02d}{moved.day:02d}"  # strftime drops leading zeros before year 1000
    )


def _shift_one_datetime(value: str, weeks: int, keep_time: bool) -> str:
    if not value:
        return ""
    match = _DT.fullmatch(value)
    if match is None:
        raise ValueError("a value that is not a date-time")
    year, month, day, time, zone = match.groups(default="")
    if (time and not day) or len(time.partition(".")[0]) not in _TIME_LENGTHS:
        raise ValueError("a value that is not a date-time")
    moved = _compact(_moved(int(year), int(month or 7), int(day or (15 if month else 1)), weeks))
    digits = 4 + 2 * bool(month) + 2 * bool(day)
    return moved[:digits] + (time + zone if keep_time else "")


def cap_age(value: str) -> str:
    """An AS value with every age over 89 years as 090Y. Raises ValueError (without the value)."""
    return OLDEST_AGE if _years(value) >= 90 else value


def age_band(value: str) -> str:
    """The lower end of a band of five years: 037Y → 035Y, 011M → 000Y, 095Y → 090Y.

    Raises ValueError (without the value) for what is not an AS.
    """
    years = _years(value)
    if years >= 90:
        return OLDEST_AGE
    return f"{int(years) // AGE_BAND_YEARS * AGE_BAND_YEARS:03d}Y"


def age_between(birth: str, study: str) -> str:
    """The age at `study` of one born on `birth` (DA values) as an AS. Raises ValueError."""
    born, seen = (_DA.fullmatch(value.strip(" \0")) for value in (birth, study))
    if born is None or seen is None:
        raise ValueError("a value that is not a date")
    first, second = (_moved(int(match[1]), int(match[2]), int(match[3]), 0) for match in (born, seen))
    years = second.year - first.year - ((second.month, second.day) < (first.month, first.day))
    if not 0 <= years <= 150:
        raise ValueError("dates that make no age")
    return f"{years:03d}Y"


def _years(value: str) -> float:
    match = _AGE.fullmatch(value.strip(" \0"))
    if match is None:
        raise ValueError("a value that is not an age")
    return int(match[1]) / _PER_YEAR[match[2]]
