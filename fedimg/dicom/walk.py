"""The one recursive walk: (path, tag, stored VR, dictionary VR) → action, over raw elements.

What is dropped or numeric is never decoded into Python values. Removed persons, numbers, UIDs,
dates and free text are noted as `Identifiers` for the gate; the receipt gets counts and the
paths of tags, never a value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

from fedimg.dicom import attributes, dates
from fedimg.dicom.encoder import PIXEL_DATA, Element, text
from fedimg.dicom.identifiers import Identifiers
from fedimg.dicom.profile import Profile, Row, registered_uids
from fedimg.dicom.pseudonyms import Pseudonyms
from fedimg.dicom.reader import Quarantined
from fedimg.values import Quarantine

MAXIMUM_DEPTH = 12
_AnyElement = RawDataElement | DataElement
_NOTED_VRS = frozenset({"PN", "UI", "DA", "DT", "LO", "SH", "ST", "LT", "UT", "UC", "UR", "AE"})
_CODE_VALUE, _CODING_SCHEME, _CODE_MEANING = 0x00080100, 0x00080102, 0x00080104
_PIXEL_REPRESENTATION = 0x00280103


@dataclass(slots=True)
class WalkRecord:
    """What the walk did: `actions` (action, path) → count; private and unknown tags without paths."""

    actions: Counter[tuple[str, str]] = field(default_factory=Counter)
    private: int = 0
    unknown: int = 0
    unparsed: int = 0


class Walk:
    """One pass over one data set. `run` may be called once.

    Args:
        profile: the table. pseudonyms: of the site and project.
    """

    def __init__(self, profile: Profile, pseudonyms: Pseudonyms) -> None:
        self.identifiers = Identifiers()
        self.record = WalkRecord()
        self.encodings: Sequence[str] = ("iso8859",)
        self._profile, self._pseudonyms = profile, pseudonyms
        self._signed = False

    def run(self, dataset: Dataset) -> list[Element]:
        """The elements that may stay, ordered by tag; without constants and pixel data, which follow later.

        Raises Quarantined (UNSAFE_STRUCTURE) for nesting beyond the limit or a kept sequence that
        does not parse.
        """
        representation = dataset.get_item(_PIXEL_REPRESENTATION)
        if representation is not None:
            self._signed = any(attributes.raw_value(representation, ()))
        return self._dataset(dataset, "root", "", 0, self.encodings)

    def _dataset(
        self, dataset: Dataset, context: str, path: str, depth: int, encodings: Sequence[str]
    ) -> list[Element]:
        if depth > MAXIMUM_DEPTH:
            raise Quarantined(Quarantine.UNSAFE_STRUCTURE, f"sequences nested deeper than {MAXIMUM_DEPTH}")
        encodings = attributes.encodings_of(dataset, encodings)
        if depth == 0:
            self.encodings = encodings
        rows = self._profile.contexts[context]
        kept: list[Element] = []
        for element in _ordered(dataset):
            tag = int(element.tag)
            row = rows.get(tag)
            if tag == PIXEL_DATA and depth == 0:
                continue
            here = f"{path}{tag:08X}"
            if row is None:
                self._drop(element, tag, here, depth, encodings)
                continue
            released = self._apply(row, element, here, depth, encodings)
            self.record.actions[row.action if released or row.action == "D" else "X", here] += 1
            if released:
                kept.append(released)
        return kept

    def _apply(
        self, row: Row, element: _AnyElement, path: str, depth: int, encodings: Sequence[str]
    ) -> Element | None:
        """The released element of a row, None where it is dropped after all or added later (D)."""
        vr = self._agreed_vr(row, attributes.stored_vr(element))
        if row.action in ("D", "Z") or vr is None:
            self._note(element, row.tag, depth, encodings)
            return Element(row.tag, row.vr, b"") if row.action == "Z" else None
        if vr == "SQ":
            return self._sequence(row, element, path, depth, encodings)
        raw = attributes.raw_value(element, encodings)
        if row.action == "C":
            return self._cleaned(row, vr, raw, encodings)
        if vr == "UI":
            return self._uids(row, raw, encodings)
        number = attributes.checked_number(attributes.little_endian(element, raw, vr), vr, row.maximum)
        if number is None:
            self._note_value("LO", raw, encodings)
            return None
        return Element(row.tag, vr, number)

    def _agreed_vr(self, row: Row, stored: str | None) -> str | None:
        """The VR to write; None where the file's contradicts the dictionary's."""
        choices = row.vr.split(" or ")
        if stored is None:
            return choices[-1] if len(choices) > 1 and ("OW" in choices or self._signed) else choices[0]
        if stored == "UN" and row.vr == "SQ":
            return "SQ"
        return stored if stored in choices else None

    def _sequence(
        self, row: Row, element: _AnyElement, path: str, depth: int, encodings: Sequence[str]
    ) -> Element | None:
        implicit = attributes.stored_vr(element) == "UN"
        try:
            items = attributes.items_of(element, implicit=implicit)
        # pydicom raises whatever its parser meets; its text may quote values.
        except Exception as error:  # noqa: BLE001
            if implicit:  # what claims nothing (UN) and holds no items is dropped like any unknown value
                self.record.unparsed += 1
                return None
            found = f"a sequence that does not parse ({type(error).__name__})"
            raise Quarantined(Quarantine.UNSAFE_STRUCTURE, found) from None
        inner = f"{path}/"
        if row.rule == "code":
            released = [self._code(item, inner, depth + 1, encodings) for item in items]
        else:
            context = row.rule or ""
            released = [self._dataset(item, context, inner, depth + 1, encodings) for item in items]
        # Items keep their places: per-frame groups are counted. A code outside the vocabulary leaves no item.
        kept = [item for item in released if item] if row.rule == "code" else released
        return Element(row.tag, "SQ", kept) if kept else None

    def _code(self, item: Dataset, path: str, depth: int, encodings: Sequence[str]) -> list[Element]:
        """A coded item with the vocabulary's own meaning, or nothing if the code is not in it (PS3.3 8)."""
        kept = self._dataset(item, "code", path, depth, encodings)
        values = {element.tag: element.value for element in kept}
        scheme, code = (
            value.decode("ascii").strip(" \0") if isinstance(value := values.get(tag), bytes) else ""
            for tag in (_CODING_SCHEME, _CODE_VALUE)
        )
        meaning = self._profile.meaning(scheme, code)
        if meaning is None:
            return []
        coded = {_CODE_VALUE, _CODING_SCHEME, _CODE_MEANING}
        return [
            text(_CODE_VALUE, "SH", code, closed=True),
            text(_CODING_SCHEME, "SH", scheme, closed=True),
            text(_CODE_MEANING, "LO", meaning, closed=True),
            *(element for element in kept if element.tag not in coded),
        ]

    def _cleaned(self, row: Row, vr: str, raw: bytes, encodings: Sequence[str]) -> Element | None:
        if row.rule == "code":  # judged with its whole item in _code
            return Element(row.tag, vr, raw, closed=True) if raw.isascii() else None
        value = raw.strip(b" \0")
        if row.rule == "age_band":
            try:
                return text(row.tag, vr, dates.age_band(value.decode("ascii", "replace"))) if value else None
            except ValueError:
                return None
        words = [part.strip() for part in value.decode("ascii", "replace").upper().split("\\")]
        allowed = [word for word in words if row.allowed is not None and word in row.allowed]
        if len(allowed) < len(words) and vr in _NOTED_VRS:
            self._note_value(vr, raw, encodings)
        if row.maximum is not None:
            allowed = allowed[: row.maximum]
        return text(row.tag, vr, "\\".join(allowed), closed=True) if allowed else None

    def _uids(self, row: Row, raw: bytes, encodings: Sequence[str]) -> Element | None:
        uids = [part.strip() for part in raw.rstrip(b" \0").decode("ascii", "surrogateescape").split("\\")]
        if row.action == "K":
            known = [uid for uid in uids if uid in registered_uids()]
            if len(known) < len(uids):
                self._note_value("UI", raw, encodings)
            return text(row.tag, "UI", "\\".join(known), closed=True) if known else None
        self._note_value("UI", raw, encodings)
        keyed = [uid if uid in registered_uids() else self._pseudonyms.uid(uid) for uid in uids if uid]
        return text(row.tag, "UI", "\\".join(keyed)) if keyed else None

    def _drop(self, element: _AnyElement, tag: int, path: str, depth: int, encodings: Sequence[str]) -> None:
        if tag >> 16 & 1:
            self.record.private += 1
        elif attributes.dictionary_vr(tag) is None:
            self.record.unknown += 1
        else:
            self.record.actions["X", path] += 1
        self._note(element, tag, depth, encodings)

    def _note(self, element: _AnyElement, tag: int, depth: int, encodings: Sequence[str]) -> None:
        """Remember a removed element's identifiers, those in its items too."""
        known = attributes.dictionary_vr(tag)
        vr = attributes.stored_vr(element)
        vr = known if vr in (None, "UN") else vr
        if vr == "SQ":
            self._note_items(element, depth, encodings)
            return
        for candidate in {vr, known} & _NOTED_VRS:
            self._note_value(candidate or "", attributes.raw_value(element, encodings), encodings)

    def _note_items(self, element: _AnyElement, depth: int, encodings: Sequence[str]) -> None:
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
                self._note(child, int(child.tag), depth + 1, inner)

    def _note_value(self, vr: str, raw: bytes, encodings: Sequence[str]) -> None:
        stripped = raw.strip(b" \0")
        if stripped:
            self.identifiers.add(vr, attributes.text_value(stripped, encodings), stripped)


def _ordered(dataset: Dataset) -> list[_AnyElement]:
    """Elements as they are stored, by tag; `Dataset.__iter__` would decode them."""
    return sorted(dataset.values(), key=lambda element: int(element.tag))
