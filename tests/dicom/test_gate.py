"""The gate: every spelling in every encoding is found, nothing else, and strange files are refused."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.crypto.keys import SiteKey
from fedimg.dicom import gate
from fedimg.dicom.authoring import build_image
from fedimg.dicom.deidentify import Deidentifier
from fedimg.dicom.identifiers import Identifiers
from fedimg.dicom.reader import parse

LETTERS = "abcdefghijklmnopqrstuvwxyz"
words = st.text(alphabet="ab1", min_size=1, max_size=7).map(str.encode)


def by_regex(data: bytes, needle: bytes) -> set[tuple[int, int]]:
    """The oracle: overlapping matches with letter and digit boundaries."""
    kinds = {"alpha": rb"[A-Za-z]", "digit": rb"[0-9]"}

    def kind(edge: bytes) -> bytes:
        return kinds["alpha"] if edge.isalpha() else kinds["digit"] if edge.isdigit() else rb"(?!)"

    pattern = (
        rb"(?<!" + kind(needle[:1]) + rb")(?=(" + re.escape(needle) + rb")(?!" + kind(needle[-1:]) + rb"))"
    )
    pattern = pattern.replace(rb"(?<!(?!))", b"").replace(rb"(?!(?!))", b"")
    return {match.span(1) for match in re.finditer(pattern, data, re.IGNORECASE)}


@settings(max_examples=300)
@given(st.lists(words, max_size=6), st.text(alphabet="abAB1 .", max_size=60).map(str.encode))
def test_the_search_agrees_with_regular_expressions(needles, data):
    expected = set().union(*(by_regex(data, needle) for needle in needles))
    assert set(gate.search(data, needles)) == expected


@settings(max_examples=300)
@given(st.lists(words, max_size=6), st.text(alphabet="abAB1 .", max_size=80).map(str.encode), st.data())
def test_in_pixels_the_one_pass_search_agrees_for_needles_of_six(needles, data, draw):
    start = draw.draw(st.integers(0, len(data)))
    found = gate.search(data, needles, (start, len(data)))
    head = {hit for needle in needles for hit in by_regex(data, needle) if hit[1] <= start}
    long = {hit for needle in needles if len(needle) >= 6 for hit in by_regex(data, needle)}
    inside = {hit for hit in long if hit[0] >= max(start - 64, 0)}
    # A hit must be one of the oracle's; what the oracle finds wholly on one side must be a hit.
    assert head | inside >= set(found) >= head | {hit for hit in inside if hit[0] >= start}


@settings(max_examples=200)
@given(
    st.frozensets(words, max_size=6),
    st.frozensets(words, max_size=6),
    st.text(alphabet="abAB1 .", max_size=60).map(str.encode),
    st.data(),
)
def test_needles_of_other_files_are_searched_for_alike(own, shared, data, draw):
    pixels = draw.draw(st.none() | st.tuples(st.integers(0, len(data)), st.just(len(data))))
    assert gate.search(data, own, pixels, shared) == gate.search(data, own | shared, pixels)


def test_a_word_at_the_border_of_pixels_is_found_whichever_way_it_lies():
    name = b"annabeth"
    for start in range(4, 40):
        for at in range(4, 40):
            data = bytearray(b"\x07" * 60)
            data[at : at + len(name)] = name.upper()
            assert gate.search(bytes(data), [name], (start, 60)) == [(at, at + len(name))], (start, at)


@pytest.mark.parametrize("codec", ["utf-8", "utf-16-le", "latin-1"])
@pytest.mark.parametrize(
    "spelling", ["Kaufman^Scott", "SCOTT KAUFMAN", "kaufman", "Kaufman, Scott", "KaufmanScott"]
)
def test_a_name_is_found_in_every_order_case_and_encoding(codec, spelling):
    identifiers = Identifiers(names={"KAUFMAN^SCOTT^^DR"})
    assert gate.search(b"\0\1\2" + spelling.encode(codec) + b"\0\3", identifiers.needles())


@pytest.mark.parametrize("codec", ["utf-8", "latin-1", "utf-16-le"])
@pytest.mark.parametrize("spelling", ["Müller", "MÜLLER", "müller"])
def test_letters_beyond_ascii_fold_case_too(codec, spelling):
    assert gate.search(b"- " + spelling.encode(codec), Identifiers(names={"Müller^Jörg"}).needles())


def test_decomposed_letters_and_the_files_own_character_set():
    needles = Identifiers(names={"Müller^Jörg"}).needles()
    assert gate.search("Mu\u0308ller".encode(), needles)
    kanji = Identifiers(names={"Yamada^Tarou=山田^太郎"})
    assert gate.search(b"x" + "山田".encode("shift_jis"), kanji.needles(["shift_jis"]))
    assert not gate.search(b"x" + "山田".encode("shift_jis"), kanji.needles())


@pytest.mark.parametrize(
    "spelling",
    [
        "20120309",
        "2012-03-09",
        "2012/03/09",
        "2012.03.09",
        "09.03.2012",
        "03/09/2012",
        "09-MAR-2012",
        "9 Mar 2012",
        "Mar 9, 2012",
        "09032012",
    ],
)
def test_a_date_is_found_in_its_spellings(spelling):
    for value in ("20120309", "20120309143000.000+0100", "2012.03.09"):
        assert gate.search(b"on " + spelling.encode() + b" at", Identifiers(dates={value}).needles())


def test_boundaries():
    needles = Identifiers(names={"DOE^JANE"}, texts={"1234567"}, dates={"20040119"}).needles()
    for harmless in (b"DOES", b"ADOE", b"91234567", b"12345670", b"120040119", b"2.25.200401193", b"JANET"):
        assert not gate.search(harmless, needles), harmless
    for hit in (b"DOE1", b"_DOE_", b"1DOE", b"x1234567y", b"(20040119)"):
        assert gate.search(hit, needles), hit


def test_what_does_not_count():
    """Numbers, codes under four characters: else half of all files would be held back."""
    identifiers = Identifiers(texts={"12345", "CT", "AX", "3.5"}, names={"X^Y"}, uids={"1.2.840.10008.1.2"})
    needles = identifiers.needles()
    assert not gate.search(b"12345 CT AX 3.5 X Y 1.2.840.10008.1.2", needles)


def test_short_names_count_as_a_whole():
    assert gate.search(b"Wu Li", Identifiers(names={"Li^Wu"}).needles())


def test_a_hit_within_a_closed_vocabulary_is_none():
    assert gate.outside([(10, 14), (20, 24)], [(8, 15)]) == [(20, 24)]
    assert gate.outside([(10, 16)], [(8, 15)]) == [(10, 16)]


def test_noise_as_large_as_an_image_holds_no_word():
    noise = np.random.default_rng(0).integers(0, 256, 512 * 512 * 2, dtype=np.uint8).tobytes()
    names = {"".join(np.random.default_rng(n).choice(list(LETTERS), 6)) + "^abcdef" for n in range(50)}
    assert gate.search(noise, Identifiers(names=names).needles(), (0, len(noise))) == []
    planted = noise[:77_777] + b" Abcdef " + noise[77_777:]
    assert gate.search(planted, Identifiers(names=names).needles(), (0, len(planted))) == [(77_778, 77_784)]


def release() -> tuple[Deidentifier, bytes]:
    deidentifier = Deidentifier(SiteKey.from_bytes(b"k" * 32), "p")
    dataset = build_image(
        modality="CT",
        pixels=np.arange(64, dtype=np.uint16).reshape(8, 8),
        attributes={"PatientID": "7", "PatientName": "A^B"},
    )
    return deidentifier, deidentifier.deidentify(dataset).data


def changed(data: bytes, change) -> bytes:
    dataset = parse(data)
    change(dataset)
    buffer = pydicom.filebase.DicomBytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_a_release_has_no_structural_fault():
    deidentifier, data = release()
    assert gate.structure_fault(data, deidentifier.profile) is None


def _set(keyword, value):
    return lambda dataset: setattr(dataset, keyword, value)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_set("StudyDescription", "CHEST"), "an attribute that the profile does not name"),
        (_set("PatientName", "Doe^Jane"), "PatientName that is no pseudonym"),
        (_set("PatientID", "12345"), "PatientID that is no pseudonym"),
        (_set("PatientIdentityRemoved", "NO"), "a file without the marks of de-identification"),
        (
            lambda d: d.private_block(0x11, "ACME", create=True).add_new(1, "LO", "x"),
            "an attribute that the profile does not name",
        ),
        (
            lambda d: d.DeidentificationMethodCodeSequence[0].add_new(0x00080103, "SH", "x"),
            "an attribute that the profile does not name",
        ),
        (lambda d: d.add_new(0x00280010, "UL", 8), "Rows with another VR than the dictionary's"),
        (
            lambda d: setattr(d.file_meta, "SourceApplicationEntityTitle", "WARD3"),
            "a file meta element too many",
        ),
    ],
    ids=["attribute", "name", "number", "mark", "private", "nested", "vr", "meta"],
)
def test_a_release_that_was_tampered_with_has(change, fault):
    deidentifier, data = release()
    assert gate.structure_fault(changed(data, change), deidentifier.profile) == fault


def test_a_preamble_is_a_fault():
    deidentifier, data = release()
    assert gate.structure_fault(b"II*\0" + data[4:], deidentifier.profile) == "a preamble that is not zero"


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("codec", ["ascii", "utf-16-le", "latin-1"])
def test_a_name_anywhere_in_a_large_image_is_found(bits, codec):
    """Around the border of the blocks in which words are looked at, at the image's ends, at odd and even places."""
    name = "Jörgensen" if codec == "latin-1" else "Jorgensen"
    spelled, needles = name.encode(codec), Identifiers(names={name + "^Ida"}).needles()
    noise = np.random.default_rng(bits).integers(0, 1 << bits, (1 << 16) + 999, dtype=np.uint16).tobytes()
    assert gate.search(noise, needles, (0, len(noise))) == []
    for middle in (12, 1 << 17, len(noise) - 24):
        for at in range(middle - 12, middle + 4):
            planted = noise[:at] + b".." + spelled + b".." + noise[at + 4 + len(spelled) :]
            assert (at + 2, at + 2 + len(spelled)) in gate.search(planted, needles, (0, len(planted)))


def test_what_was_searched_for_in_other_files_does_not_count():
    for number in range(400):  # more than are remembered
        name = f"Person{'abcdefghij'[number % 10]}{'klmnopqrst'[number // 10 % 10]}{'uvwxyz'[number // 100]}"
        data = b"12 " + name.encode() + b" Nobody"
        assert gate.search(data, Identifiers(names={"Nobody"}).needles()) == [(len(data) - 6, len(data))]
        assert gate.search(data, Identifiers(names={name + "^Ida"}).needles()) == [(3, len(data) - 7)]
        assert gate.search(data, [b"other"], None, Identifiers(names={name}).needles()) == [
            (3, len(data) - 7)
        ]


def test_threads_search_for_their_own_needles():
    """A thread's needles are complete, whatever others search for meanwhile."""
    names = ["".join(np.random.default_rng(n).choice(list(LETTERS), 9)) for n in range(200)]

    def found(name: str) -> bool:
        return gate.search(b"- " + name.encode() + b" -", Identifiers(names={name}).needles()) == [(2, 11)]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(found, names * 3))
