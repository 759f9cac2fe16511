"""The profiles of PS3.15: Table E.1-1 and its options, plus default-deny, compiled to flat contexts.

E.1-1 is a list of what must go; here everything else must show what it is before it stays: numbers,
registered UIDs, coded items of a closed vocabulary, text of a closed vocabulary. `X/Z/D` and its
kin (PS3.15 E.1.1) are resolved by the attribute's type in the IOD of the SOP class; an attribute
whose place in the IOD is unknown takes D over U* over Z over X.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, cast

from fedimg.dicom.e1_1 import (
    OPTIONAL,
    STRENGTH,
    TEXT,
    UNKNOWN_PLACE,
    Entry,
    basic_action,
    code_sequences,
    entries,
    types_of,
)
from fedimg.dicom.profile import (
    NUMERIC,
    Action,
    Context,
    Profile,
    Row,
    Rows,
    Temporal,
    digest_of,
    maximum_of,
    read_table,
)
from fedimg.errors import ConfigError

# Never in a data set that is released: command, file meta, directory, curves, overlays, signatures, padding.
FORBIDDEN_GROUPS = frozenset({0x0000, 0x0002, 0x0004, 0xFFFA, 0xFFFC, 0xFFFE})
MODIFIED_DATES, PATIENT, DEVICE, DESCRIPTORS = "113107", "113108", "113109", "113105"
# What a DICOMDIR is built from (PS3.3 F.5.2, F.5.3: study date, time and ID). Z may be an empty value or a
# dummy (PS3.15 E.1.1); an empty one here would keep a release out of archives and off media.
_INDEXED = frozenset({0x00080020, 0x00080030, 0x00200010})
# What a release says of itself; written by `marks`, whatever the input says.
_MARKS = {
    0x00100010: "patient_key",
    0x00100020: "patient_key",
    0x00120062: "yes",
    0x00120063: "method",
    0x00120064: "method_codes",
    0x00280301: "burned_in",
    0x00280303: "temporal",
}
# Decided elsewhere: the released text is ASCII, so that a character set says nothing; faces are not judged here.
_NEVER = frozenset({0x00080005, 0x00280302})
_DATES = {"DA": "date", "DT": "datetime"}


class _Compiler:
    """Rows of one profile from the shipped tables."""

    def __init__(self, table: Mapping[str, Any], *, keep_times: bool) -> None:
        self._options, self._keep_times = tuple(table["options"]), keep_times
        self._train, self._words = read_table("train"), read_table("ps315_vocabularies")
        self._roles = read_table("uid_roles")
        self._vocabularies = {
            name: frozenset(words)
            for name, words in (self._train["vocabularies"] | self._words["vocabularies"]).items()
        }
        self._named = self._named_vocabularies()
        self._luts = frozenset(
            int(row[0], 16)
            for rows in self._train["contexts"].values()
            for row in rows
            if "OW" in row[1] and row[3] != "PixelData"
        )
        self.base: Rows = MappingProxyType(
            {tag: self.row(entry, UNKNOWN_PLACE) for tag, entry in entries().items()}
        )
        self._compound = frozenset(tag for tag, entry in entries().items() if "/" in entry.basic)

    def _named_vocabularies(self) -> dict[int, str]:
        """Tag → closed vocabulary: those of `train`, wherever it has the attribute, and those of this profile."""
        named = {
            int(row[0], 16): row[5]
            for rows in self._train["contexts"].values()
            for row in rows
            if row[4] == "C" and row[5] in self._train["vocabularies"]
        }
        return named | {int(tag, 16): name for tag, name in self._words["attributes"].items()}

    def row(self, entry: Entry, kind: str) -> Row:
        """The row of an attribute of type `kind` ("3" where the IOD does not ask for it, "" where unknown)."""
        basic = basic_action(entry, kind)
        if basic == "Z" and entry.tag in _INDEXED:
            basic = "D"
        if entry.tag >> 16 in FORBIDDEN_GROUPS or entry.tag in _NEVER:
            return self._made(entry, "X", None, "default-deny")
        if entry.tag in _MARKS:
            return self._made(entry, "D", _MARKS[entry.tag], "marks of de-identification")
        chosen = self._chosen(entry)
        if chosen is not None:
            action, rule, source = chosen
            return self._made(entry, action, rule, f"E.1-1, option {source}", basic)
        if entry.basic:
            return self._plain(entry, basic)
        return self._unnamed(entry, kind)

    def _plain(self, entry: Entry, basic: str) -> Row:
        source = f"E.1-1, basic {entry.basic}"
        if basic == "U*":
            return self._made(entry, "K", "items", source, "Z")
        if basic == "D" and entry.vr == "UI":
            return self._made(entry, "U", None, source, "D")
        if basic == "D" and entry.vr == "SQ" and "/" in entry.basic and entry.tag not in code_sequences():
            return self._made(entry, "K", "items", source, "D")  # what is in it is replaced one by one
        return self._made(entry, cast("Action", basic), "dummy" if basic == "D" else None, source)

    def _chosen(self, entry: Entry) -> tuple[Action, str | None, str] | None:
        """What the first option that the profile takes and the row has makes of the attribute."""
        for option in (MODIFIED_DATES, PATIENT, DEVICE, DESCRIPTORS):
            if option not in self._options or option not in entry.options:
                continue
            made = self._optional(entry, option)
            if made is not None:
                return (*made, option)
            if option == MODIFIED_DATES:
                return None  # a device's time of day is a time of day
        return None

    def _optional(self, entry: Entry, option: str) -> tuple[Action, str | None] | None:
        vr = entry.vr
        if option == MODIFIED_DATES:
            if vr == "TM":
                return ("C", "time") if self._keep_times else None
            return ("C", _DATES[vr]) if vr in _DATES else None
        if vr == "SQ":
            return ("C", "code") if entry.tag in code_sequences() else ("K", "items")
        if vr == "UI":
            return "U", None  # a device's UID stays a keyed one: the device is known again, not named
        if vr in NUMERIC:
            return "K", None
        if vr == "AS":
            return "C", "age_cap"
        if entry.tag in self._named:
            return "C", self._named[entry.tag]
        if vr not in TEXT:
            return None
        return "C", "device" if option == DEVICE else "descriptor"

    def _unnamed(self, entry: Entry, kind: str) -> Row:
        """Default-deny: what E.1-1 does not name stays only where its form says that it is harmless."""
        vr, source = entry.vr, "default-deny"
        asked = STRENGTH.get(kind, 0)
        fallback: Action = "Z" if asked else "X"
        if asked > 2 and (vr in TEXT - {"CS"} or vr == "SQ"):
            fallback = "D"
        elif asked > 2:
            fallback = "X"
        if vr == "SQ":
            action, rule = ("C", "code") if entry.tag in code_sequences() else ("K", "items")
            return self._made(entry, cast("Action", action), rule, source, fallback)
        if vr == "UI":
            role = self._roles.get(entry.keyword, "dropped")
            if role == "keyed":
                return self._made(entry, "U", None, source)
            return (
                self._made(entry, "K", "registered", source) if role == "registered" else self._denied(entry)
            )
        if entry.tag in self._named or vr == "CS":
            return self._made(entry, "C", self._named.get(entry.tag, "terms"), source, fallback)
        if vr in NUMERIC and ("OW" not in vr or entry.tag in self._luts):
            return self._made(entry, "K", None, source, fallback)
        if fallback == "X":
            return self._denied(entry)
        return self._made(entry, fallback, "dummy" if fallback == "D" else None, source)

    def _denied(self, entry: Entry) -> Row:
        return self._made(entry, "X", None, "default-deny")

    def _made(self, entry: Entry, action: Action, rule: str | None, source: str, otherwise: str = "X") -> Row:
        allowed = self._vocabularies.get(rule or "") if action == "C" else None
        if action == "K" and entry.vr == "UI":
            rule = "registered"
        # A U* or K that cannot be done leaves nothing behind.
        fallback = cast("Action", otherwise if otherwise in ("X", "Z", "D") else "X")
        return Row(entry.tag, entry.vr, entry.maximum, entry.keyword, action, rule, allowed, fallback, source)

    def overlay(self, types: Mapping[int, str]) -> Rows:
        """The rows that the types of one place in the IOD change."""
        wanted = self._compound | types.keys()
        rows = {
            tag: self.row(entries()[tag], types.get(tag, OPTIONAL))
            for tag in sorted(wanted & self.base.keys())
        }
        return {tag: row for tag, row in rows.items() if row != self.base[tag]}


def _code_rows(table: Mapping[str, Any]) -> Rows:
    """What makes a code; of its context group only what is drawn from a list may be named (PS3.3 8.8)."""
    rows = {}
    for tag in (0x00080106, 0x00080107, 0x0008010B, 0x0008010F):
        entry = entries()[tag]
        source = "without a context group a code needs no version of it"
        rows[tag] = Row(tag, entry.vr, entry.maximum, entry.keyword, "X", None, source=source)
    for tag, vr, vm, keyword, *_ in table["contexts"]["code"]:
        number = int(tag, 16)
        rows[number] = Row(
            number, vr, maximum_of(vm), keyword, "C", "code", source="closed vocabulary of codes"
        )
    return rows


def _private(table: Mapping[str, Any]) -> dict[tuple[int, str], dict[int, Row]]:
    """(group, creator) → last byte of the element → row: PS3.15 E.3.10, numbers only."""
    found: dict[tuple[int, str], dict[int, Row]] = {}
    for group, creator, element, vr, vm, keyword in table["private"]:
        tag = int(group, 16) << 16 | int(element, 16)
        row = Row(tag, vr, maximum_of(vm), keyword, "K", None, source="PS3.15 E.3.10, option 113111")
        if not row.tag >> 16 & 1 or vr not in NUMERIC:
            raise ConfigError("safe private elements that are numbers", keyword, "restore the shipped table")
        found.setdefault((int(group, 16), creator), {})[int(element, 16)] = row
    return found


def compiled(name: str, *, keep_times: bool) -> Profile:
    """The profile `name` of PROFILES, compiled. Raises ConfigError for a table that contradicts itself."""
    table = read_table(name)
    compiler = _Compiler(table, keep_times=keep_times)
    e1_1, codes, train = read_table("ps315_e1_1"), read_table("ps315_codes"), read_table("train")
    terms, types = read_table("terms"), read_table("attribute_types")
    parts = [
        table,
        e1_1,
        codes,
        train,
        terms,
        types,
        read_table("uid_roles"),
        read_table("ps315_vocabularies"),
    ]
    code_rows = _code_rows(train)

    def in_item(row: Row) -> Context:
        return anywhere(row)

    code = Context("code", code_rows, compiler.base, in_item)

    def anywhere(row: Row) -> Context:
        return code if row.kind in ("codes", "constant") else item

    item = Context("item", {}, compiler.base, anywhere)

    def place(sop_class: str, path: tuple[int, ...]) -> Context:
        types_here = types_of(sop_class).get(path)
        if types_here is None:
            return item

        def inside(row: Row) -> Context:
            return code if row.kind in ("codes", "constant") else place(sop_class, (*path, row.tag))

        name_of = "/".join(f"{tag:08X}" for tag in path)
        return Context(name_of or "root", compiler.overlay(types_here), compiler.base, inside)

    def overlays(sop_class: str) -> Iterator[tuple[str, Rows]]:
        for path, types_here in types_of(sop_class).items():
            yield "/".join(f"{tag:08X}" for tag in path), compiler.overlay(types_here)

    return Profile(
        name=table["profile"],
        version=table["version"],
        edition=f"{e1_1['edition']}; {types['edition']}",
        digest=digest_of(*parts, {"keep_times": keep_times}),
        contexts=MappingProxyType({"item": compiler.base, "code": code_rows}),
        root=lru_cache(maxsize=64)(lambda sop_class: place(sop_class, ())),
        codes=codes,
        confidentiality_codes=tuple(table["confidentiality_codes"]),
        object_types=train["object_types"],
        code=code,
        temporal=cast("Temporal", table["temporal"]),
        terms=frozenset(terms),
        private=MappingProxyType(_private(table)),
        keep_times=keep_times,
        overlays=overlays,
    )
