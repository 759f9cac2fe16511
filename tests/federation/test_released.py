"""The signed list of models: only the pinned key's, only as it was signed, never an earlier one, no withdrawal taken back."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg import canonical
from fedimg.crypto.keys import SigningKey, framed
from fedimg.errors import DataError
from fedimg.federation.released import FORMAT, STANDINGS, Listed, ReleasedModels

KEY, STRANGER = (SigningKey.from_bytes(bytes([k]) * 32) for k in (1, 2))
NOW = datetime(2026, 2, 1, 12, 0, 0, tzinfo=UTC)
SINCE = "2026-01-31T09:00:00Z"
ONE = Listed("nodule", "1", "11" * 32, "superseded", SINCE, "version 2 was released")
TWO = Listed("nodule", "2", "22" * 32, "released", SINCE, "")
LIST = ReleasedModels("ab" * 16, NOW, {one.digest: one for one in (ONE, TWO)})


def signed(body, key=KEY, **outer):
    """A body as a careless coordinator would have signed it."""
    document = {"list": body, "key": key.public_bytes.hex(), "signature": canonical.sign(body, key, FORMAT)}
    return json.dumps(document | outer).encode()


def body(**changes):
    return json.loads(LIST.signed(KEY))["list"] | changes


def test_what_was_signed_is_read(tmp_path):
    data = LIST.signed(KEY)
    assert ReleasedModels.read(data, KEY.public_bytes, NOW) == LIST
    assert ReleasedModels.read(signed(body()), KEY.public_bytes, None) == LIST


_WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=200)


@given(
    models=st.lists(
        st.builds(
            Listed, _WORDS, _WORDS, st.binary(min_size=32, max_size=32).map(bytes.hex), st.sampled_from(STANDINGS),
            st.datetimes().map(lambda at: f"{at.replace(year=2026):%Y-%m-%dT%H:%M:%SZ}"), _WORDS | st.just(""),
        ),
        max_size=5,
        unique_by=(lambda one: one.digest, lambda one: (one.name, one.version)),
    )
)  # fmt: skip
def test_every_list_is_read_back_equal(models):
    found = ReleasedModels("cd" * 16, NOW, {one.digest: one for one in models})
    assert ReleasedModels.read(found.signed(KEY), KEY.public_bytes, NOW) == found


def test_another_key_is_not_believed_though_it_signs_well():
    with pytest.raises(DataError, match="a list that the pinned key has signed"):
        ReleasedModels.read(LIST.signed(STRANGER), KEY.public_bytes, NOW)
    lying = json.loads(LIST.signed(STRANGER)) | {"key": KEY.public_bytes.hex()}
    with pytest.raises(DataError, match="as the coordinator signed it"):
        ReleasedModels.read(json.dumps(lying).encode(), KEY.public_bytes, NOW)


def test_a_key_of_small_order_signs_for_nobody():
    weak = bytes(32)
    document = {"list": body(), "key": weak.hex(), "signature": "00" * 64}
    with pytest.raises(DataError, match="the pinned key"):
        ReleasedModels.read(json.dumps(document).encode(), weak, NOW)


@given(st.data())
def test_a_flipped_bit_anywhere_is_refused(data):
    content = bytearray(LIST.signed(KEY).removesuffix(b"\n"))
    at = data.draw(st.integers(0, 8 * len(content) - 1))
    content[at // 8] ^= 1 << (at % 8)
    with pytest.raises(DataError):
        ReleasedModels.read(bytes(content), KEY.public_bytes, NOW)


def test_a_signature_is_written_in_one_way():
    document = json.loads(LIST.signed(KEY))
    assert document["signature"] != document["signature"].upper()
    loud = canonical.encode(document | {"signature": document["signature"].upper()})
    with pytest.raises(DataError, match="as the coordinator signed it"):
        ReleasedModels.read(loud, KEY.public_bytes, NOW)


def test_what_the_key_has_signed_for_another_end_is_no_list():
    """A release record's domain, or none: a signature is for what it was made for."""
    for text in (b"fedimg-release-record-3", b""):
        signature = KEY.sign(framed([text, canonical.encode(body())])).hex()
        with pytest.raises(DataError, match="as the coordinator signed it"):
            ReleasedModels.read(signed(body(), signature=signature), KEY.public_bytes, NOW)


def changed(**fields):
    return body(models=[TWO.to_json() | fields])


@pytest.mark.parametrize(
    "found",
    [
        None, [], "list", {}, body(format="fedimg-released-models-2"), body(more=1), body(models={}), body(models=[[]]),
        body(models=[3]), body(models=[TWO.to_json(), TWO.to_json()]), body(federation="x"), body(federation=3),
        body(issued="yesterday"), body(issued=None), changed(digest="22"), changed(digest=3), changed(name=""),
        changed(name="a\nb"), changed(version="x" * 201), changed(standing="blessed"), changed(standing=[]),
        changed(since="now"), changed(why="x" * 501), changed(why=None), changed(more=1),
        body(models=[TWO.to_json(), TWO.to_json() | {"digest": "33" * 32}]),
        body(models=[list(TWO.to_json())]),
    ],
)  # fmt: skip
def test_a_signed_list_is_not_believed_blindly(found):
    with pytest.raises(DataError, match="another form"):
        ReleasedModels.read(signed(found), KEY.public_bytes, NOW)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'{"list": {}}', b"\xff", b'{"list":1,"list":2,"key":"","signature":""}']
)
def test_what_is_no_list_is_refused(data):
    with pytest.raises(DataError):
        ReleasedModels.read(data, KEY.public_bytes, NOW)


def test_a_list_of_the_future_is_refused():
    data = LIST.signed(KEY)
    ReleasedModels.read(data, KEY.public_bytes, NOW - timedelta(minutes=4))  # clocks differ
    with pytest.raises(DataError, match="one of the future"):
        ReleasedModels.read(data, KEY.public_bytes, NOW - timedelta(minutes=6))


def test_a_list_that_its_readers_would_refuse_is_not_signed():
    evil = replace(TWO, name="a\nb")
    with pytest.raises(DataError):
        replace(LIST, models={evil.digest: evil}).signed(KEY)


def test_an_earlier_list_or_another_federations_does_not_take_its_place():
    LIST.check_follows(LIST)
    later = replace(LIST, issued=NOW + timedelta(seconds=1))
    later.check_follows(LIST)
    with pytest.raises(DataError, match="issued on 2026-02-01 12:00:01 UTC or later"):
        LIST.check_follows(later)
    with pytest.raises(DataError, match="another's"):
        replace(later, federation="cd" * 16).check_follows(LIST)


@pytest.mark.parametrize("now", ["released", "superseded", None])
def test_what_was_withdrawn_stays_so(now):
    gone = replace(LIST, models={**LIST.models, TWO.digest: replace(TWO, standing="withdrawn", why="x")})
    models = {ONE.digest: ONE} | ({} if now is None else {TWO.digest: replace(TWO, standing=now)})
    with pytest.raises(DataError, match="one that takes a withdrawal back"):
        replace(LIST, issued=NOW + timedelta(days=1), models=models).check_follows(gone)
    replace(gone, issued=NOW + timedelta(days=1)).check_follows(gone)
