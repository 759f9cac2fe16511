"""Sex, age and manufacturer of a header as codes of closed lists (`fedimg.subgroups`): for the site's own home.

PatientSex (0010,0040), PatientAge (0010,1010), else the time from PatientBirthDate (0010,0030) to the study
(0008,0020), and Manufacturer (0008,0070); PS3.3 C.7.1.1, C.7.2.2, C.7.5.1.
"""

from __future__ import annotations

from collections.abc import Callable

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from fedimg.dicom.dates import age_between
from fedimg.dicom.refusal import contained
from fedimg.subgroups import Codes, age_code, maker_code, sex_code

_DAYS = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")


def codes_of(dataset: Dataset) -> Codes:
    """What cannot be read, is no value of the standard, or cannot be true is unknown; nothing is raised.

    Of a file that was de-identified before, the age is the lower end of its band.
    """
    with contained():
        return (
            _tried(lambda: sex_code(_text(dataset, "PatientSex"))),
            _tried(lambda: age_code(_text(dataset, "PatientAge"))) or _tried(lambda: _age_by_dates(dataset)),
            _tried(lambda: maker_code(_text(dataset, "Manufacturer"))),
        )


def _age_by_dates(dataset: Dataset) -> int:
    birth, days = _text(dataset, "PatientBirthDate"), (_text(dataset, name) for name in _DAYS)
    return age_code(age_between(birth, next((day for day in days if day), "")))


def _text(dataset: Dataset, keyword: str) -> str:
    """The first value, "" where there is none."""
    value = dataset.get(keyword)
    if isinstance(value, MultiValue):
        value = value[0] if len(value) else None
    return value if isinstance(value, str) else ""


def _tried(read: Callable[[], int]) -> int:
    """Elements are converted on access, and raise whatever the converter of their VR meets."""
    try:
        return read()
    except Exception:  # noqa: BLE001 - one patient's header may not hold their file back, nor stop the others
        return 0
