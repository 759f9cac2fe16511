"""Why an input is held back, in words that hold nothing of it; and a library's warnings kept inside."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from fedimg.errors import DataError
from fedimg.values import Quarantine

_ADVICE: dict[Quarantine, tuple[str, str]] = {
    Quarantine.UNREADABLE: ("a complete file", "export it again from the archive"),
    Quarantine.NOT_AN_IMAGE: ("an image", "leave this file out of the input folder"),
    Quarantine.NO_PATIENT_ID: ("a patient number", "add it in the archive, or name it in the label file"),
    Quarantine.OBJECT_TYPE: ("an image object", "only images are taken in; leave other objects out"),
    Quarantine.UNSAFE_STRUCTURE: (
        "sizes and structure within the limits",
        "raise the limit if the file is genuine",
    ),
    Quarantine.PIXELS_UNDECODABLE: ("pixels that decode to the stated size", "export it again, uncompressed"),
    Quarantine.PIXELS_NOT_FINITE: ("finite pixel values", "repair the image at its source"),
    Quarantine.WRONG_SHAPE: ("an image of one channel or colour, 2-D or 3-D", "convert the image first"),
}


class Quarantined(DataError):
    """One input held back.

    Args:
        reason: the closed code.
        detail: what was found, in words that hold nothing read from the file but sizes,
            keywords and codes of the standard.
    """

    def __init__(self, reason: Quarantine, detail: str) -> None:
        self.reason, self.detail = reason, detail
        expected, remedy = _ADVICE.get(
            reason, ("an input that can be used", "see the reason code in the manual")
        )
        super().__init__(expected, f"{detail} ({reason.value})", remedy)

    def __reduce__(self) -> tuple[type[Quarantined], tuple[Quarantine, str]]:
        return type(self), (self.reason, self.detail)  # crosses process pools


@contextmanager
def contained() -> Iterator[list[warnings.WarningMessage]]:
    """Run pydicom with its warnings kept in a list: their text quotes values of the file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
