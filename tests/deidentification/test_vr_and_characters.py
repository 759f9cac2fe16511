"""Names that are not where or how they ought to be: other VRs, other scripts, other encodings."""

from __future__ import annotations

import unicodedata

import pytest
from hospital import take
from images import ct, in_syntax
from planting import Plant
from rawdicom import EXPLICIT, IMPLICIT, NATIVE, E, e
from scanner import Secret


@pytest.mark.parametrize("vr", ["LO", "UN", "SH", "OB", "CS", "UT", "UI"])
def test_name_as_another_vr(tmp_path, profile, vr):
    plant = Plant()
    found = [
        E(tag, vr, plant.name(f"{tag:08X}"))
        for tag in (0x00100010, 0x00080090, 0x00081050, 0x00081070, 0x00101001, 0x0040A075, 0x00189074)
    ]
    taken = take(tmp_path, ct().having(*found), profile=profile)
    assert taken.leaks(plant.secrets) == []


@pytest.mark.parametrize("vr", ["PN", "LO", "UN", "UT", "OB"])
def test_kept_attributes_with_a_name_under_another_vr(tmp_path, profile, vr):
    plant = Plant()
    kept = (
        "SliceThickness",
        "KVP",
        "ImageOrientationPatient",
        "PatientSex",
        "BodyPartExamined",
        "PatientAge",
    )
    kept += ("WindowCenter", "RescaleType", "FrameOfReferenceUID", "PatientPosition", "AcquisitionNumber")
    taken = take(tmp_path, ct().having(*(e(k, plant.name(k), vr) for k in kept)), profile=profile)
    assert taken.leaks(plant.secrets) == []


@pytest.mark.parametrize("syntax", NATIVE)
def test_unknown_public_tags(tmp_path, profile, syntax):
    plant = Plant()
    tags = (0x00081999, 0x00100999, 0x00180003, 0x00209999, 0x00289999, 0x00400FFF, 0x10101010, 0x52009231)
    found = [E(tag, "LO", plant.text(f"{tag:08X}")) for tag in tags]
    found.append(E(0x00100998, "SQ", [[e("PatientName", plant.name("in an unknown sequence"))]]))
    taken = take(tmp_path, in_syntax(ct().having(*found), syntax), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_multi_valued_names(tmp_path, profile):
    plant = Plant()
    keywords = (
        "PatientName",
        "OtherPatientNames",
        "OperatorsName",
        "PhysiciansOfRecord",
        "PatientMotherBirthName",
    )
    found = [e(k, "\\".join(plant.name(f"{k} {n}") for n in range(4))) for k in keywords]
    taken = take(tmp_path, ct().having(*found), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


SCRIPTS = {
    # name: (SpecificCharacterSet, the value's bytes, what must not be found)
    "ideographic groups, UTF-8": (
        "ISO_IR 192",
        "Yamadasen^Tarouko=山田川^太郎介=やまだがわ^たろうすけ".encode(),
        ("Yamadasen", "Tarouko", "山田川", "太郎介", "やまだがわ", "たろうすけ", "山田川^太郎介"),
    ),
    "ISO 2022, JIS X 0208": (
        "\\ISO 2022 IR 87",
        b"Yamadasen^Tarouko=\x1b$B;3ED@n\x1b(B^\x1b$BB@O:2p\x1b(B",
        ("Yamadasen", "Tarouko", "山田川", "太郎介", ";3ED@n"),
    ),
    "ISO 2022, KS X 1001": (
        "\\ISO 2022 IR 149",
        b"Hongildongja^Gil=\x1b$)C" + "洪吉東子".encode("euc_kr") + b"^\x1b$)C" + "吉洞昌植".encode("euc_kr"),
        ("Hongildongja", "洪吉東子", "吉洞昌植"),
    ),
    "GB18030": (
        "GB18030",
        "Wangxiaodongla^Xiao=王小东明^小东东海".encode("gb18030"),
        ("Wangxiaodongla", "王小东明", "小东东海"),
    ),
    "GBK": (
        "GBK",
        "Zhangweiqiangta^Wei=张伟强德^伟强强强".encode("gbk"),
        ("Zhangweiqiangta", "张伟强德", "伟强强强"),
    ),
    "Latin-1, undeclared": (
        "",
        "Müllerthöneßer^Jürgenström".encode("latin-1"),
        ("Müllerthöneßer", "Jürgenström"),
    ),
    "Latin-1, declared as UTF-8": (
        "ISO_IR 192",
        "Müllerthöneßer^Jürgenström".encode("latin-1"),
        ("Müllerthöneßer", "Jürgenström"),
    ),
    "UTF-8, declared as Latin-1": (
        "ISO_IR 100",
        "Øvergårdsæter^Åsmundson".encode(),
        ("Øvergårdsæter", "Åsmundson"),
    ),
    "Cyrillic": ("ISO_IR 144", "Люкceмбypг^Иваниченко".encode("iso8859-5", "ignore"), ("Иваниченко",)),
    "Greek": ("ISO_IR 126", "Διονυσιος^Παπαδοπουλος".encode("iso8859-7"), ("Παπαδοπουλος", "Διονυσιος")),
    "Arabic": ("ISO_IR 127", "قباني^لنزارالدين".encode("iso8859-6"), ("لنزارالدين",)),
    "an unknown character set": ("ISO_IR 999", b"Quorthonberg^Zyxwvutia", ("Quorthonberg", "Zyxwvutia")),
}


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT], ids=["explicit", "implicit"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_and_character_sets(tmp_path, profile, script, syntax):
    charset, raw, secrets = SCRIPTS[script]
    everywhere = (
        E(0x00100010, "PN", raw),
        E(0x00081030, "LO", b"portable for " + raw),
        E(0x00204000, "LT", b"seen: " + raw),
        E(0x00091001, "LO", raw),
        E(0x00080104, "LO", raw),
        e("AnatomicRegionSequence", [[e("CodeValue", "1"), e("CodeMeaning", raw)]]),
        E(0x00180015, "CS", raw[:16]),
    )
    file = ct(SpecificCharacterSet=charset).having(*everywhere, syntax=syntax)
    taken = take(tmp_path, file, profile=profile)
    planted = {f"name {n}": Secret(text) for n, text in enumerate(secrets) if len(text) >= 4}
    assert taken.leaks(planted) == []
    short = [text for text in secrets if len(text) < 4]
    for data in taken.released:
        for text, codec in [
            (t, c) for t in short for c in ("utf-8", "gb18030", "euc_jp", "iso2022_jp", "euc_kr")
        ]:
            assert text.encode(codec, "ignore") not in data or not text.encode(codec, "ignore")


@pytest.mark.parametrize(("name", "text"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFKD")])
def test_composed_against_decomposed(tmp_path, profile, name, text):
    person, planted = "Béranděčkový^Éloïsette", {"family": "Béranděčkový", "given": "Éloïsette"}
    words = person.replace("^", " ")
    file = ct(PatientName=unicodedata.normalize(name, person)).having(
        e("StudyDescription", "follow-up of " + unicodedata.normalize(text, words)),
        e("ProtocolName", unicodedata.normalize(text, words.upper())),
        e("ImageComments", unicodedata.normalize(text, words.lower())),
    )
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(planted) == []


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT], ids=["explicit", "implicit"])
def test_values_longer_than_their_vr(tmp_path, profile, syntax):
    plant = Plant()
    long = "x" * 200
    found = [
        e("StudyDescription", long + plant.text("LO") * 3),
        e("AccessionNumber", "1" * 30 + plant.number("SH")),
        e("PatientSex", "F" * 20 + plant.word("CS")),
        e("BodyPartExamined", "CHEST" + " " * 20 + plant.word("CS, padded")),
        e("PatientAge", "065Y" + plant.word("AS")),
        e("SliceThickness", "5" + " " * 20 + plant.number("DS")),
        e("StudyInstanceUID", plant.uid("UI") + ".1" * 40),
        e("PatientName", (plant.word("PN") + "^") * 30),
        e("StudyDate", "20190417" + plant.word("DA")),
        e("StudyTime", "1015" + plant.word("TM")),
        e("StationName", "S" * 2000 + plant.word("SH, very long")),
    ]
    taken = take(tmp_path, ct().having(*found, syntax=syntax), profile=profile)
    assert taken.leaks(plant.secrets) == []


def test_control_characters_and_escapes_in_text(tmp_path, profile):
    plant = Plant()
    word = plant.word("word")
    found = [
        e("StudyDescription", "\x1b[2J" + word),
        e("PatientName", f"\0\0{word}\r\n^"),
        e("BodyPartExamined", f"CHEST\0{word}"[:16]),
        e("PatientSex", f"F\0{word}"),
        e("PatientPosition", f"HFS\\{word}"),
    ]
    taken = take(tmp_path, ct().having(*found), profile=profile)
    assert taken.leaks(plant.secrets) == []
