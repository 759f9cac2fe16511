"""Write fedimg/dicom/tables/ps315_e1_1.json: Table E.1-1 of PS3.15 with its option columns.

    scripts/generate_confidentiality_table.py OPTIONS BASIC

OPTIONS is the table as JSON, January 2025, with every option column (innolitics/dicom-standard,
`standard/confidentiality_profile_attributes.json`). BASIC is the newer basic column, edition 2026c, as
`dicom_anonymization_databases/dicomfields_2026c.py` of PyPI's dicom-anonymizer 2.1.0; it is read as
data and never imported. Where the two name one tag the basic column of BASIC counts. Only facts of
the standard are taken. Review the difference and commit the file: its digest stands in every receipt.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydicom._dicom_dict import DicomDictionary

TARGET = Path(__file__).resolve().parent.parent / "fedimg" / "dicom" / "tables" / "ps315_e1_1.json"
# Column of OPTIONS → code of the option in CID 7050 (PS3.16).
OPTIONS = {
    "cleanGraphOpt": "113103",
    "cleanStructContOpt": "113104",
    "cleanDescOpt": "113105",
    "rtnLongFullDatesOpt": "113106",
    "rtnLongModifDatesOpt": "113107",
    "rtnPatCharsOpt": "113108",
    "rtnDevIdOpt": "113109",
    "rtnUIDsOpt": "113110",
    "rtnSafePrivOpt": "113111",
    "rtnInstIdOpt": "113112",
}
BASIC = {
    "X_TAGS": "X",
    "Z_TAGS": "Z",
    "D_TAGS": "D",
    "U_TAGS": "U",
    "X_Z_TAGS": "X/Z",
    "X_D_TAGS": "X/D",
    "Z_D_TAGS": "Z/D",
    "X_Z_D_TAGS": "X/Z/D",
    "X_Z_U_STAR_TAGS": "X/Z/U*",
}
# Attributes of PS3.6 that are younger than pydicom 3.0.2's dictionary: VR, VM, keyword.
NEWER = {
    "00081301": ("SQ", "1", "PrincipalDiagnosisCodeSequence"),
    "00081302": ("SQ", "1", "PrimaryDiagnosisCodeSequence"),
    "00081303": ("SQ", "1", "SecondaryDiagnosesCodeSequence"),
    "00081304": ("SQ", "1", "HistologicalDiagnosesCodeSequence"),
    "00100011": ("SQ", "1", "PersonNamesToUseSequence"),
    "00100012": ("LT", "1", "NameToUse"),
    "00100013": ("UT", "1", "NameToUseComment"),
    "00100014": ("SQ", "1", "ThirdPersonPronounsSequence"),
    "00100015": ("SQ", "1", "PronounCodeSequence"),
    "00100016": ("UT", "1", "PronounComment"),
    "00100041": ("SQ", "1", "GenderIdentitySequence"),
    "00100042": ("UT", "1", "SexParametersForClinicalUseCategoryComment"),
    "00100043": ("SQ", "1", "SexParametersForClinicalUseCategorySequence"),
    "00100044": ("SQ", "1", "GenderIdentityCodeSequence"),
    "00100045": ("UT", "1", "GenderIdentityComment"),
    "00100046": ("SQ", "1", "SexParametersForClinicalUseCategoryCodeSequence"),
    "00100047": ("UR", "1-n", "SexParametersForClinicalUseCategoryReference"),
    "00102162": ("UC", "1-n", "EthnicGroups"),
    "0040A034": ("DT", "1", "EffectiveStartDateTime"),
    "0040A035": ("DT", "1", "EffectiveStopDateTime"),
    "0040B034": ("DT", "1", "AnnotationDateTime"),
    "0040B036": ("DT", "1", "SegmentDefinitionDateTime"),
    "0040B03B": ("LO", "1", "MontageName"),
    "0040B03F": ("SH", "1", "MontageChannelLabel"),
    "0040E012": ("UR", "1", "DisplayURI"),
}
# What both sources write as patterns over groups; the engine drops these groups whole.
PATTERNS = ("50xx....", "60xx3000", "60xx4000", "private")


def option_rows(path: Path) -> dict[str, dict[str, str]]:
    """Tag → {"basic": …, code of option: action} of the January 2025 table; patterns are left out."""
    rows = {}
    for entry in json.loads(path.read_text(encoding="utf-8")):
        tag = entry["id"].upper()
        if len(tag) == 8 and all(character in "0123456789ABCDEF" for character in tag):
            chosen = {code: entry[column] for column, code in OPTIONS.items() if column in entry}
            rows[tag] = {"basic": entry["basicProfile"], **chosen}
    return rows


def basic_rows(path: Path) -> dict[str, str]:
    """Tag → action of the basic column of 2026c, from the lists of the module's source."""
    rows = {}
    for name, tags in _lists(ast.parse(path.read_text(encoding="utf-8"))):
        for tag in tags:
            if len(tag) == 2 and all(isinstance(part, int) for part in tag):
                rows[f"{tag[0]:04X}{tag[1]:04X}"] = BASIC[name]
    return rows


def _lists(tree: ast.Module) -> Iterator[tuple[str, list[Any]]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in BASIC:
                yield name, ast.literal_eval(node.value)


def _known(tag: str) -> tuple[str, str, str]:
    entry = DicomDictionary.get(int(tag, 16))
    if entry is not None:
        return entry[0], entry[1], entry[4]
    return NEWER[tag]  # KeyError: a tag that nobody has looked up yet


def table(options: Path, basic: Path) -> dict[str, Any]:
    """The shipped table."""
    older, newer = option_rows(options), basic_rows(basic)
    rows = []
    for tag in sorted(older.keys() | newer.keys()):
        vr, multiplicity, keyword = _known(tag)
        entry = older.get(tag, {})
        chosen = {code: action for code, action in sorted(entry.items()) if code != "basic"}
        rows.append([tag, vr, multiplicity, keyword, newer.get(tag, entry.get("basic", "")), chosen])
    body: dict[str, Any] = {
        "table": "PS3.15 Table E.1-1, Application Level Confidentiality Profile Attributes",
        "edition": "PS3.15 E.1-1, basic column 2026c, option columns January 2025",
        "sources": {
            "options": f"innolitics/dicom-standard, January 2025, MIT; sha256 {_sha256(options)}",
            "basic": f"dicom-anonymizer 2.1.0, dicomfields_2026c.py, BSD-3-Clause; sha256 {_sha256(basic)}",
        },
        "columns": ["tag", "VR", "VM", "keyword", "basic", "options by code of CID 7050"],
        "patterns": list(PATTERNS),
        "rows": rows,
    }
    return body | {"digest": digest(body)}


def digest(body: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of everything but the digest itself."""
    kept = {key: value for key, value in body.items() if key != "digest"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def text(body: Mapping[str, Any]) -> str:
    """One row a line, so that a difference can be reviewed."""
    rows = ",\n".join(" " + json.dumps(row) for row in body["rows"])
    heads = {key: value for key, value in body.items() if key != "rows"}
    return json.dumps(heads, indent=0)[:-2] + ',\n"rows": [\n' + rows + "\n]\n}\n"


def main() -> None:
    body = table(Path(sys.argv[1]), Path(sys.argv[2]))
    TARGET.write_text(text(body), encoding="ascii")
    print(f"{len(body['rows'])} rows, {body['digest']}")


if __name__ == "__main__":
    main()
