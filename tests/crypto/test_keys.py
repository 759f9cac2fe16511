"""Keys against RFC 5869, RFC 2104 and RFC 8032, and how they are kept."""

from __future__ import annotations

import hashlib
import hmac
import os
import pickle
import stat
import struct

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from fedimg.crypto import keys
from fedimg.crypto.keys import (
    SigningKey,
    SiteKey,
    framed,
    is_identity,
    keyed_digest,
    keyed_fingerprint,
    verify,
)
from fedimg.errors import DataError

SECRET = bytes(range(32))


def hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 section 2 by hand: the oracle."""
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    block, out = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.new(extracted, block + info + bytes([counter]), hashlib.sha256).digest()
        out += block
    return out[:length]


def test_the_oracle_is_rfc_5869():
    # Test case 1 of RFC 5869, appendix A.1.
    found = hkdf(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42)
    assert found.hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


def test_derived_keys_are_hkdf_sha256():
    found = SiteKey.from_bytes(SECRET).derive("uid", project="trial")
    assert found == hkdf(SECRET, b"trial", b"uid", 32)


def test_domains_and_projects_have_keys_of_their_own():
    key = SiteKey.from_bytes(SECRET)
    derived = {key.derive(domain, project=project) for domain in ("uid", "date") for project in ("a", "b")}
    assert len(derived) == 4


@given(st.binary(min_size=1, max_size=80), st.lists(st.binary(max_size=20), max_size=4))
def test_keyed_digest_is_hmac_over_length_framed_parts(key, parts):
    message = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    assert keyed_digest(key, *parts) == hmac.new(key, message, hashlib.sha256).digest()


@given(st.lists(st.binary(max_size=6), max_size=4), st.lists(st.binary(max_size=6), max_size=4))
def test_framing_is_injective(first, second):
    assert (framed(first) == framed(second)) == (first == second)


def test_moving_a_byte_between_parts_changes_the_digest():
    assert keyed_digest(SECRET, b"ab", b"c") != keyed_digest(SECRET, b"a", b"bc")


def by_ghash(key: bytes, data: bytes) -> bytes:
    """The oracle: GMAC by the book (NIST SP 800-38D 6.3, 6.4, 7.1), bit by bit, for a nonce of twelve zeros."""
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    subkey = int.from_bytes(cipher.update(bytes(16)), "big")
    lengths = struct.pack(">QQ", 8 * len(data), 0)
    total = 0
    padded = data + bytes(-len(data) % 16) + lengths
    for at in range(0, len(padded), 16):
        factor, product, power = total ^ int.from_bytes(padded[at : at + 16], "big"), 0, subkey
        for bit in range(127, -1, -1):
            product ^= power * (factor >> bit & 1)
            power = power >> 1 ^ (0xE1 << 120) * (power & 1)
        total = product
    mask = int.from_bytes(cipher.update(bytes(12) + b"\0\0\0\1"), "big")
    return (total ^ mask).to_bytes(16, "big")


def test_a_fingerprint_is_the_published_gmac():
    # McGrew and Viega, The Galois/Counter Mode of Operation (2004), test case 13.
    assert keyed_fingerprint(bytes(32), b"").hex() == "530f8afbc74536b9a963b4f1c4cb738b"


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=70), st.integers(1, 80))
def test_a_fingerprint_is_gmac_whatever_the_pieces(key, data, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_PIECE", piece)
        assert keyed_fingerprint(key, bytearray(data)) == by_ghash(key, data)


@given(st.binary(min_size=1, max_size=40), st.data())
def test_one_changed_bit_changes_the_fingerprint(data, draw):
    at = draw.draw(st.integers(0, 8 * len(data) - 1))
    changed = bytearray(data)
    changed[at // 8] ^= 1 << at % 8
    key = bytes(range(32))
    assert keyed_fingerprint(key, changed) != keyed_fingerprint(key, data)
    assert keyed_fingerprint(key, data + b"\0") != keyed_fingerprint(key, data)


def test_signatures_are_ed25519():
    # RFC 8032 section 7.1, test 2.
    secret = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    key = SigningKey.from_bytes(secret)
    assert key.public_bytes.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert verify(key.public_bytes, key.sign(b"\x72"), b"\x72")


@pytest.mark.parametrize(
    ("signature", "data"), [(b"\0" * 64, b"x"), (b"short", b"x"), (b"", b"x")], ids=["zero", "short", "empty"]
)
def test_a_wrong_signature_is_refused(signature, data):
    assert not verify(SigningKey.from_bytes(SECRET).public_bytes, signature, data)


def test_a_signature_holds_for_its_bytes_and_key_only():
    key, other = SigningKey.from_bytes(SECRET), SigningKey.from_bytes(SECRET[::-1])
    signature = key.sign(b"root")
    assert not verify(key.public_bytes, signature, b"Root")
    assert not verify(other.public_bytes, signature, b"root")
    assert not verify(b"\0" * 31, signature, b"root")


@pytest.mark.parametrize("kind", [SiteKey, SigningKey])
def test_a_key_file_is_ours_alone_and_is_never_overwritten(kind, tmp_path):
    path = tmp_path / "key"
    kind.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    assert len(before) == 32
    with pytest.raises(DataError, match="a key is never overwritten: use another folder"):
        kind.create(path)
    assert path.read_bytes() == before


def test_created_keys_differ(tmp_path):
    SiteKey.create(tmp_path / "a")
    SiteKey.create(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


def test_a_key_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "key"
    SiteKey.create(path)
    path.chmod(0o640)
    with pytest.raises(DataError, match="expected a key file of mode 0600; found mode 0640"):
        SiteKey.load(path)


def test_a_link_in_place_of_a_key_is_refused(tmp_path):
    SiteKey.create(tmp_path / "key")
    (tmp_path / "link").symlink_to(tmp_path / "key")
    with pytest.raises(DataError, match="a readable key file"):
        SiteKey.load(tmp_path / "link")


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_length_is_refused(size, tmp_path):
    path = tmp_path / "key"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(descriptor, b"k" * size)
    os.close(descriptor)
    with pytest.raises(DataError, match="a key of 32 bytes"):
        SiteKey.load(path)
    with pytest.raises(DataError, match="a key of 32 bytes"):
        SigningKey.from_bytes(b"k" * size)


@pytest.mark.parametrize("kind", [SiteKey, SigningKey])
def test_no_text_of_a_key_shows_it_and_none_is_pickled(kind):
    key = kind.from_bytes(SECRET)
    for text in (repr(key), str(key), f"{key}", repr([key])):
        assert SECRET.hex() not in text and repr(SECRET)[2:20] not in text
    with pytest.raises(TypeError, match="a key is not pickled"):
        pickle.dumps(key)


def test_load_gives_the_key_that_was_created(tmp_path):
    created = SigningKey.create(tmp_path / "key")
    assert SigningKey.load(tmp_path / "key").public_bytes == created.public_bytes


# The curve −x² + y² = 1 + dx²y² over the integers mod 2²⁵⁵ − 19 (RFC 8032, section 5.1), slow and plain.
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P


def _point(encoded):
    """(x, y) of an encoding, by RFC 8032's decompression but for its refusals; None where there is no such x."""
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, (number & (2**255 - 1)) % _P
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    if (x * x - square) % _P:
        return None
    return (-x % _P if x % 2 != sign else x, y)


def _sum(a, b):
    product = _D * a[0] * b[0] * a[1] * b[1] % _P
    x = (a[0] * b[1] + a[1] * b[0]) * pow(1 + product, -1, _P) % _P
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, _P) % _P
    return x, y


def _has_small_order(encoded):
    point = _point(encoded)
    for _ in range(3):
        point = _sum(point, point)
    return point == (0, 1)


def test_points_of_small_order_are_nobodys_key():
    listed = [point[:31] + bytes([point[31] | sign]) for point in keys._SMALL_ORDER for sign in (0, 128)]
    assert len(listed) == 14
    for point in listed:
        assert _has_small_order(point)
        assert not is_identity(point)
    # all of them: eight points of small order, and the encodings of y that are p too large
    values = {_point(point) for point in listed}
    assert len({(x, y) for x, y in values} | {(-x % _P, y) for x, y in values}) == 8


def test_a_key_that_was_made_is_an_identity(tmp_path):
    public = SigningKey.create(tmp_path / "key").public_bytes
    assert not _has_small_order(public)
    assert is_identity(public)
    assert not is_identity(public + b"x")
    assert not is_identity(b"")


def test_under_a_point_of_small_order_a_signature_fits_any_text():
    """Why they are refused."""
    point = b"\x01" + bytes(31)
    assert verify(point, point + bytes(32), b"one text")
    assert verify(point, point + bytes(32), b"another")
