import hashlib
import os

import pytest

from fedimg.privacy.entropy import InsecureSeededEntropy, OsEntropy


def test_the_operating_system_never_repeats_itself_and_is_not_called_insecure():
    entropy = OsEntropy()
    assert entropy.insecure is False
    assert len({entropy.bytes(32) for _ in range(100)}) == 100
    assert entropy.bytes(0) == b""


@pytest.mark.parametrize("n", [4096, 4097, 100_001])
def test_no_request_repeats_another_however_long(n):
    entropy = OsEntropy()
    one, two = entropy.bytes(n), entropy.bytes(n)
    assert len(one) == len(two) == n
    assert len({stream[at : at + 32] for stream in (one, two) for at in range(0, n - 31, 32)}) == 2 * (
        n // 32
    )


def test_a_long_request_asks_the_operating_system_for_a_key_of_its_own(monkeypatch):
    asked = []
    urandom = os.urandom
    monkeypatch.setattr(os, "urandom", lambda n: asked.append(n) or urandom(n))
    entropy = OsEntropy()
    for n in (4096, 1 << 20, 1 << 20):
        entropy.bytes(n)
    assert asked == [4096, 32, 32]


def test_equal_seeds_and_labels_repeat_and_say_that_they_are_insecure():
    one, two = InsecureSeededEntropy(7, "a", "b"), InsecureSeededEntropy(7, "a", "b")
    assert one.insecure is True
    assert [one.bytes(40) for _ in range(5)] == [two.bytes(40) for _ in range(5)]


@pytest.mark.parametrize(
    "other",
    [
        InsecureSeededEntropy(8, "a", "b"),
        InsecureSeededEntropy(7, "ab"),
        InsecureSeededEntropy(7, "a", "b", ""),
        InsecureSeededEntropy(-7, "a", "b"),
    ],
)
def test_another_seed_or_label_is_another_stream(other):
    assert InsecureSeededEntropy(7, "a", "b").bytes(32) != other.bytes(32)


def test_calls_of_one_stream_differ():
    entropy = InsecureSeededEntropy(0)
    assert entropy.bytes(32) != entropy.bytes(32)


def test_the_stream_is_shake_256_of_key_and_call_number():
    key = hashlib.sha256(
        b"fedimg-insecure-entropy-v1" + (3).to_bytes(32, "big") + (1).to_bytes(8, "big") + b"x"
    ).digest()
    entropy = InsecureSeededEntropy(3, "x")
    entropy.bytes(8)
    assert entropy.bytes(8) == hashlib.shake_256(key + (1).to_bytes(8, "big")).digest(8)
