"""Write fedimg/dicom/tables/attribute_types.json: which attribute an image object must have.

Source: the IOD, module and attribute tables of PS3.3 and PS3.4 as highdicom (MIT) ships them, for the
SOP classes that a release may hold. They decide what becomes of `X/Z/D` and its kin in Table E.1-1
of PS3.15, and what stands in the place of a value that was refused. Run it after an update of
highdicom, review the difference, commit the file: its digest stands in every receipt.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword

TABLES = Path(__file__).resolve().parent.parent / "fedimg" / "dicom" / "tables"
TARGET = TABLES / "attribute_types.json"
# Retired classes that archives are full of, and the IOD that took their place.
RETIRED = {
    "1.2.840.10008.5.1.4.1.1.6": "ultrasound-image",
    "1.2.840.10008.5.1.4.1.1.3": "ultrasound-multi-frame-image",
}
TYPES = ("1", "1C", "2", "2C")  # what is of type 3 needs no row


def standard(name: str) -> Any:
    """One of highdicom's tables."""
    return json.loads(files("highdicom").joinpath("_standard", name).read_text(encoding="utf-8"))


def code_sequences(modules: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """Tags of the sequences whose items are codes (PS3.3 8.8), in any module."""
    found = set()
    for attributes in modules.values():
        for attribute in attributes:
            if attribute["keyword"] == "CodeValue" and attribute["path"]:
                found.add(attribute["path"][-1])
    return sorted(tag for keyword in found if (tag := _tag(keyword)) is not None)


def module_types(attributes: Iterable[dict[str, Any]], opaque: frozenset[str]) -> dict[str, dict[str, str]]:
    """Path of tags ("" at the top) → type → tags, joined by spaces. Nothing below `opaque` sequences."""
    rows: dict[str, dict[str, set[str]]] = {}
    for attribute in attributes:
        tag, path = _tag(attribute["keyword"]), [_tag(keyword) for keyword in attribute["path"]]
        if tag is None or None in path or attribute["type"] not in TYPES or opaque & set(path):
            continue
        rows.setdefault("/".join(map(str, path)), {}).setdefault(attribute["type"], set()).add(tag)
    return {
        path: {kind: " ".join(sorted(tags)) for kind, tags in sorted(kinds.items())}
        for path, kinds in sorted(rows.items())
    }


def _tag(keyword: str) -> str | None:
    tag = tag_for_keyword(keyword)
    return None if tag is None else f"{tag:08X}"


def removed_sequences() -> set[str]:
    """Sequences that go under every option: what is in them needs no type."""
    rows = json.loads((TABLES / "ps315_e1_1.json").read_text(encoding="utf-8"))["rows"]
    return {
        tag
        for tag, vr, _, _, basic, options in rows
        if vr == "SQ" and basic in ("X", "Z", "D") and not options
    }


def table() -> dict[str, Any]:
    """The shipped table."""
    classes = json.loads((TABLES / "train.json").read_text(encoding="utf-8"))["object_types"]
    iod_of = standard("sop_class_iod_map.json") | RETIRED
    modules_of, modules = standard("iod_module_map.json"), standard("module_attribute_map.json")
    codes = code_sequences(modules)
    opaque = frozenset(codes) | removed_sequences()
    iods = {iod_of[uid]: [entry["key"] for entry in modules_of[iod_of[uid]]] for uid in classes}
    used = sorted({module for of_iod in iods.values() for module in of_iod})
    return {
        "table": "attribute types of PS3.3 for the image classes of PS3.4 that a release may hold",
        "edition": f"PS3.3 as in highdicom {version('highdicom')} (MIT)",
        "columns": "module: path of tags: type: tags",
        "code_sequences": " ".join(codes),
        "sop_classes": {uid: iod_of[uid] for uid in sorted(classes)},
        "iods": dict(sorted(iods.items())),
        "modules": {module: module_types(modules.get(module, ()), opaque) for module in used},
    }


def main() -> None:
    body = table()
    TARGET.write_text(json.dumps(body, indent=0) + "\n", encoding="ascii")
    print(f"{len(body['iods'])} IODs, {len(body['modules'])} modules, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
