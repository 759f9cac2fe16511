"""What the walk removes, remembered for the gate: identifiers as text, at bounded cost.

The same value in a thousand items is noted once; what a dropped sequence holds is read, because it
may stand elsewhere too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from pydicom._private_dict import private_dictionaries
from pydicom.dataelem import DataElement, RawDataElement

from fedimg.dicom import attributes
from fedimg.dicom.identifiers import Identifiers
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine

MAXIMUM_DEPTH = 12
NOTED_VRS = frozenset({"PN", "UI", "DA", "DT", "LO", "SH", "ST", "LT", "UT", "UC", "UR", "AE"})
_READ_VRS = NOTED_VRS | {"SQ"}
_AnyElement = RawDataElement | DataElement


@dataclass(slots=True)
class WalkRecord:
    """What the walk did: `actions` (action, path) → count; private and unknown tags without paths."""

    actions: Counter[tuple[str, str]] = field(default_factory=Counter)
    private: int = 0
    unknown: int = 0
    unparsed: int = 0


class Notes:
    """Attributes: identifiers: what was removed; PHI. record: counts and paths, no values.

    trace: where it is a list, every (VR, value) that is noted from then on, known already or not. PHI.
    """

    def __init__(self) -> None:
        self.trace: list[tuple[str, bytes]] | None = None
        self.identifiers = Identifiers()
        self.record = WalkRecord()
        self._noted: set[tuple[str, bytes]] = set()

    def dropped_private(self, element: _AnyElement, tag: int, depth: int, encodings: Sequence[str]) -> None:
        """A private element that is not kept. No dictionary says more of it than its VR."""
        self.record.private += 1
        if element.VR in _READ_VRS and not (0x10 <= tag & 0xFFFF <= 0xFF and _is_vendors(element)):
            self.element(element, None, depth, encodings)

    def element(self, element: _AnyElement, known: str | None, depth: int, encodings: Sequence[str]) -> None:
        """The identifiers of a removed element, those in its items too. `known`: the dictionary's VR."""
        vr = attributes.stored_vr(element)
        if vr is None or vr == "UN":
            vr = known
        if vr == "SQ":
            self._items(element, depth, encodings)
            return
        if vr in NOTED_VRS:
            self.value(vr or "", attributes.raw_value(element, encodings), encodings)
        if known != vr and known in NOTED_VRS:
            self.value(known or "", attributes.raw_value(element, encodings), encodings)

    def value(self, vr: str, raw: bytes, encodings: Sequence[str]) -> None:
        """The identifiers of one value of a VR."""
        entry = vr, raw
        if self.trace is not None:
            self.trace.append(entry)
        if entry in self._noted:
            return
        self._noted.add(entry)
        stripped = raw.strip(b" \0")
        if stripped:
            self.identifiers.add(vr, attributes.text_value(stripped, encodings), stripped)

    def _items(self, element: _AnyElement, depth: int, encodings: Sequence[str]) -> None:
        if depth >= MAXIMUM_DEPTH:
            raise Quarantined(Quarantine.UNSAFE_STRUCTURE, f"sequences nested deeper than {MAXIMUM_DEPTH}")
        try:
            items = attributes.items_of(element, implicit=attributes.stored_vr(element) == "UN")
        except Exception:  # noqa: BLE001 - dropped with all it holds; counted, since its identifiers stay unknown
            self.record.unparsed += 1
            return
        for item in items:
            inner = attributes.encodings_of(item, encodings)
            for child in item.values():
                self.element(child, attributes.dictionary_vr(int(child.tag)), depth + 1, inner)


@cache
def _vendors() -> frozenset[bytes]:
    return frozenset(name.encode("ascii", "replace") for name in private_dictionaries)


def _is_vendors(element: _AnyElement) -> bool:
    """Whether a private creator is one of the vendors' names that pydicom lists: it names no patient."""
    return attributes.raw_value(element, ()).strip(b" \0") in _vendors()
