"""Write fedimg/dicom/tables/codes.json: the anatomy, view and radionuclide codes a release may hold.

Source: the context groups of PS3.16 as pydicom carries them, with the retired SNOMED-RT
identifiers of the same concepts. Run it after an update of
pydicom, review the difference, commit the file: its digest stands in every receipt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping

# PS3.16: anatomic modifier and region, isotopes, lateralities, DX / mammography / intra-oral views and
# regions, PET radionuclides, craniofacial and common regions, endoscopy regions, cardiac views.
GROUPS: tuple[int, ...] = (
    2,
    4,
    18,
    27,
    244,
    245,
    247,
    4005,
    4010,
    4011,
    4013,
    4014,
    4015,
    4016,
    4017,
    4018,
    4019,
    4020,
    4026,
)
GROUPS += (4028, 4031, 4040, 7483, 7484)
# Codes that earlier editions of CID 4 held and that most archives are full of.
SUPERSEDED = {"51185008": "Chest", "113345001": "Abdomen", "12921003": "Pelvis"}
TARGET = Path(__file__).resolve().parent.parent / "fedimg" / "dicom" / "tables" / "codes.json"

_Concepts = Mapping[str, Mapping[str, Mapping[str, tuple[str, list[int]]]]]


def vocabulary() -> dict[str, dict[str, str]]:
    """Coding scheme → code value → code meaning (ASCII, at most 64 characters)."""
    schemes: dict[str, dict[str, str]] = {"SCT": {}, "DCM": {}, "SRT": {}}
    for group in GROUPS:
        groups_of = cast("Mapping[str, list[str]]", cid_concepts[group])
        for scheme, keywords in groups_of.items():
            for keyword in keywords if scheme in schemes else ():
                for code, (meaning, groups) in cast("_Concepts", concepts)[scheme][keyword].items():
                    if group in groups and len(code) <= 16:
                        schemes[scheme][code] = meaning.encode("ascii", "ignore").decode()[:64].strip()
    schemes["SCT"] |= SUPERSEDED
    for code, meaning in schemes["SCT"].items():
        retired = mapping["SCT"].get(code)
        if retired and len(retired) <= 16:
            schemes["SRT"][retired] = meaning
    return schemes


def main() -> None:
    schemes = {scheme: dict(sorted(codes.items())) for scheme, codes in sorted(vocabulary().items())}
    TARGET.write_text(json.dumps(schemes, indent=0) + "\n", encoding="ascii")
    print({scheme: len(codes) for scheme, codes in schemes.items()})


if __name__ == "__main__":
    main()
