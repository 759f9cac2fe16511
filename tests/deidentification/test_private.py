"""Private attributes: no block is trusted for its name."""

from __future__ import annotations

import base64
import struct
import zlib

import pytest
from hospital import take
from images import ct, in_syntax, mr
from planting import Plant
from rawdicom import IMPLICIT, NATIVE, E, e, encode


@pytest.mark.parametrize("syntax", NATIVE)
def test_private_at_the_top(tmp_path, profile, syntax):
    plant = Plant()
    vrs = ("LO", "SH", "PN", "LT", "UT", "DA", "UI", "UN", "OB", "DT", "AE")
    values = [E(0x00291000 + n, vr, plant.of(vr, vr)) for n, vr in enumerate(vrs)]
    numeric = (E(0x00291050, "DS", plant.number("DS")), E(0x00291051, "IS", plant.number("IS")))
    file = in_syntax(ct().having(E(0x00290010, "LO", "ACME MEDICAL"), *values, *numeric), syntax)
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_private_nested_in_a_kept_sequence(tmp_path, profile):
    plant = Plant()
    item = [
        e("CodeValue", "39607008"),
        e("CodingSchemeDesignator", "SCT"),
        e("CodeMeaning", "Lung"),
        E(0x00290010, "LO", "ACME MEDICAL"),
        E(0x00291001, "LO", plant.text("nested")),
        E(0x00291002, "SQ", [[e("PatientName", plant.name("deeper"))]]),
    ]
    taken = take(tmp_path, ct().having(e("AnatomicRegionSequence", [item])), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_private_sequence_holding_a_public_name(tmp_path, profile):
    plant = Plant()
    item = [
        e("PatientName", plant.name("PN")),
        e("PatientID", plant.number("LO")),
        e("StudyDate", plant.day("DA")),
    ]
    inner = encode(item, IMPLICIT)
    hidden = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    file = ct().having(
        E(0x00290010, "LO", "ACME MEDICAL"), E(0x00291001, "SQ", [item]), E(0x00291002, "UN", hidden)
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_private_orphans_without_a_creator(tmp_path, profile):
    plant = Plant()
    file = ct().having(
        E(0x00291001, "LO", plant.text("no creator")),
        E(0x0031AA01, "PN", plant.name("no creator, high block")),
        E(0x00290001, "LO", plant.text("below the blocks")),
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_phi_as_a_private_creator(tmp_path, profile):
    plant = Plant()
    creators = [E(0x00290010 + n, "LO", plant.text(f"creator {n}")) for n in range(3)]
    file = ct().having(
        *creators, E(0x00291001, "LO", "harmless"), E(0x0033001F, "PN", plant.name("PN creator"))
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_two_creators_swapping_blocks(tmp_path, profile):
    """What is safe at (0019,xx0C) of one creator is a name at the same place of the other."""
    plant = Plant()
    safe, other = "SIEMENS MR HEADER", "ACME MEDICAL"
    files = [
        mr(SOPInstanceUID=f"1.2.3.{turn}").having(
            E(0x00190010 + turn, "LO", safe),
            E(0x00190011 - turn, "LO", other),
            E(0x0019100C, "IS", "1000" if not turn else plant.number("b value of another")),
            E(0x0019110C, "IS", plant.number("a number at 0C") if not turn else "1000"),
            E(0x0019100D, "CS", plant.word(f"block 10, turn {turn}")[:16]),
            E(0x0019110D, "LO", plant.text(f"block 11, turn {turn}")),
        )
        for turn in (0, 1)
    ]
    taken = take(tmp_path, *files, profile=profile)
    assert taken.leaks(plant.secrets) == []


# Safe private attributes of PS3.15 table E.3.10-1: (group, creator, element, its VR).
SAFE = [
    (0x0019, "SIEMENS MR HEADER", 0x0C, "IS"),
    (0x0019, "SIEMENS MR HEADER", 0x0E, "FD"),
    (0x0043, "GEMS_PARM_01", 0x27, "SH"),
    (0x0043, "GEMS_PARM_01", 0x6F, "DS"),
    (0x2001, "Philips Imaging DD 001", 0x03, "FL"),
    (0x2005, "Philips MR Imaging DD 001", 0x0D, "FL"),
    (0x7053, "Philips PET Private Group", 0x00, "DS"),
    (0x00E1, "ELSCINT1", 0x21, "DS"),
    (0x01F1, "ELSCINT1", 0x26, "DS"),
    (0x0019, "GEMS_ACQU_01", 0x23, "DS"),
]


@pytest.mark.parametrize("vr", ["LO", "PN", "UN", "OB", "SH", "LT"])
def test_safe_creator_with_a_wrong_vr(tmp_path, profile, vr):
    plant = Plant()
    elements = []
    for n, (group, creator, element, _) in enumerate(SAFE):
        block = 0x10 + sum(g == group for g, *_ in SAFE[:n])
        elements.append(E(group << 16 | block, "LO", creator))
        elements.append(E(group << 16 | block << 8 | element, vr, plant.of(vr, f"{creator} {element:02X}")))
    taken = take(tmp_path, mr().having(*elements), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_safe_private_attribute_that_holds_text_instead_of_its_number(tmp_path, profile):
    plant = Plant()
    elements = []
    for n, (group, creator, element, vr) in enumerate(SAFE):
        block = 0x10 + sum(g == group for g, *_ in SAFE[:n])
        value = plant.text(f"{creator} {element:02X}").encode()
        elements.append(E(group << 16 | block, "LO", creator))
        elements.append(E(group << 16 | block << 8 | element, vr, value[: len(value) // 8 * 8]))
        plant.secrets.pop(f"{creator} {element:02X}") if len(value) % 8 else None
    taken = take(tmp_path, mr().having(*elements), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert len(taken.released) + len(taken.reasons) == 1


def csa_header(pairs: dict[str, str]) -> bytes:
    """A Siemens CSA2 header: 'SV10', then tags of 84 bytes with their items."""
    out = b"SV10\4\3\2\1" + struct.pack("<II", len(pairs), 77)
    for name, value in pairs.items():
        out += name.encode().ljust(64, b"\0") + struct.pack("<I4sIII", 1, b"LO\0\0", 0, 1, 77)
        data = value.encode() + b"\0"
        out += struct.pack("<4I", len(data), len(data), 77, len(data)) + data + b"\0" * (-len(data) % 4)
    return out


@pytest.mark.parametrize("syntax", NATIVE[:2])
def test_siemens_csa_headers(tmp_path, profile, syntax):
    plant = Plant()
    image = csa_header(
        {"PatientName": plant.name("image header"), "UsedPatientWeight": plant.number("weight")}
    )
    protocol = f'### ASCCONV BEGIN ###\ntPatientName = ""{plant.name("ASCCONV")}""\n### ASCCONV END ###'
    series = csa_header({"MrPhoenixProtocol": protocol, "tReferenceImage0": plant.uid("reference image")})
    file = mr().having(
        E(0x00290010, "LO", "SIEMENS CSA HEADER"),
        E(0x00291008, "CS", "IMAGE NUM 4"),
        E(0x00291009, "LO", plant.day("csa version")),
        E(0x00291010, "OB", image),
        E(0x00291020, "OB", series),
        E(0x00510010, "LO", "SIEMENS MR HEADER"),
        E(0x0051100E, "LO", plant.text("slice orientation")),
        syntax=syntax,
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


@pytest.mark.parametrize("wrap", ["zlib", "gzip", "base64"])
def test_ge_protocol_blocks(tmp_path, profile, wrap):
    plant = Plant()
    text = (f'set PATIENT_NAME "{plant.name("protocol")}"\n' * 4).encode()
    pack = {
        "zlib": zlib.compress,
        "gzip": lambda data: zlib.compress(data, wbits=31),
        "base64": base64.b64encode,
    }[wrap]
    data = pack(text)
    file = mr().having(
        E(0x00250010, "LO", "GEMS_SERS_01"),
        E(0x0025101B, "OB", struct.pack("<I", len(data)) + data),
        E(0x00090010, "LO", "GEMS_IDEN_01"),
        E(0x00091002, "SH", plant.word("suite id")),
        E(0x00091031, "LO", plant.text("service id")),
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only
