"""Write the closed vocabularies of codes and of descriptors.

- fedimg/dicom/tables/codes.json: the anatomy, view and radionuclide codes that `train` may hold.
- fedimg/dicom/tables/ps315_codes.json: those, and the codes of agents, units, procedures, ultrasound
  and acquisition that the PS3.15 profiles may hold beside them.
- fedimg/dicom/tables/terms.json: the words that a cleaned descriptor may hold: those that the meanings of
  these codes write in lower case (so that no eponym is one), reviewed words of protocols, and
  none that is common as a person's name.

Source: the context groups of PS3.16 as pydicom carries them, with the retired SNOMED-RT
identifiers of the same concepts. Run it after an update of
pydicom, review the difference, commit the file: its digest stands in every receipt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping

# PS3.16: anatomic modifier and region, isotopes, lateralities, DX / mammography / intra-oral views and
# regions, PET radionuclides, craniofacial and common regions, endoscopy regions, phantoms, cardiac views.
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
GROUPS += (4028, 4031, 4040, 4052, 7483, 7484)
# Codes that earlier editions of CID 4 held and that most archives are full of.
SUPERSEDED = {"51185008": "Chest", "113345001": "Abdomen", "12921003": "Pelvis"}
# PS3.16 beside them: ultrasound, positions, administration, contrast agents, modalities, functional states,
# units, procedures, radiopharmaceuticals, cardiac protocols, ophthalmic devices, X-Ray filters and dose.
WIDER: tuple[int, ...] = (
    5,
    6,
    7,
    11,
    12,
    13,
    19,
    20,
    21,
    25,
    29,
    62,
    63,
    83,
    84,
    85,
    91,
    92,
    93,
    94,
    100,
    101,
)
WIDER += (501, 502, 3083, 3101, 3104, 3106, 3107, 3108, 3110, 3111, 3200, 3204, 3207, 3261, 3429, 3472, 3823)
WIDER += (
    3850,
    4021,
    4111,
    4200,
    4202,
    4204,
    4207,
    4210,
    6312,
    7003,
    7202,
    7203,
    7260,
    7456,
    7460,
    7461,
    7462,
)
WIDER += (
    8201,
    10006,
    10007,
    10013,
    10014,
    10025,
    10032,
    11003,
    12001,
    12002,
    12030,
    12032,
    12033,
    12034,
    12035,
)
WIDER += (12224, 12226, 12233, 12234)
# Words of series and protocol descriptions that no context group spells.
PROTOCOL_WORDS = """
2D 3D 4D ABD ABDO ABDOMEN ABDOMINAL AC ADC ADULT ANGIO ANGIOGRAPHY ANKLE AORTA AP APEX ARTERIAL ASIR ATTN AX AXIAL
AXL BASE BH BILAT BILATERAL BLOOD BODY BOLUS BONE BRAIN BREAST BREATHHOLD BW CARDIAC CAROTID CAP CC CHEST CINE CLIN CLIP
COLON CONTRAST COR CORONAL COR CORRECTED CR CRANIAL CSPINE CT CTA CTAC CTP CXR DCE DELAYED DERIVED DIFFUSION DIR
DIXON DOPPLER DUAL DWI DX DYN DYNAMIC EARLY ECHO ELBOW EMISSION ENERGY ENHANCED EPI EQUILIBRIUM ERECT EXAM EXPIRATION
EXTREMITY FAST FAT FATSAT FEMUR FDG FIELDMAP FIESTA FILTERED FINGER FIRST FLAIR FLASH FLUORO FMRI FOOT FOREARM
FRONTAL FS FSE FSPGR FULL FUNCTIONAL GAD GRE HAND HASTE HEAD HEART HELICAL HIP HIRES HR HRCT HUMERUS IMAGE IMAGES INJ
INSPIRATION IR IV KIDNEY KNEE KUB LAT LATE LATERAL LAVA LEFT LEG LIMB LIVER LOC LOCALIZER LOW LSPINE LUMBAR LUNG MAG
MAGNITUDE MAMMO MAMMOGRAPHY MASK MAXIP MEDIASTINUM MIP MINIP ML MLO MONO MOTION MPR MPRAGE MR MRA MRCP MRI MRV MULTI
NAC NATIVE NC NECK NO NON NORMAL OBL OBLIQUE OPEN ORBIT PA PANCREAS PARALLEL PART PD PE PEDIATRIC PELVIS PERF PERFUSION
PET PHASE PHANTOM PLAIN PORTABLE PORTAL POST PRE PRONE PROPELLER PROSTATE PROTOCOL RADIOGRAPH RECON REFORMAT RENAL REST
RESTING RETRO RIGHT ROUTINE SAG SAGITTAL SAT SCAN SCOUT SE SEGMENT SELLA SENSE SEQUENCE SERIES SHOULDER SINUS SKULL
SLICE SLICES SMOOTH SOFT SPACE SPAIR SPECT SPGR SPINE SPIRAL SPLEEN STANDARD STANDING STATIC STD STIR STRESS STUDY
SUBTRACTION SUPINE SURVEY SWI SWIRL T1 T1W T2 T2STAR T2W TFE THICK THIN THORAX THYROID TIBIA TIRM TISSUE TOF TOPOGRAM
TRA TRACE TRACEW TRANS TRANSVERSE TSE TSPINE TUMOR UNENHANCED UPPER LOWER UPRIGHT US ULTRASOUND VEIN VENOUS VIBE VIEW VIEWS
VOL VOLUME WB WHOLE WITH WITHOUT WO WRIST XA XR XRAY YES
"""
# Words of anatomy, colours and numbers that are also common family or given names: never in a descriptor.
NAME_WORDS = """
ALLEN ARCH BACH BANKS BARRETT BEACH BELL BERRY BIRD BISHOP BLACK BLUE BOND BOWMAN BRANCH BROOK BROWN BUSH CARTER CARR
CHAIN CHRISTIAN CHURCH CLAY COLES COLE COOK COOPER CROSS DAWN DAY DEAN DRAKE DUKE EVE FAITH FIELD FISHER FLOWERS FORD
FOREST FOX FRANK FRENCH FROST GATES GAY GENE GLASS GOLD GRACE GRANT GRAVES GRAY GREEN GREY GUNN HALL HARDY HAY HEATH
HERB HILL HOLLY HOPE HORN HUNT IRIS IVY JACK JADE JEAN JOY JUNE KELLY KEY KING KNIGHT LAKE LANCE LANE LAW LEE LI LILY LONG LOVE
MA MARK MARSH MASON MAY MAYER MILLER MOON MOORE NASH NIGHT NOBLE NORTH OLIVE PAGE PALMER PARK PARKER PEARL PENNY PETER
PIERCE POOL POPE PORTER PRICE RAY REED RICE RICH RIVER ROBIN ROSE RUBY SAGE SALT SHARP SHORT SKY SMALL SMITH SPARK SPRING
STAR STONE STREET STRONG SUMMER SUN TAYLOR TEMPLE TURNER UNDERWOOD VIOLET WALKER WALL WARD WATER WATERS WAY WELLS WEST WHEELER
WHITE WILL WINTER WISE WOLF WOOD WOODS WRIGHT YOUNG
"""
TABLES = Path(__file__).resolve().parent.parent / "fedimg" / "dicom" / "tables"
TARGET = TABLES / "codes.json"
WORD = re.compile(r"[A-Za-z]{3,}")

_Concepts = Mapping[str, Mapping[str, Mapping[str, tuple[str, list[int]]]]]


def vocabulary(
    wanted: tuple[int, ...] = GROUPS, designators: tuple[str, ...] = ("SCT", "DCM", "SRT")
) -> dict[str, dict[str, str]]:
    """Coding scheme → code value → code meaning (ASCII, at most 64 characters)."""
    schemes: dict[str, dict[str, str]] = {designator: {} for designator in designators}
    for group in wanted:
        groups_of = cast("Mapping[str, list[str]]", cid_concepts.get(group, {}))
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


def terms(schemes: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Upper-case words for descriptors."""
    lower_case = {
        word
        for scheme in cast("_Concepts", concepts).values()
        for keyword in scheme.values()
        for meaning, _ in keyword.values()
        for word in WORD.findall(meaning)
        if word.islower()
    }
    spelled = {
        word for codes in schemes.values() for meaning in codes.values() for word in WORD.findall(meaning)
    }
    medical = {word.upper() for word in spelled if word.lower() in lower_case}
    return sorted((medical | set(PROTOCOL_WORDS.split())) - set(NAME_WORDS.split()))


def ordered(schemes: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """The same with schemes and codes in order, as it is written."""
    return {scheme: dict(sorted(codes.items())) for scheme, codes in sorted(schemes.items())}


def main() -> None:
    wider = vocabulary(GROUPS + WIDER, ("SCT", "DCM", "SRT", "UCUM", "RADLEX"))
    tables: dict[str, Any] = {
        "codes": ordered(vocabulary()),
        "ps315_codes": ordered(wider),
        "terms": terms(wider),
    }
    for name, table in tables.items():
        (TABLES / f"{name}.json").write_text(json.dumps(table, indent=0) + "\n", encoding="ascii")
        print(
            name, len(table) if isinstance(table, list) else {key: len(codes) for key, codes in table.items()}
        )


if __name__ == "__main__":
    main()
