"""Re-identification under custody: recomputed with the key, or from a crosswalk that only the custodian opens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.crypto.keys import SiteKey
from fedimg.crypto.sealing import SealingKey
from fedimg.dicom.crosswalk import open_crosswalk, sealed_crosswalk
from fedimg.dicom.pseudonyms import Pseudonyms
from fedimg.errors import DataError

PSEUDONYMS = Pseudonyms(SiteKey.from_bytes(b"k" * 32), "p")
CUSTODIAN = SealingKey(b"\x33" * 32)
patients = st.lists(
    st.tuples(st.sampled_from(["", "H1", "H2"]), st.from_regex(r"[A-Z0-9]{1,10}", fullmatch=True)),
    min_size=1,
    max_size=8,
    unique=True,
)


@settings(max_examples=30)
@given(patients, st.data())
def test_a_pseudonym_is_found_among_candidates_and_only_with_the_key(candidates, draw):
    wanted = draw.draw(st.sampled_from(candidates))
    pseudonym = PSEUDONYMS.subject(*wanted)
    assert PSEUDONYMS.matches(pseudonym, candidates) == [wanted]
    assert PSEUDONYMS.matches(f" {pseudonym.lower()}", candidates) == [wanted]
    other = Pseudonyms(SiteKey.from_bytes(b"o" * 32), "p")
    assert other.matches(pseudonym, candidates) == []


def test_what_is_no_pseudonym_is_refused():
    with pytest.raises(DataError) as error:
        PSEUDONYMS.matches("Doe^Jane", [("", "1")])
    assert str(error.value) == (
        "expected a pseudonym: FI and 20 hex digits; found something else; copy it from the release"
    )


@settings(max_examples=20)
@given(patients)
def test_the_crosswalk_opens_for_the_custodian_only(listed):
    sealed = sealed_crosswalk(listed, PSEUDONYMS, CUSTODIAN.public_bytes)
    assert open_crosswalk(sealed, CUSTODIAN) == {PSEUDONYMS.subject(*pair): pair for pair in listed}
    assert not any(number.encode() in sealed for _, number in listed if len(number) > 4)
    with pytest.raises(DataError):
        open_crosswalk(sealed, SealingKey(b"\x34" * 32))
