"""Agreed keys against RFC 7748 and RFC 5869; sealed data opens for its key and purpose only."""

import hmac
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.crypto.agreement import TAG_BYTES, AgreementKey, derive, open_once, seal_once
from fedimg.errors import MessageError

# RFC 7748, section 6.1
A = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
A_PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
B = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
B_PUBLIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")


def hkdf_by_hand(secret: bytes, info: bytes) -> bytes:
    """RFC 5869 section 2 with an empty salt and one block of output."""
    return hmac.digest(hmac.digest(bytes(32), secret, "sha256"), info + b"\x01", "sha256")


def test_the_published_pair_agrees_on_the_published_secret():
    one, two = AgreementKey(A), AgreementKey(B)
    assert (one.public_bytes, two.public_bytes) == (A_PUBLIC, B_PUBLIC)
    assert one.agree(B_PUBLIC, b"purpose") == two.agree(A_PUBLIC, b"purpose")
    assert one.agree(B_PUBLIC, b"purpose") == hkdf_by_hand(SHARED, b"purpose")
    assert one.private_bytes == A  # as it was drawn: what is shared out is what was agreed with


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_every_purpose_has_a_key_of_its_own(one, other):
    assert derive(SHARED, one) == hkdf_by_hand(SHARED, one)
    assert (derive(SHARED, one) == derive(SHARED, other)) == (one == other)


@pytest.mark.parametrize(
    "public",
    [
        bytes(32),
        b"\x01" + bytes(31),
        A_PUBLIC[:31] + bytes([A_PUBLIC[31] | 128]),
        b"\xff" * 32,
        b"short",
        b"",
    ],
)
def test_points_of_small_order_and_other_bytes_are_no_public_keys(public):
    with pytest.raises(MessageError, match="an X25519 public key"):
        AgreementKey(A).agree(public, b"purpose")


def test_fresh_keys_differ_and_no_text_or_pickle_shows_them():
    keys = {AgreementKey.fresh().public_bytes for _ in range(20)}
    assert len(keys) == 20
    assert repr(AgreementKey(A)) == "<AgreementKey>"
    with pytest.raises(TypeError, match="a key is not pickled"):
        pickle.dumps(AgreementKey(A))


@given(st.binary(max_size=100), st.integers(0, 10**6), st.integers(1, 255))
def test_what_is_sealed_opens_unchanged_with_its_key_and_bond_only(data, at, change):
    key, sealed = derive(SHARED, b"seal"), seal_once(derive(SHARED, b"seal"), data, b"bond")
    assert len(sealed) == len(data) + TAG_BYTES
    assert open_once(key, sealed, b"bond") == data
    changed = bytearray(sealed)
    changed[at % len(sealed)] ^= change
    for attempt in (
        (key, bytes(changed), b"bond"),
        (key, sealed, b"other"),
        (derive(SHARED, b"x"), sealed, b"bond"),
    ):
        with pytest.raises(MessageError, match="data sealed for this site in this sum"):
            open_once(*attempt)
