"""Pseudonyms: keyed, stable over processes, unlinkable under another key or project."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import sys
import uuid

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import UID

from fedimg.crypto.keys import SiteKey
from fedimg.dicom.pseudonyms import Pseudonyms, is_patient_key, normalise_id

KEY = SiteKey.from_bytes(b"k" * 32)
texts = st.text(min_size=1, max_size=20)


@given(texts)
def test_a_uid_is_a_uuid_of_version_8_below_2_25(original):
    found = Pseudonyms(KEY, "p").uid(original)
    root, _, number = found.rpartition(".")
    assert root == "2.25"
    assert UID(found).is_valid
    made = uuid.UUID(int=int(number))
    assert made.version == 8
    assert made.variant == uuid.RFC_4122


def test_a_uid_holds_all_other_bits_of_the_hmac():
    key = KEY.derive("uid", project="p")
    digest = hmac.new(key, b"\0\0\0\x031.2", hashlib.sha256).digest()[:16]
    number = int(Pseudonyms(KEY, "p").uid("1.2").split(".")[2])
    mask = (1 << 128) - 1 ^ 0xF << 76 ^ 0x3 << 62
    assert number & mask == int.from_bytes(digest, "big") & mask


def test_pseudonyms_are_the_same_in_another_process():
    here = Pseudonyms(KEY, "p")
    code = (
        "from fedimg.crypto.keys import SiteKey; from fedimg.dicom.pseudonyms import Pseudonyms;"
        "p = Pseudonyms(SiteKey.from_bytes(b'k' * 32), 'p');"
        "print(p.uid('1.2.3'), p.subject('H', '42'), p.weeks_back('FI1'), p.accession('7'), p.link(b'x'))"
    )
    out = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    ).stdout
    expected = (here.uid("1.2.3"), here.subject("H", "42"), here.weeks_back("FI1"), here.accession("7"))
    assert out.split() == [*map(str, expected), here.link(b"x")]


@given(texts)
def test_another_key_or_project_shares_no_pseudonym(value):
    makers = [Pseudonyms(KEY, "p"), Pseudonyms(KEY, "q"), Pseudonyms(SiteKey.from_bytes(b"K" * 32), "p")]
    for made in (
        {maker.uid(value) for maker in makers},
        {maker.subject("", value) for maker in makers},
        {maker.link(value.encode("utf-8", "surrogatepass")) for maker in makers},
        {maker.seal(b"data") for maker in makers},
        {maker.fingerprint(b"data") for maker in makers},
    ):
        assert len(made) == 3


def test_domains_of_one_value_are_unrelated():
    made = Pseudonyms(KEY, "p")
    assert made.subject("", "7")[2:18] != made.accession("7")
    assert made.link(b"7")[:32] != made.seal(b"7")


@given(
    st.text(alphabet="AB1 ", max_size=4), st.text(alphabet="AB1 ", max_size=4), st.text("AB1 ", max_size=4)
)
def test_a_subject_is_one_pair_of_issuer_and_number(first, second, third):
    made = Pseudonyms(KEY, "p")
    one, other = (first, second), (second, third)
    same = [normalise_id(a) == normalise_id(b) for a, b in zip(one, other, strict=True)]
    assert (made.subject(*one) == made.subject(*other)) == all(same)


def test_spellings_of_one_number_are_one_subject():
    made = Pseudonyms(KEY, "p")
    spellings = ["pat 12", " PAT 12 ", "PAT  12\0", "\uff30\uff21\uff34 12"]  # full-width letters too
    assert len({made.subject("", spelling) for spelling in spellings}) == 1
    assert made.subject("", "0012") != made.subject("", "12")  # leading zeros are part of a number


@settings(max_examples=30)
@given(texts, texts)
def test_the_patient_key_is_fi_and_80_bits(issuer, number):
    key = Pseudonyms(KEY, "p").subject(issuer, number)
    assert is_patient_key(key)
    assert len(key) == 22


def test_forms_that_are_no_patient_key():
    assert not any(
        is_patient_key(value) for value in ("FI12", "FI" + "g" * 20, "XX" + "0" * 20, "FI" + "0" * 21)
    )


def test_shifts_are_whole_weeks_from_52_to_520_and_spread_over_them():
    made = Pseudonyms(KEY, "p")
    weeks = [made.weeks_back(f"FI{n}") for n in range(5000)]
    assert min(weeks) >= 52 and max(weeks) <= 520
    # 469 values, 5000 draws: a value is missed with probability e^-10.7, so nearly all appear.
    assert len(set(weeks)) > 460
