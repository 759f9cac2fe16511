"""Shamir's secret sharing: any t of n shares give the secret, fewer than t say nothing about it.

A. Shamir, "How to Share a Secret", Communications of the ACM 22(11), 1979. Secrets are 32 bytes, the field is that of
the integers modulo the smallest prime above 2²⁵⁶, and a share is 33 bytes whatever the secret is. A dangerous
floor: a share says nothing of whether it is right; whoever combines shares checks the secret against what its
owner has signed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping

from fedimg.errors import ConfigError, MessageError

SECRET_BYTES, SHARE_BYTES = 32, 33
PRIME = (1 << 256) + 297

Uniform = Callable[[int], int]
"""n → a uniform integer below n."""


def split(
    secret: bytes, threshold: int, holders: Collection[int], uniform: Uniform = secrets.randbelow
) -> dict[int, bytes]:
    """A share for each holder.

    Args:
        secret: 32 bytes.
        threshold: t ≥ 1, how many shares give the secret back.
        holders: distinct numbers from 1 on, at least t: the points at which the polynomial is evaluated.
        uniform: draws the coefficients.
    """
    if len(secret) != SECRET_BYTES:
        raise ConfigError(
            f"a secret of {SECRET_BYTES} bytes", f"{len(secret)} bytes", "derive a key from it first"
        )
    if not 1 <= threshold <= len(holders) or min(holders) < 1 or len(set(holders)) != len(holders):
        raise ConfigError(
            "at least as many distinct holders, numbered from 1, as the threshold",
            f"{len(holders)} holders, threshold {threshold}",
            "correct the plan of the secure sum",
        )
    coefficients = [int.from_bytes(secret, "big"), *(uniform(PRIME) for _ in range(threshold - 1))]
    return {holder: _value(coefficients, holder).to_bytes(SHARE_BYTES, "big") for holder in holders}


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret behind `threshold` of the shares (those of the lowest holders).

    Raises:
        MessageError: fewer shares than that, one that is no share, or shares of no secret.
    """
    chosen = sorted(shares)[:threshold]
    if len(chosen) < threshold or threshold < 1 or chosen[0] < 1:
        raise _refuse(f"{len(chosen)} shares")
    values = [int.from_bytes(shares[holder], "big") for holder in chosen]
    if any(len(shares[holder]) != SHARE_BYTES for holder in chosen) or max(values) >= PRIME:
        raise _refuse("bytes that are no share")
    secret = _interpolated(dict(zip(chosen, values, strict=True)), 0)
    if secret >> 256:
        raise _refuse("shares that belong to no secret of 32 bytes")
    return secret.to_bytes(SECRET_BYTES, "big")


def corrected(shares: Mapping[int, bytes], threshold: int) -> tuple[bytes, frozenset[int]]:
    """The secret, and the holders of wrong shares, of whom there may be ⌊(n − t)/2⌋ among n.

    Welch and Berlekamp 1986 (US patent 4633470, long expired): with E zero at the wrong holders and Q = E·f,
    Q(x) = y·E(x) holds at every share (x, y), right or wrong; it is linear in the coefficients of E and Q, and f = Q/E.
    More wrong shares give another secret, or none: the caller checks.

    Raises:
        MessageError: too few shares, or no polynomial that enough of them lie on.
    """
    points = {
        holder: int.from_bytes(share, "big") for holder, share in shares.items() if len(share) == SHARE_BYTES
    }
    points = {holder: value for holder, value in points.items() if value < PRIME and holder >= 1}
    if _lie_on_one(points, threshold):
        secret = combine({holder: shares[holder] for holder in points}, threshold)
        return secret, frozenset(shares.keys() - points.keys())
    errors = (len(points) - threshold) // 2
    if errors < 1:
        raise _refuse(f"{len(points)} shares that do not belong together")
    rows = []
    for x, y in points.items():
        powers = [pow(x, k, PRIME) for k in range(threshold + errors)]
        # E is monic: its highest term goes to the right
        rows.append([*(-y * p % PRIME for p in powers[:errors]), *powers, y * pow(x, errors, PRIME) % PRIME])
    solution = _solved(rows, errors + threshold + errors)
    locator, product = [*solution[:errors], 1], solution[errors:]
    polynomial, remainder = _divided(product, locator)
    right = {x for x, y in points.items() if _value(polynomial, x) == y}
    if any(remainder) or len(right) < len(points) - errors or polynomial[0] >> 256:
        raise _refuse("shares of no secret")
    return polynomial[0].to_bytes(SECRET_BYTES, "big"), frozenset(shares.keys() - right)


def _lie_on_one(points: Mapping[int, int], threshold: int) -> bool:
    """Whether all points lie on the polynomial through the first t of them."""
    if len(points) < threshold:
        raise _refuse(f"{len(points)} shares")
    first = dict(sorted(points.items())[:threshold])
    return all(_interpolated(first, x) == y for x, y in points.items() if x not in first)


def _interpolated(points: Mapping[int, int], at: int) -> int:
    total = 0
    for x, y in points.items():
        above, below = 1, 1
        for other in points:
            if other != x:
                above, below = above * (at - other) % PRIME, below * (x - other) % PRIME
        total += y * above * pow(below, -1, PRIME)
    return total % PRIME


def _solved(rows: list[list[int]], unknowns: int) -> list[int]:
    """Some solution of the linear system; its free unknowns are zero. Raises MessageError where there is none."""
    pivots: list[int] = []
    for column in range(unknowns):
        place = next((i for i in range(len(pivots), len(rows)) if rows[i][column]), None)
        if place is None:
            continue
        top = len(pivots)
        rows[top], rows[place] = rows[place], rows[top]
        inverse = pow(rows[top][column], -1, PRIME)
        rows[top] = [value * inverse % PRIME for value in rows[top]]
        for i, row in enumerate(rows):
            if i != top and row[column]:
                factor = row[column]
                rows[i] = [(a - factor * b) % PRIME for a, b in zip(row, rows[top], strict=True)]
        pivots.append(column)
    if any(row[-1] for row in rows[len(pivots) :]):
        raise _refuse("shares of no secret")
    solution = [0] * unknowns
    for row, column in zip(rows, pivots, strict=False):
        solution[column] = row[-1]
    return solution


def _divided(dividend: list[int], monic: list[int]) -> tuple[list[int], list[int]]:
    """Quotient and remainder, coefficients from the constant on."""
    rest, degree = list(dividend), len(monic) - 1
    quotient = [0] * max(1, len(rest) - degree)
    for place in range(len(rest) - 1, degree - 1, -1):
        factor = rest[place]
        quotient[place - degree] = factor
        for k, coefficient in enumerate(monic):
            rest[place - degree + k] = (rest[place - degree + k] - factor * coefficient) % PRIME
    return quotient, rest[:degree]


def _value(coefficients: list[int], at: int) -> int:
    total = 0
    for coefficient in reversed(coefficients):
        total = (total * at + coefficient) % PRIME
    return total


def _refuse(found: str) -> MessageError:
    return MessageError("shares of one secret, as many as the threshold", found, "the secure sum is void")
