"""Table E.1-1 against its sources, and every compiled row against the column it must obey.

The oracle reads the column by itself: what an action may do to a value, in the words of PS3.15 E.1.1.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from fedimg.crypto.keys import SiteKey
from fedimg.dicom.profile import load_profile, read_table
from fedimg.dicom.pseudonyms import Pseudonyms
from fedimg.dicom.refusal import Quarantined
from fedimg.dicom.walk import Walk

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT / ".." / "shared" / "data" / "dicom" / "tables" / "ps3.15_E.1-1_innolitics.json"
ROWS = read_table("ps315_e1_1")["rows"]
PSEUDONYMS = Pseudonyms(SiteKey.from_bytes(b"k" * 32), "p")
CT, MR, ENHANCED = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
MARKS = {"00100010", "00100020", "00120062", "00120063", "00120064", "00280301", "00280303"}
VRS = [
    *(
        "AE",
        "AS",
        "AT",
        "CS",
        "DA",
        "DS",
        "DT",
        "FD",
        "FL",
        "IS",
        "LO",
        "LT",
        "OB",
        "OD",
        "OF",
        "OL",
        "OV",
        "OW",
    ),
    *("PN", "SH", "SL", "SQ", "SS", "ST", "SV", "TM", "UC", "UI", "UL", "UN", "UR", "US", "UT", "UV"),
]


def script(name: str):
    specification = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_table_is_whole_and_names_its_edition():
    table = read_table("ps315_e1_1")
    assert table["edition"] == "PS3.15 E.1-1, basic column 2026c, option columns January 2025"
    assert len(table["rows"]) == 652  # 655 rows of 2026c, three of which are patterns over groups
    assert table["digest"] == script("generate_confidentiality_table").digest(table)
    tags = [row[0] for row in table["rows"]]
    assert tags == sorted(set(tags))
    newer = [row for row in table["rows"] if int(row[0], 16) not in DicomDictionary]
    assert len(newer) == 25
    assert {row[3] for row in newer} >= {"NameToUse", "GenderIdentityComment", "PersonNamesToUseSequence"}
    assert {row[4] for row in newer} == {"X"}


def test_the_option_columns_are_the_sources():
    if not SHARED.exists():
        pytest.skip("needs shared/data/dicom/tables, which is not here")
    module = script("generate_confidentiality_table")
    ours = {row[0]: row for row in ROWS}
    entries = [e for e in json.loads(SHARED.read_text()) if "X" not in e["id"].upper() and len(e["id"]) == 8]
    assert len(entries) == 617
    for entry in entries:
        row = ours[entry["id"].upper()]
        assert row[5] == {code: entry[name] for name, code in module.OPTIONS.items() if name in entry}
        assert row[4] == entry["basicProfile"]  # 2026c adds rows; it changes none of January 2025


def test_the_table_is_what_its_script_makes_of_its_sources():
    """Where the peers of the benchmark are installed, dicom-anonymizer's own file is at hand."""
    pattern = (
        ".venv*/lib/python*/site-packages/dicomanonymizer/dicom_anonymization_databases/dicomfields_2026c.py"
    )
    basic = next(iter(ROOT.glob(pattern)), None)
    if basic is None or not SHARED.exists():
        pytest.skip("needs shared/data/dicom/tables and dicom-anonymizer 2.1.0 in .venv-peers, not both here")
    assert script("generate_confidentiality_table").table(SHARED, basic) == read_table("ps315_e1_1")


def test_the_newer_column_is_read_as_data_and_never_run(tmp_path):
    source = tmp_path / "fields.py"
    source.write_text(
        "import nowhere\nX_TAGS = [(0x0010, 0x0012)]\nX_Z_U_STAR_TAGS = [(0x0008, 0x1140)]\nALL_TAGS = X_TAGS\n"
    )
    found = script("generate_confidentiality_table").basic_rows(source)
    assert found == {"00100012": "X", "00081140": "X/Z/U*"}


def test_the_shipped_vocabularies_and_types_are_what_their_scripts_write():
    codes = script("generate_code_vocabulary")
    assert read_table("codes") == codes.ordered(codes.vocabulary())
    wider = codes.vocabulary(codes.GROUPS + codes.WIDER, ("SCT", "DCM", "SRT", "UCUM", "RADLEX"))
    assert read_table("ps315_codes") == codes.ordered(wider)
    assert read_table("terms") == codes.terms(wider)
    types = pytest.importorskip("highdicom") and script("generate_attribute_types").table()
    assert read_table("attribute_types") == types


def test_no_word_of_a_descriptor_is_a_common_name():
    terms = set(read_table("terms"))
    names = [
        "WILLIS",
        "DOUGLAS",
        "WHITE",
        "BROWN",
        "GREEN",
        "YOUNG",
        "SMITH",
        "GRAY",
        "MARY",
        "JOHN",
        "ROSE",
        "LONG",
        "BAKER",
        "BENGAL",
        "KING",
        "TAYLOR",
    ]
    assert not terms & (set(names) - {"BENGAL"})
    assert {"HEAD", "CHEST", "AXIAL", "CONTRAST", "T1", "MPRAGE"} <= terms


# ------------------------------------------------------------------ every row, every stored VR

SECRET = {
    **dict.fromkeys(("LO", "SH", "ST", "LT", "UT", "UC", "AE", "CS", "UR"), b"QQSECRET"),
    "PN": b"QQSECRET^QQ ",
    "DA": b"19870612",
    "DT": b"19870612111213",
    "TM": b"111213.1",
    "AS": b"095Y",
    "DS": b"7.25",
    "IS": b"72",
    "UI": b"1.2.3.4.5.6\0",
    "SQ": b"",
}
WORDS = (b"QQSECRET", b"19870612", b"111213", b"1.2.3.4.5.6", b"095Y")


def element(tag: int, vr: str) -> RawDataElement:
    raw = SECRET.get(vr, b"\1\2\3\4\5\6\7\x08")
    if vr == "SQ":
        inner = b"\x10\x00\x10\x00PN\x0c\x00QQSECRET^QQ "
        raw = b"\xfe\xff\x00\xe0" + len(inner).to_bytes(4, "little") + inner
    return RawDataElement(Tag(tag), vr, len(raw), raw, 0, False, True)


def released(profile, tag: int, vr: str, sop_class: str):
    dataset = Dataset()
    dataset.add_new(0x00080016, "UI", sop_class)
    dataset[tag] = element(tag, vr)
    kept = Walk(profile, PSEUDONYMS).run(dataset, "FI" + "0" * 20)
    return next((e for e in kept if e.tag == tag), None)


def flat(value) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
        return
    for item in value:
        for child in item:
            yield from flat(child.value)


def obeys(basic: str, chosen: list[str], raw: bytes, found) -> bool:
    """PS3.15 E.1.1: X not there; Z there and empty, or a dummy; D there; U another UID; C, K by an option.

    Where the table leaves a choice any of it obeys, and removing always does but where a value is asked for.
    """
    if found is None:
        return basic not in {"D", "Z"}
    values = list(flat(found.value))
    if any(word in value for value in values for word in WORDS):
        return "K" in chosen and raw in values and found.vr in ("DS", "IS")
    empty = not found.value
    if empty:
        return "Z" in basic or bool(chosen)
    return bool(set(basic) & {"Z", "D", "U"}) or bool(chosen)


@pytest.mark.parametrize("name", ["ps315-basic", "ps315-research"])
@pytest.mark.parametrize("sop_class", [CT, ENHANCED, "1.2.3"], ids=["CT", "enhanced MR", "unknown"])
def test_every_row_obeys_its_column_for_every_stored_vr(name, sop_class):
    profile = load_profile(name)
    options = read_table(name)["options"]
    for tag, vr, _, keyword, basic, columns in ROWS:
        number = int(tag, 16)
        if tag in MARKS or tag == "00080016" or number >> 16 in (0, 2, 4, 0xFFFA, 0xFFFC):
            continue
        chosen = [columns[option] for option in options if option in columns]
        for stored in VRS:
            found = released(profile, number, stored, sop_class)
            raw = element(number, stored).value
            # An option keeps what is of the dictionary's VR; of anything else nothing may be left.
            fits = stored in vr.split(" or ") or (stored == "UN" and vr == "SQ")
            assert obeys(basic, chosen if fits else [], raw, found), (keyword, basic, stored, found)


@pytest.mark.parametrize(
    ("keyword", "sop_class", "action"),
    [
        ("SeriesDate", CT, "X"),  # X/D, type 3 in CT
        ("ContentDate", CT, "Z"),  # Z/D, type 2C
        ("ContentDate", ENHANCED, "D"),  # Z/D, type 1
        ("DeviceSerialNumber", CT, "X"),  # X/Z/D, type 3
        ("DeviceSerialNumber", ENHANCED, "D"),  # X/Z/D, type 1 in Enhanced General Equipment
        ("ContrastBolusAgent", CT, "Z"),  # Z/D, type 2
        ("InstitutionName", CT, "X"),  # X/Z/D
        ("InstitutionName", "1.2.3", "D"),  # an unknown class: D over Z over X
        ("AcquisitionDate", "1.2.3", "Z"),  # X/Z
        ("ReferencedImageSequence", CT, "X"),  # X/Z/U*, type 3
        ("ReferencedImageSequence", "1.2.3", "K"),  # U* over Z over X
    ],
)
def test_a_choice_is_made_by_the_type_in_the_iod(keyword, sop_class, action):
    root = load_profile("ps315-basic").root(sop_class)
    tag = next(tag for tag, entry in DicomDictionary.items() if entry[4] == keyword)
    assert root.get(tag).action == action


def test_types_are_known_below_kept_sequences():
    root = load_profile("ps315-basic").root(ENHANCED)
    groups = root.inside(root.get(0x52009230))
    content = groups.inside(groups.get(0x00209111))
    assert content.name == "52009230/00209111"
    assert content.get(0x00189151).action == "D"  # FrameReferenceDateTime: D


def test_attributes_that_no_row_names_stay_only_by_their_form():
    """Default-deny, judged by the dictionary's VR alone."""
    profile = load_profile("ps315-basic")
    named = {int(row[0], 16) for row in ROWS}
    rows = profile.contexts["item"]
    numeric = {"DS", "IS", "US", "SS", "UL", "SL", "FL", "FD", "AT", "SV", "UV"}
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if tag in named or f"{tag:08X}" in MARKS or not keyword:
            continue
        row = rows[tag]
        if tag >> 16 in (0, 2, 4, 0xFFFE):
            assert row.action == "X", keyword
        elif row.action == "K":
            registered = vr == "UI" and row.rule == "registered"
            luts = "OW" in vr and "L" in keyword
            assert registered or luts or vr == "SQ" or set(vr.split(" or ")) <= numeric | {"OW"}, keyword
        elif row.action == "C":
            assert row.allowed or row.rule == "code", keyword
        else:
            assert row.action in ("X", "U"), keyword
            assert row.action != "U" or vr == "UI", keyword


def test_a_whole_table_can_be_listed():
    profile = load_profile("ps315-basic")
    listed = list(profile.table([CT]))
    assert len(listed) > 5000
    assert len({(row.context, row.tag) for row in listed}) == len(listed)
    names = {row.context for row in listed}
    assert {"item", "code", f"{CT}/"} <= names
    name = next(row for row in listed if row.context == "item" and row.keyword == "PatientBirthDate")
    assert (name.tag, name.vr, name.action, name.source) == ("(0010,0030)", "DA", "Z", "E.1-1, basic Z")


def test_depth_is_bounded():
    profile = load_profile("ps315-basic")
    dataset = Dataset()
    dataset.PatientComments = "x"
    for _ in range(14):
        outer = Dataset()
        outer.PrivateInformation = b""
        outer.ContributingEquipmentSequence = [dataset]
        dataset = outer
    with pytest.raises(Quarantined, match="sequences nested deeper than 12"):
        Walk(profile, PSEUDONYMS).run(dataset)
