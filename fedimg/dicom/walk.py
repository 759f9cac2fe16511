"""The one recursive walk: (path, tag, stored VR, dictionary VR) → action, over raw elements.

What is dropped or numeric is never decoded into Python values. Removed persons, numbers, UIDs,
dates and free text are noted as `Identifiers` for the gate; the receipt gets counts and the
paths of tags, never a value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

from fedimg.dicom import attributes, cleaning
from fedimg.dicom.encoder import PIXEL_DATA, Element, text
from fedimg.dicom.identifiers import Identifiers
from fedimg.dicom.lookup import LUT_SEQUENCES, drop_loose_tables, with_tables
from fedimg.dicom.notes import MAXIMUM_DEPTH, NOTED_VRS, Notes, WalkRecord
from fedimg.dicom.private import keep_safe
from fedimg.dicom.profile import Context, Profile, Row
from fedimg.dicom.pseudonyms import Pseudonyms
from fedimg.dicom.refusal import Quarantined
from fedimg.dicom.rules import CODE_MEANING, CODE_VALUE, CODING_SCHEME, Rules, substitute
from fedimg.dicom.steps import Key, Step, Steps, Surroundings, key_of
from fedimg.values import Quarantine

_AnyElement = RawDataElement | DataElement
# Judged with the other elements of their data set.
_OF_THE_WHOLE = frozenset({"descriptor", "device"})
_REPLACED = frozenset({"keyed", "registered", "date", "datetime", "time"})
_SOP_CLASS, _PIXEL_REPRESENTATION = 0x00080016, 0x00280103
_NAME_PART = re.compile(r"[^\W\d_]+")
_WORD = re.compile(r"[^\W_]+")
_LONG_NUMBER = re.compile(rb"[0-9]{6,}")
# Numbers: of the patient, other ones, medical record; accession, study, admission, requested procedure, orders.
_OF_PATIENT = (0x00100020, 0x00101000, 0x00101090)
_OF_VISIT = (0x00080050, 0x00200010, 0x00380010, 0x00401001, 0x00402016, 0x00402017)


class _Place(NamedTuple):
    """A data set or item that is being walked. `path` ends where its elements' begin."""

    context: Context
    path: str
    depth: int
    encodings: Sequence[str]


class Walk:
    """One pass over one data set. `run` may be called once.

    Args:
        profile: the table. pseudonyms: of the site and project. steps: of earlier walks with the same two.
    """

    def __init__(self, profile: Profile, pseudonyms: Pseudonyms, steps: Steps | None = None) -> None:
        self.encodings: Sequence[str] = ("iso8859",)
        self._profile, self._pseudonyms = profile, pseudonyms
        self._notes, self._rules = Notes(), Rules(profile, pseudonyms, 0)
        self._steps, self._known = steps or Steps(), dict[Key, Step]()
        self._signed = False
        self._numbers: frozenset[bytes] = frozenset()  # of somebody, as they stand in the header
        self._device_words: set[str] = set()
        self._descriptors: list[tuple[list[Element], Element, Row, str]] = []

    @property
    def identifiers(self) -> Identifiers:
        """What was removed. PHI."""
        return self._notes.identifiers

    @property
    def record(self) -> WalkRecord:
        """Counts and paths, no values."""
        return self._notes.record

    def run(self, dataset: Dataset, patient_key: str = "") -> list[Element]:
        """The elements that may stay, ordered by tag; without constants and pixel data, which follow later.

        Args:
            patient_key: the subject's pseudonym, by which its dates move; needed by profiles that keep dates.

        Raises Quarantined (UNSAFE_STRUCTURE) for nesting beyond the limit or a kept sequence that
        does not parse.
        """
        weeks = 0
        if self._profile.temporal == "MODIFIED":
            if not patient_key:
                raise ValueError("a profile that moves dates needs the subject's pseudonym")
            weeks = self._pseudonyms.weeks_back(patient_key)
            self._rules = Rules(self._profile, self._pseudonyms, weeks)
        self._signed = any(attributes.value_of(dataset, _PIXEL_REPRESENTATION))
        sop_class = attributes.value_of(dataset, _SOP_CLASS).strip(b" \0").decode("ascii", "replace")
        self._numbers = frozenset(
            run
            for tag in (*_OF_PATIENT, *_OF_VISIT)
            for run in _LONG_NUMBER.findall(attributes.value_of(dataset, tag))
        )
        self.encodings = attributes.encodings_of(dataset, self.encodings)
        self._known = self._steps.under(
            Surroundings(sop_class, tuple(self.encodings), self._signed, weeks, self._numbers)
        )
        kept = self._dataset(dataset, self._profile.root(sop_class), "", 0, self.encodings)
        self._describe()
        self.identifiers.texts -= self._device_words
        return kept

    def _dataset(
        self, dataset: Dataset, context: Context, path: str, depth: int, encodings: Sequence[str]
    ) -> list[Element]:
        if depth > MAXIMUM_DEPTH:
            raise Quarantined(Quarantine.UNSAFE_STRUCTURE, f"sequences nested deeper than {MAXIMUM_DEPTH}")
        encodings = attributes.encodings_of(dataset, encodings)
        place = _Place(context, path, depth, encodings)
        actions, known, private = self.record.actions, self._known, self._profile.private
        kept: list[Element] = []
        for tag, element in _ordered(dataset):
            if tag == PIXEL_DATA and depth == 0:
                continue
            if tag >> 16 & 1:
                creator = keep_safe(self._profile, self._rules, dataset, element, kept) if private else None
                if creator is None:
                    self._notes.dropped_private(element, tag, depth, encodings)
                else:
                    actions["C", f"private {creator}"] += 1
                continue
            key = key_of(tag, element) if depth == 0 else None
            step = known.get(key) if key is not None else None
            if step is None:
                step = self._step(tag, element, place, kept, key)
            else:
                for vr, raw in step.noted:
                    self._notes.value(vr, raw, encodings)
            if step.released is not None:
                kept.append(step.released)
            if step.counted is not None:
                actions[step.counted] = actions.get(step.counted, 0) + 1
            else:
                self.record.unknown += 1
        if private:
            kept.sort(key=lambda element: element.tag)
        drop_loose_tables(kept)
        return kept

    def _step(
        self, tag: int, element: _AnyElement, place: _Place, kept: list[Element], key: Key | None
    ) -> Step:
        """What becomes of a public element; remembered where it has a key and its row looks at nothing else."""
        row, here = place.context.get(tag), place.path + _hexadecimal(tag)
        noted: list[tuple[str, bytes]] | None = [] if key is not None else None
        self._notes.trace = noted
        released = None
        if row is None or row.kind == "drop":
            vr = attributes.dictionary_vr(tag) if row is None else row.vr
            counted = ("X", here) if vr is not None else None
            self._notes.element(element, vr, place.depth, place.encodings)
        else:
            released = self._apply(row, element, place, kept, here)
            absent = "D" if row.kind == "constant" else "X"
            counted = (row.action if released is not None else absent, here)
        self._notes.trace = None
        step = Step(released, counted, tuple(noted or ()))
        if key is not None and (row is None or row.kind not in _OF_THE_WHOLE):
            self._known[key] = step
        return step

    def _apply(
        self, row: Row, element: _AnyElement, place: _Place, kept: list[Element], path: str
    ) -> Element | None:
        """The released element of a row, None where it is dropped after all or added later (constants)."""
        encodings = place.encodings
        vr = self._agreed_vr(row, attributes.stored_vr(element))
        if vr is None or row.action in ("D", "Z"):
            self._notes.element(element, row.vr, place.depth, encodings)
            return substitute(row)
        if vr == "SQ":
            return self._sequence(row, element, place, path)
        raw = attributes.raw_value(element, encodings)
        if row.kind == "descriptor":
            return self._postponed(row, vr, raw, kept, encodings)
        if row.kind == "number":
            found = self._rules.released(row, vr, attributes.little_endian(element, raw, vr))
            if found is not None and vr in ("IS", "DS") and self._of_somebody(raw):
                found = None
            if found is None:
                self._notes.value("LO", raw, encodings)
            return found or substitute(row)
        released = self._rules.released(row, vr, raw)
        if row.kind == "device" and released is not None:
            return self._device(row, released, raw)
        if released is None or row.kind in _REPLACED or (row.kind == "words" and _shorter(released, raw)):
            if vr in NOTED_VRS:
                self._notes.value(vr, raw, encodings)
            return released or substitute(row)
        return released

    def _agreed_vr(self, row: Row, stored: str | None) -> str | None:
        """The VR to write; None where the file's contradicts the dictionary's."""
        choices = row.choices
        if stored is None:
            return choices[-1] if len(choices) > 1 and ("OW" in choices or self._signed) else choices[0]
        if stored == "UN" and row.vr == "SQ":
            return "SQ"
        return stored if stored in choices else None

    def _sequence(self, row: Row, element: _AnyElement, place: _Place, path: str) -> Element | None:
        implicit = attributes.stored_vr(element) == "UN"
        try:
            items = attributes.items_of(element, implicit=implicit)
        # pydicom raises whatever its parser meets; its text may quote values.
        except Exception as error:  # noqa: BLE001
            if implicit:  # what claims nothing (UN) and holds no items is dropped like any unknown value
                self.record.unparsed += 1
                return substitute(row)
            found = f"a sequence that does not parse ({type(error).__name__})"
            raise Quarantined(Quarantine.UNSAFE_STRUCTURE, found) from None
        inner, depth, encodings = f"{path}/", place.depth, place.encodings
        if row.kind == "codes":
            # A code outside the vocabulary leaves no item.
            coded = [item for item in (self._code(i, inner, depth + 1, encodings) for i in items) if item]
            return Element(row.tag, "SQ", coded) if coded else substitute(row)
        inside = place.context.inside(row)
        released = [self._dataset(item, inside, inner, depth + 1, encodings) for item in items]
        if row.tag in LUT_SEQUENCES:
            released = with_tables(released, row.tag)
            return Element(row.tag, "SQ", released) if released else None
        # Items keep their places: per-frame groups are counted. What the IOD asks for may hold empty items.
        if any(released) or row.fallback == "D" or not items:
            return Element(row.tag, "SQ", released)
        return substitute(row)

    def _code(self, item: Dataset, path: str, depth: int, encodings: Sequence[str]) -> list[Element]:
        """A coded item with the vocabulary's own meaning, or nothing if the code is not in it (PS3.3 8)."""
        kept = self._dataset(item, self._profile.code, path, depth, encodings)
        values = {element.tag: element.value for element in kept}
        scheme, code = (
            value.decode("ascii").strip(" \0") if isinstance(value := values.get(tag), bytes) else ""
            for tag in (CODING_SCHEME, CODE_VALUE)
        )
        meaning = self._profile.meaning(scheme, code)
        if meaning is None:
            return []
        coded = {CODE_VALUE, CODING_SCHEME, CODE_MEANING}
        return [
            text(CODE_VALUE, "SH", code, closed=True),
            text(CODING_SCHEME, "SH", scheme, closed=True),
            text(CODE_MEANING, "LO", meaning, closed=True),
            *(element for element in kept if element.tag not in coded),
        ]

    def _of_somebody(self, raw: bytes) -> bool:
        """Whether a number is one of the patient's: exporters count series by the patient's number, too."""
        return bool(self._numbers) and any(run in self._numbers for run in _LONG_NUMBER.findall(raw))

    def _device(self, row: Row, released: Element, raw: bytes) -> Element | None:
        """A device's number stays unless it is the patient's; elsewhere its words say nothing of a patient."""
        if self._of_somebody(raw):
            return substitute(row)
        value = raw.decode("ascii", "replace").strip(" \0")
        self._device_words.update({value, *_WORD.findall(value)})
        return released

    def _postponed(
        self, row: Row, vr: str, raw: bytes, kept: list[Element], encodings: Sequence[str]
    ) -> Element:
        """A place for a descriptor: it is cleaned when every person's name is known (`_describe`)."""
        place = Element(row.tag, vr, b"", closed=True)
        self._descriptors.append((kept, place, row, attributes.text_value(raw.strip(b" \0"), encodings)))
        return place

    def _describe(self) -> None:
        if not self._descriptors:
            return
        found = {part.upper() for name in self.identifiers.names for part in _NAME_PART.findall(name)}
        names = {part for part in found if len(part) > 1}
        for kept, place, row, value in self._descriptors:
            cleaned, removed = cleaning.descriptor(value, self._profile.terms, names)
            self.identifiers.texts.update(removed)
            made = text(row.tag, place.vr, cleaned, closed=True) if cleaned else substitute(row)
            index = next(i for i, element in enumerate(kept) if element is place)
            kept[index : index + 1] = [made] if made is not None else []


def _shorter(released: Element, raw: bytes) -> bool:
    """Whether words were taken away."""
    return isinstance(released.value, bytes) and len(released.value.rstrip()) < len(raw.strip(b" \0"))


def _ordered(dataset: Dataset) -> list[tuple[int, _AnyElement]]:
    """(tag, element as it is stored), by tag; `Dataset.__iter__` would decode them."""
    return sorted(zip(map(int, dataset.keys()), dataset.values(), strict=True), key=itemgetter(0))


_hexadecimal = lru_cache(1 << 14)("{:08X}".format)
