"""A header as others may ask it: by keyword, never failing. What cannot be read says nothing."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from fedimg.dicom.geometry import group, numbers
from fedimg.dicom.reader import PIXEL_KEYWORDS
from fedimg.dicom.refusal import contained

_LONGEST_VALUE = 1024  # characters
_MOST_ITEMS = 16


@dataclass(frozen=True, slots=True)
class AskedHeader:
    """Answers are patient data: they stay where they were asked for."""

    _dataset: Dataset

    def values(self, keyword: str) -> list[str]:
        """An attribute's values as text, blanks around them off."""
        try:
            with contained():
                value = self._dataset.get(keyword)
                several = [] if value is None else [value] if isinstance(value, str) else list(value)
                return [str(part).strip()[:_LONGEST_VALUE] for part in several]
        # Elements are converted when they are read, and raise whatever the converter of their VR meets; a number
        # is one value and no list.
        except Exception:  # noqa: BLE001
            return []

    def text(self, keyword: str) -> str:
        """All values of an attribute, with a blank between them."""
        return " ".join(self.values(keyword))

    def items(self, keyword: str) -> list[AskedHeader]:
        """The first items of a sequence."""
        try:
            with contained():
                items = (self._dataset.get(keyword) or ())[:_MOST_ITEMS]
                return [AskedHeader(item) for item in items if isinstance(item, Dataset)]
        except Exception:  # noqa: BLE001 - the same
            return []

    def plane_cosines(self) -> tuple[float, ...] | None:
        """ImageOrientationPatient of the first frame: six numbers, or None."""
        try:
            with contained():
                source = group(self._dataset, "PlaneOrientationSequence", 0) or self._dataset
                return numbers(source, "ImageOrientationPatient", 6)
        except Exception:  # noqa: BLE001 - the same
            return None

    def has_pixels(self) -> bool:
        return any(keyword in self._dataset for keyword in PIXEL_KEYWORDS)
