"""The sealed stream: what was written comes back, and nothing else does."""

import io

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from fedimg.crypto import sealed_stream
from fedimg.crypto.sealed_stream import MAGIC, PIECE, TAG, SealedReader, SealedWriter
from fedimg.crypto.sealing import SealingKey
from fedimg.errors import DataError

KEY, OTHER = (SealingKey.from_bytes(bytes([number]) * 32) for number in (1, 2))
PURPOSE = "test"
HEADER = len(MAGIC) + 1 + len(PURPOSE) + 80


def sealed(data, purpose=PURPOSE, pieces=1):
    out = io.BytesIO()
    writer = SealedWriter(out, KEY.public_bytes, purpose)
    step = -(-len(data) // pieces)
    for start in range(0, len(data), step):
        writer.write(data[start : start + step])
    writer.close()
    return out.getvalue()


def opened(stream, length, key=KEY, purpose=PURPOSE):
    reader = SealedReader(io.BytesIO(stream), key, purpose)
    data = reader.read(length)
    reader.end()
    return data


@pytest.mark.parametrize("length", [1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 17])
@pytest.mark.parametrize("pieces", [1, 3, 7])
def test_what_was_written_comes_back_at_every_length(length, pieces):
    data = bytes(number % 251 for number in range(length))
    stream = sealed(data, pieces=pieces)
    assert opened(stream, length) == data
    # as the layout says: a header, and a tag for each piece
    assert len(stream) == HEADER + length + TAG * -(-length // PIECE)


def test_nothing_of_the_content_shows_and_no_two_streams_are_alike():
    data = b"patient" * 100
    first, second = sealed(data), sealed(data)
    assert b"patient" not in first
    assert first[HEADER:] != second[HEADER:]


DATA = bytes(range(256)) * 600  # three pieces
STREAM = sealed(DATA)


@given(st.integers(0, len(STREAM) - 1))
def test_a_stream_that_was_cut_is_refused_wherever_it_was(length):
    with pytest.raises(DataError):
        opened(STREAM[:length], len(DATA))


@pytest.mark.parametrize("pieces", [0, 1, 2])
def test_a_stream_that_was_cut_between_pieces_is_refused(pieces):
    cut = STREAM[: HEADER + pieces * (PIECE + TAG)]
    with pytest.raises(DataError):
        opened(cut, max(1, pieces * PIECE))


@given(st.integers(0, 8 * len(STREAM) - 1))
def test_a_flipped_bit_is_refused_wherever_it_is(bit):
    changed = bytearray(STREAM)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DataError):
        opened(bytes(changed), len(DATA))


@given(st.binary(min_size=1, max_size=PIECE + TAG + 1))
def test_a_stream_that_was_lengthened_is_refused(more):
    with pytest.raises(DataError):
        opened(STREAM + more, len(DATA))


def test_pieces_in_another_order_or_of_another_stream_are_refused():
    one, two = (STREAM[HEADER + number * (PIECE + TAG) :][: PIECE + TAG] for number in (0, 1))
    rest = STREAM[HEADER + 2 * (PIECE + TAG) :]
    with pytest.raises(DataError):
        opened(STREAM[:HEADER] + two + one + rest, len(DATA))
    with pytest.raises(DataError):
        opened(STREAM[:HEADER] + sealed(DATA)[HEADER:], len(DATA))


def test_another_key_and_another_purpose_are_refused():
    with pytest.raises(DataError, match="sealed for this key"):
        opened(STREAM, len(DATA), key=OTHER)
    with pytest.raises(DataError, match="another purpose"):
        opened(STREAM, len(DATA), purpose="other")
    # with the purpose written over as well: the key was sealed under the first one
    renamed = STREAM.replace(b"\x04test", b"\x04tost", 1)
    with pytest.raises(DataError, match="sealed for this key"):
        opened(renamed, len(DATA), purpose="tost")


def test_reading_less_than_there_is_is_no_end():
    reader = SealedReader(io.BytesIO(STREAM), KEY, PURPOSE)
    reader.read(len(DATA) - 1)
    with pytest.raises(DataError):
        reader.end()


def test_an_empty_stream_is_not_written_and_a_bad_key_is_refused():
    with pytest.raises(ValueError):
        SealedWriter(io.BytesIO(), KEY.public_bytes, PURPOSE).close()
    with pytest.raises(DataError):
        SealedWriter(io.BytesIO(), bytes(32), PURPOSE)  # a point of small order


def test_the_pieces_are_those_that_the_layout_describes(monkeypatch):
    """A second implementation of what stands behind the header, by the module's description alone."""
    monkeypatch.setattr(sealed_stream.secrets, "token_bytes", lambda length: bytes(range(length)))
    stream = sealed(DATA)
    import hashlib

    cipher, bound = ChaCha20Poly1305(bytes(range(32))), hashlib.sha256(stream[:HEADER]).digest()
    found, rest, number = b"", stream[HEADER:], 0
    while rest:
        piece, rest = rest[: PIECE + TAG], rest[PIECE + TAG :]
        nonce = b"\0\0\0" + (b"\0" if rest else b"\1") + number.to_bytes(8, "big")
        found, number = found + cipher.decrypt(nonce, piece, bound), number + 1
    assert found == DATA
