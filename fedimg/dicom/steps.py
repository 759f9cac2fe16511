"""What the walk made of single elements, remembered from one file to the next.

Files of one series have nearly all their elements in common. What becomes of a plain element is a function of
its bytes and of its surroundings (`Surroundings`): it is worked out once, and the gate judges the written
bytes of every file all the same.
"""

from __future__ import annotations

from typing import NamedTuple

from pydicom.dataelem import DataElement, RawDataElement

from fedimg.dicom.encoder import Element

_LONGEST, _MOST = 256, 4096  # bytes of a value; elements under the same surroundings
_NOT_PLAIN = frozenset({None, "SQ", "UN"})

Key = tuple[int, str | None, bytes | None, bool]


class Surroundings(NamedTuple):
    """All that decides about an element of a data set beside itself, under one profile and key. PHI.

    Attributes: numbers: of somebody, as they stand in the header. weeks: by which dates move.
    """

    sop_class: str
    encodings: tuple[str, ...]
    signed: bool
    weeks: int
    numbers: frozenset[bytes]


class Step(NamedTuple):
    """What became of one element.

    Attributes:
        released: None where it does not stay. counted: (action, path) for the receipt; None: an unknown tag.
        noted: (VR, value) that the gate is to search for. PHI.
    """

    released: Element | None
    counted: tuple[str, str] | None
    noted: tuple[tuple[str, bytes], ...]


class Steps:
    """Of the last surroundings, which a study's files share. Holds a few thousand small values at most."""

    def __init__(self) -> None:
        self._last: tuple[Surroundings | None, dict[Key, Step]] = None, {}

    def under(self, surroundings: Surroundings) -> dict[Key, Step]:
        """What is known under these; whoever works more out adds it."""
        last, known = self._last
        if surroundings != last or len(known) > _MOST:
            # A new one instead of clearing it: another thread may be at work with the old one.
            known = {}
            self._last = surroundings, known
        return known


def key_of(tag: int, element: RawDataElement | DataElement) -> Key | None:
    """By which a plain element is remembered; None for one that is not: long, decoded, or a sequence perhaps."""
    if not isinstance(element, RawDataElement) or element.VR in _NOT_PLAIN:
        return None
    value = element.value
    if value is not None and len(value) > _LONGEST:
        return None
    return tag, element.VR, value, element.is_little_endian
