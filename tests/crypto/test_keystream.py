import pytest

from fedimg.crypto import keystream as module

# RFC 8439, A.1, test vectors 1 to 3: blocks 0 and 1 of the key of zeros, and block 1 of a key that ends in 1
FIRST = """
    76 b8 e0 ad a0 f1 3d 90 40 5d 6a e5 53 86 bd 28 bd d2 19 b8 a0 8d ed 1a a8 36 ef cc 8b 77 0d c7
    da 41 59 7c 51 57 48 8d 77 24 e0 3f b8 d8 4a 37 6a 43 b8 f4 15 18 a1 1c c3 87 b6 69 b2 ee 65 86
"""
SECOND = """
    9f 07 e7 be 55 51 38 7a 98 ba 97 7c 73 2d 08 0d cb 0f 29 a0 48 e3 65 69 12 c6 53 3e 32 ee 7a ed
    29 b7 21 76 9c e6 4e 43 d5 71 33 b0 74 d8 39 d5 31 ed 1f 28 51 0a fb 45 ac e1 0a 1f 4b 79 4d 6f
"""
OTHER = """
    3a eb 52 24 ec f8 49 92 9b 9d 82 8d b1 ce d4 dd 83 20 25 e8 01 8b 81 60 b8 22 84 f3 c9 49 aa 5a
    8e ca 00 bb b4 a7 3b da d1 92 b5 c4 2f 73 f2 fd 4e 27 36 44 c8 b3 61 25 a6 4a dd eb 00 6c 13 a0
"""


def keystream(key, n):
    out = bytearray(b"x" * n)
    module.keystream(key, memoryview(out))
    return bytes(out)


@pytest.mark.parametrize("n", [0, 1, 64, 100, 128])
def test_the_published_blocks(n):
    assert keystream(bytes(32), n) == (bytes.fromhex(FIRST) + bytes.fromhex(SECOND))[:n]


def test_another_key_is_another_stream():
    assert keystream(bytes(31) + b"\1", 128)[64:] == bytes.fromhex(OTHER)


def test_pieces_go_on_where_the_last_one_ended(monkeypatch):
    whole = keystream(bytes(32), 1000)
    monkeypatch.setattr(module, "_ZEROS", bytes(96))
    assert keystream(bytes(32), 1000) == whole


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_a_key_of_another_length_is_refused(key):
    with pytest.raises(ValueError, match="key size"):
        keystream(key, 8)


def test_block_by_block_it_is_the_same_stream():
    whole = keystream(bytes(range(32)), 1000)
    for block in (8, 64, 1000, 4096):
        parts = [bytes(part) for part in module.keystream_blocks(bytes(range(32)), 1000, block)]
        assert b"".join(parts) == whole
    assert list(module.keystream_blocks(bytes(32), 0)) == []
