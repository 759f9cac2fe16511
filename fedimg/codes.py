"""A coded concept of DICOM, FHIR and SNOMED CT: the value that machines read and the words that people read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from fedimg.errors import DataError

_VALUE: Final = re.compile(r"[A-Za-z0-9.:_-]{1,16}")  # SH, PS3.5 6.2
_SCHEME: Final = re.compile(r"[A-Za-z0-9._-]{1,16}")
_MEANING: Final = re.compile(r"[^\x00-\x1f\x7f\\]{1,64}")  # LO


@dataclass(frozen=True, slots=True)
class Code:
    """Code Value, Coding Scheme Designator and Code Meaning (PS3.3 table 8.8-1), within what their VRs hold.

    Raises DataError for another form.
    """

    value: str
    scheme: str
    meaning: str

    def __post_init__(self) -> None:
        for found, form in ((self.value, _VALUE), (self.scheme, _SCHEME), (self.meaning, _MEANING)):
            if not form.fullmatch(found):
                expected = "a code of value and scheme (1 to 16 letters, digits, . : _ -) and a meaning of up to 64 characters"
                raise DataError(expected, "another form", "write [value, scheme, meaning]")
