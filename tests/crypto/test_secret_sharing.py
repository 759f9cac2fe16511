"""Shares of a secret: t give it back, fewer say nothing, and the arithmetic is that of another hand."""

import itertools
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.crypto.secret_sharing import PRIME, SHARE_BYTES, combine, corrected, split
from fedimg.errors import ConfigError, MessageError

SECRET = bytes(range(32))


def is_probably_prime(number: int, rounds: int = 40) -> bool:
    """Miller–Rabin, the oracle for the field; each round lets a composite pass with chance ≤ 1/4."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    chance = random.Random(0)
    for _ in range(rounds):
        power = pow(chance.randrange(2, number - 1), odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True


def test_the_field_is_one_and_holds_every_secret():
    assert PRIME > 1 << 256
    assert is_probably_prime(PRIME)
    assert not any(is_probably_prime(n, 8) for n in range((1 << 256) + 1, PRIME, 2))


@settings(max_examples=60)
@given(st.binary(min_size=32, max_size=32), st.integers(1, 12), st.integers(0, 6), st.randoms())
def test_any_t_shares_give_the_secret_back(secret, threshold, more, chance):
    shares = split(secret, threshold, range(1, threshold + more + 1))
    assert {len(share) for share in shares.values()} == {SHARE_BYTES}
    chosen = chance.sample(sorted(shares), threshold)
    assert combine({holder: shares[holder] for holder in chosen}, threshold) == secret


def test_shares_lie_on_the_polynomial_of_the_drawn_coefficients():
    """By exact fractions, without the field: 7 + 3x + 2x² at 1, 2 and 5."""
    drawn = iter((3, 2))
    shares = split((7).to_bytes(32, "big"), 3, (1, 2, 5), uniform=lambda _bound: next(drawn))
    values = {x: int.from_bytes(share, "big") for x, share in shares.items()}
    assert values == {1: 12, 2: 21, 5: 72}
    assert sum(y * _lagrange(x, values) for x, y in values.items()) == 7
    assert combine(shares, 3) == (7).to_bytes(32, "big")


def _lagrange(x: int, points: dict[int, int]) -> Fraction:
    product = Fraction(1)
    for other in points:
        if other != x:
            product *= Fraction(-other, x - other)
    return product


def test_fewer_shares_fit_every_secret():
    """For two shares of three and any guess there is exactly one third share: nothing is excluded."""
    shares = split(SECRET, 3, (1, 2, 3))
    seen = set()
    for guess in (bytes(32), b"\xff" * 32, SECRET):
        third = _third_share(shares, int.from_bytes(guess, "big"))
        seen.add(third)
        assert combine({1: shares[1], 2: shares[2], 3: third}, 3) == guess
    assert len(seen) == 3
    assert shares[3] in seen


def _third_share(shares: dict[int, bytes], secret: int) -> bytes:
    """f(3) of the parabola through f(0) = secret, f(1), f(2): f(3) = f(0) − 3f(1) + 3f(2), by differences."""
    first, second = (int.from_bytes(shares[x], "big") for x in (1, 2))
    return ((secret - 3 * first + 3 * second) % PRIME).to_bytes(SHARE_BYTES, "big")


def test_two_splits_share_nothing():
    one, two = split(SECRET, 3, range(1, 6)), split(SECRET, 3, range(1, 6))
    assert not set(one.values()) & set(two.values())
    assert all(SECRET not in share for share in one.values())


def test_a_wrong_share_gives_another_secret_or_none():
    shares = split(SECRET, 3, range(1, 5))
    wrong = dict(shares) | {2: split(SECRET, 3, range(1, 5))[2]}
    for chosen in itertools.combinations(range(1, 5), 3):
        part = {holder: wrong[holder] for holder in chosen}
        assert (combine(part, 3) == SECRET) == (2 not in chosen)


@pytest.mark.parametrize(
    ("shares", "threshold"),
    [
        ({}, 1),
        ({1: b"x"}, 1),
        ({1: b"\xff" * SHARE_BYTES}, 1),
        ({1: bytes(SHARE_BYTES)}, 2),
        ({0: bytes(33)}, 1),
    ],
)
def test_what_is_no_set_of_shares_is_refused(shares, threshold):
    with pytest.raises(MessageError, match="shares of one secret"):
        combine(shares, threshold)


def test_a_value_beyond_32_bytes_is_no_secret():
    with pytest.raises(MessageError, match="belong to no secret of 32 bytes"):
        combine({1: (1 << 256).to_bytes(SHARE_BYTES, "big")}, 1)


@pytest.mark.parametrize(("threshold", "holders"), [(0, (1, 2)), (3, (1, 2)), (2, (0, 1)), (2, (1, 1))])
def test_a_plan_that_cannot_be_is_refused(threshold, holders):
    with pytest.raises(ConfigError, match="distinct holders, numbered from 1"):
        split(SECRET, threshold, holders)


def test_a_secret_has_32_bytes():
    with pytest.raises(ConfigError, match="a secret of 32 bytes"):
        split(b"short", 1, (1,))


@settings(max_examples=60)
@given(st.binary(min_size=32, max_size=32), st.integers(1, 8), st.integers(0, 8), st.data())
def test_up_to_half_of_the_shares_that_are_over_may_be_wrong(secret, threshold, more, data):
    number = threshold + more
    shares = split(secret, threshold, range(1, number + 1))
    wrong = data.draw(st.sets(st.integers(1, number), max_size=more // 2))
    changed = dict(shares)
    for holder in wrong:
        value = (int.from_bytes(shares[holder], "big") + data.draw(st.integers(1, PRIME - 1))) % PRIME
        changed[holder] = value.to_bytes(SHARE_BYTES, "big")
    assert corrected(changed, threshold) == (secret, frozenset(wrong))


def test_more_wrong_shares_than_that_give_no_secret_or_another():
    shares = split(SECRET, 3, range(1, 8))
    others = split(bytes(32), 3, range(1, 8))
    assert corrected(shares | {h: others[h] for h in (1, 2, 3, 4, 5)}, 3) == (bytes(32), frozenset({6, 7}))
    with pytest.raises(MessageError, match="shares of one secret"):
        corrected(shares | {h: bytes([0]) + bytes([h]) * 32 for h in (1, 2, 3)}, 3)
    for bad in ({1: shares[1]}, {}, {1: b"x", 2: shares[2], 3: shares[3]}):
        with pytest.raises(MessageError, match="shares of one secret"):
            corrected(bad, 3)


def test_what_is_no_share_at_all_is_a_wrong_one():
    shares = split(SECRET, 3, range(1, 6)) | {5: b"short", 4: b"\xff" * SHARE_BYTES}
    assert corrected(shares, 3) == (SECRET, frozenset({4, 5}))
