"""Sealed secrets: only the right key and purpose open them, a changed byte opens for nobody."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.crypto.keys import SiteKey
from fedimg.crypto.sealing import SealingKey, seal, unwrap_project_key, wrap_project_key
from fedimg.errors import DataError

KEY, OTHER = SealingKey(b"\x11" * 32), SealingKey(b"\x22" * 32)


@settings(max_examples=30)
@given(st.binary(max_size=200), st.text(max_size=20))
def test_what_is_sealed_opens_for_its_key_and_purpose_only(data, purpose):
    sealed = seal(data, KEY.public_bytes, purpose=purpose)
    assert KEY.open(sealed, purpose=purpose) == data
    assert len(sealed) == len(data) + 48
    for key, said in ((OTHER, purpose), (KEY, purpose + "x")):
        with pytest.raises(DataError, match="data sealed for this key"):
            key.open(sealed, purpose=said)


@given(st.integers(0, 79), st.integers(1, 255))
def test_a_changed_byte_opens_for_nobody(at, change):
    sealed = bytearray(wrap_project_key(SiteKey.from_bytes(b"p" * 32), KEY.public_bytes, project="p"))
    sealed[at] ^= change
    with pytest.raises(DataError):
        unwrap_project_key(bytes(sealed), KEY, project="p")


def test_a_project_key_reaches_the_site_whole():
    shared = SiteKey.from_bytes(bytes(range(32)))
    wrapped = wrap_project_key(shared, KEY.public_bytes, project="lung")
    assert unwrap_project_key(wrapped, KEY, project="lung").to_bytes() == shared.to_bytes()
    assert shared.to_bytes() not in wrapped
    assert wrapped != wrap_project_key(shared, KEY.public_bytes, project="lung")  # fresh randomness
    with pytest.raises(DataError):
        unwrap_project_key(wrapped, KEY, project="heart")
    with pytest.raises(DataError, match="a wrapped key of 80 bytes; found 79 bytes"):
        unwrap_project_key(wrapped[1:], KEY, project="lung")


def test_the_format_is_hpke_by_another_hand():
    """Opened with the library's own suite: RFC 9180 base mode, info as documented."""
    private = X25519PrivateKey.from_private_bytes(b"\x11" * 32)
    sealed = seal(b"data", KEY.public_bytes, purpose="a")
    info = b"\0\0\0\x10fedimg sealing 1\0\0\0\x01a"
    assert Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM).decrypt(sealed, private, info) == b"data"


def test_bytes_that_are_no_public_key_are_refused():
    for bad in (b"", b"x" * 31):
        with pytest.raises(DataError, match="an X25519 public key of 32 bytes"):
            seal(b"data", bad, purpose="a")


def test_a_key_is_not_shown():
    assert repr(KEY) == "<SealingKey>"
