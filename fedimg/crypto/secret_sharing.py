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
    total = 0
    for holder, value in zip(chosen, values, strict=True):
        above, below = 1, 1
        for other in chosen:
            if other != holder:
                above, below = above * other % PRIME, below * (other - holder) % PRIME
        total += value * above * pow(below, -1, PRIME)
    secret = total % PRIME
    if secret >> 256:
        raise _refuse("shares that belong to no secret of 32 bytes")
    return secret.to_bytes(SECRET_BYTES, "big")


def _value(coefficients: list[int], at: int) -> int:
    total = 0
    for coefficient in reversed(coefficients):
        total = (total * at + coefficient) % PRIME
    return total


def _refuse(found: str) -> MessageError:
    return MessageError("shares of one secret, as many as the threshold", found, "the secure sum is void")
