"""The facts of PS3.15 E.1-1 and of PS3.3 that profiles are compiled from: attributes, types, dummy values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from pydicom._dicom_dict import DicomDictionary

from fedimg.dicom.profile import Action, Row, Rows, maximum_of, read_table

TEXT = frozenset({"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UT"})
# What a constant may stand for where an IOD asks for a value: text, persons and times, no numbers or codes.
_DUMMIES = (TEXT - {"CS"}) | {"DA", "DT", "TM", "PN"}
# How much an IOD asks for an attribute (PS3.5 7.4); what is of type 3 or not in the IOD is OPTIONAL.
STRENGTH = {"1": 4, "1C": 3, "2": 2, "2C": 1}
UNKNOWN_PLACE, OPTIONAL = "", "3"

Path = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A public attribute: the dictionary's facts, its basic action ("" where E.1-1 has none), its options."""

    tag: int
    vr: str
    maximum: int | None
    keyword: str
    basic: str
    options: Mapping[str, str]


@cache
def entries() -> Mapping[int, Entry]:
    """Every public attribute, by tag: the rows of E.1-1, and what else PS3.6 has."""
    listed = {
        int(tag, 16): Entry(int(tag, 16), vr, maximum_of(vm), keyword, basic, options)
        for tag, vr, vm, keyword, basic, options in read_table("ps315_e1_1")["rows"]
    }
    others = {
        tag: Entry(tag, vr, maximum_of(vm), keyword, "", {})
        for tag, (vr, vm, _, _, keyword) in DicomDictionary.items()
        if tag not in listed and keyword
    }
    return dict(sorted((listed | others).items()))


@cache
def code_sequences() -> frozenset[int]:
    """The sequences whose items are codes (PS3.3 8.8)."""
    return frozenset(int(tag, 16) for tag in read_table("attribute_types")["code_sequences"].split())


@cache
def types_of(sop_class: str) -> Mapping[Path, Mapping[int, str]]:
    """Path of sequences → tag → type, the strongest of the IOD's modules. Empty for an unknown class."""
    table = read_table("attribute_types")
    found: dict[Path, dict[int, str]] = {}
    iod = table["sop_classes"].get(sop_class)
    for module in table["iods"].get(iod, ()):
        for written, kinds in table["modules"][module].items():
            path = tuple(int(tag, 16) for tag in written.split("/")) if written else ()
            of_path = found.setdefault(path, {})
            for kind, tags in kinds.items():
                for tag in (int(text, 16) for text in tags.split()):
                    if STRENGTH[kind] > STRENGTH.get(of_path.get(tag, ""), 0):
                        of_path[tag] = kind
    return found


def basic_action(entry: Entry, kind: str) -> str:
    """The basic column, resolved (PS3.15 E.1.1): one of D, Z, X, U, U* or "" for an attribute it does not name."""
    choices = entry.basic.split("/")
    if len(choices) == 1:
        return entry.basic
    strongest = next(choice for choice in ("D", "U*", "Z", "X") if choice in choices)
    if kind in (UNKNOWN_PLACE, "1", "1C"):
        return strongest
    if kind in ("2", "2C"):
        return "Z" if "Z" in choices else strongest
    return "X" if "X" in choices else "Z"


def dummy(vr: str) -> bytes | None:
    """A valid value of a VR that says nothing (action D); None where there is none."""
    values = {
        "AE": b"REMOVED ",
        "AS": b"000Y",
        "CS": b"REMOVED ",
        "DA": b"19000101",
        "DS": b"0 ",
        "DT": b"19000101",
        "IS": b"0 ",
        "OB": b"\0\0",
        "OW": b"\0\0",
        "PN": b"REMOVED^",
        "TM": b"000000",
        "UI": b"2.25.0",
        "UN": b"\0\0",
        "UR": b"about:blank ",
    }
    return values.get(vr, b"REMOVED " if vr in TEXT else None)


def asked(rows: Rows, types: Mapping[int, str]) -> Rows:
    """What an IOD's types change in an allow-list: what the IOD asks for and the list does not keep stays as
    an empty value or a dummy, so that the object still is one of its class. Only where the input has it.
    """
    changed: dict[int, Row] = {}
    for tag, kind in types.items():
        row, entry = rows.get(tag), entries().get(tag)
        if entry is None or tag >> 16 in (0x0002, 0x0004):
            continue
        needed = STRENGTH[kind] > 2
        text = entry.vr in _DUMMIES or entry.tag in code_sequences()
        if row is not None and row.action in ("K", "C"):
            action: Action = "Z" if not needed else "D" if text else "X"
            changed[tag] = replace(row, fallback="D" if row.kind == "items" else action)
        elif row is not None and row.kind == "empty" and needed and text:
            changed[tag] = replace(row, action="D", rule="dummy", source=f"attribute of type {kind}")
        elif row is None and (not needed or entry.vr in _DUMMIES):
            made: Action = "D" if needed else "Z"
            rule = "dummy" if needed else None
            source = f"attribute of type {kind}"
            changed[tag] = Row(tag, entry.vr, entry.maximum, entry.keyword, made, rule, source=source)
    return changed
