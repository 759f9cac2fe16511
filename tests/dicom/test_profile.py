"""The tables against the dictionary of PS3.6 as pydicom carries it, and what a bad table meets."""

from __future__ import annotations

import pytest
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag

from fedimg.dicom import profile as module
from fedimg.dicom.profile import load_profile, registered_uids
from fedimg.errors import ConfigError

PROFILE = load_profile("train")
ROWS = [(name, row) for name, rows in PROFILE.contexts.items() for row in rows.values()]
TEXT_VRS = {"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UN", "UR", "UT", "DA", "DT", "TM"}


@pytest.mark.parametrize(("context", "row"), ROWS, ids=[f"{name}-{row.keyword}" for name, row in ROWS])
def test_every_row_is_the_dictionarys(context, row):
    assert keyword_for_tag(row.tag) == row.keyword
    assert dictionary_VR(row.tag) == row.vr
    last = dictionary_VM(row.tag).rpartition("-")[2]
    assert row.maximum == (int(last) if last.isdigit() else None)


def test_no_free_text_person_date_or_private_attribute_keeps_a_value():
    for context, row in ROWS:
        assert row.tag >> 16 & 1 == 0 and row.tag >> 16 not in (0x0002, 0x0004, 0x5000, 0x6000)
        if row.vr in TEXT_VRS:
            free = row.action not in ("D", "Z") and row.allowed is None and context != "code"
            assert not free, row.keyword
        if row.vr == "CS":
            assert row.action == "D" or row.allowed, row.keyword


def test_every_uid_keyword_has_a_reviewed_role():
    roles = module.read_table("uid_roles")
    assert set(roles) == {entry[4] for entry in DicomDictionary.values() if entry[0] == "UI"}
    assert set(roles.values()) == {"keyed", "registered", "dropped"}
    # Names that end alike do not share a role: the reason why roles are listed.
    assert roles["CreatorVersionUID"] == "dropped" and roles["SOPClassUID"] == "registered"


def test_uids_that_the_standard_replaces_are_keyed():
    """E.1-1's U and its registered classes against the reviewed roles; what is registered is never keyed."""
    roles = module.read_table("uid_roles")
    replaced = {row[3] for row in module.read_table("ps315_e1_1")["rows"] if row[4] == "U"}
    assert {roles[keyword] for keyword in replaced if keyword in roles} == {"keyed"}
    assert replaced - set(roles) == set()
    for keyword, role in roles.items():
        assert role != "registered" or "Class" in keyword or "TransferSyntax" in keyword or keyword in {
            "CodingSchemeUID", "ContextUID", "MappingResourceUID",
        }, keyword  # fmt: skip


def test_kept_uids_are_public_constants():
    assert "1.2.840.10008.5.1.4.1.1.2" in registered_uids()
    assert "1.2.3.4" not in registered_uids()


def test_codes_have_the_vocabularys_meaning():
    assert PROFILE.meaning("SCT", "51185008") == PROFILE.meaning("SRT", "T-D3000") == "Chest"
    assert PROFILE.meaning("99SDM", "T-D3000") == "Chest"
    assert PROFILE.meaning("SCT", "123456789") is None
    assert PROFILE.meaning("99LOCAL", "51185008") is None


def test_the_digest_covers_every_table(monkeypatch):
    original = module.read_table
    seen = {PROFILE.digest}
    changes = {
        "train": lambda table: table["vocabularies"]["sex"].append("X"),
        "codes": lambda table: table["DCM"].update({"1": "Other"}),
        "uid_roles": lambda table: table.update({"TargetUID": "dropped"}),
    }
    for changed, change in changes.items():

        def read(name, changed=changed, change=change):
            table = original(name)
            if name == changed:
                change(table)
            return table

        monkeypatch.setattr(module, "read_table", read)
        seen.add(load_profile.__wrapped__("train").digest)
    assert len(seen) == 4


@pytest.mark.parametrize(
    "row",
    [
        ["00090010", "LO", "1", "Private", "K"],
        ["00100010", "PN", "1", "PatientName", "K"],
        ["00081030", "LO", "1", "StudyDescription", "C", "no such vocabulary"],
        ["0020000D", "UI", "1", "StudyInstanceUID", "K", "registered"],
        ["00080016", "UI", "1", "SOPClassUID", "U"],
        ["00186011", "SQ", "1", "SequenceOfUltrasoundRegions", "K", "no such context"],
        ["00041500", "CS", "1-8", "ReferencedFileID", "C", "sex"],
    ],
    ids=["private", "person", "vocabulary", "kept instance", "keyed class", "context", "directory"],
)
def test_a_table_that_contradicts_itself_is_refused(row, monkeypatch):
    original = module.read_table

    def read(name):
        table = original(name)
        if name == "train":
            table["contexts"]["root"] = [r for r in table["contexts"]["root"] if r[0] != row[0]] + [row]
        return table

    monkeypatch.setattr(module, "read_table", read)
    with pytest.raises(ConfigError, match=f"found {row[3]} in context root; restore the shipped table"):
        load_profile.__wrapped__("train")


def test_an_unknown_profile_is_refused_by_name():
    with pytest.raises(ConfigError) as error:
        load_profile("trian")
    assert str(error.value) == (
        "expected a profile among train, ps315-basic, ps315-research; found another name; choose one of them"
    )
