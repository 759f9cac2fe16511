"""What is signed, and what keys are derived for: each bound to the sum's context and to its purpose."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from fedimg.crypto.keys import framed


def keys_statement(context: bytes, index: int, cipher: bytes, mask: bytes, commitment: bytes) -> bytes:
    """A site's keys of one sum."""
    return framed([b"keys", context, _place(index), cipher, mask, commitment])


def input_digest(words: bytes | memoryview) -> bytes:
    return hashlib.sha256(words).digest()


def input_statement(context: bytes, index: int, digest: bytes) -> bytes:
    """The one masked input of a site in a sum."""
    return framed([b"masked input", context, _place(index), digest])


def asked_digest(bound: bytes) -> bytes:
    """Of what all sites of a sum are asked for: a whole model, so it is hashed once and not for each mask."""
    return hashlib.sha256(bound).digest()


def view_statement(
    context: bytes, keys: bytes, sharing: Sequence[int], asked: bytes, survivors: bytes
) -> bytes:
    """Everything that the coordinator must have shown to all alike: messages, who shared, and `asked_digest`."""
    shown = (hashlib.sha256(part).digest() for part in (keys, b"".join(map(_place, sharing)), survivors))
    return framed([b"view", context, *shown, asked])


def share_purpose(context: bytes, sender: int, receiver: int) -> bytes:
    """Of the key that seals one site's shares for another, and of the data they are bound to."""
    return framed([b"shares", context, _place(sender), _place(receiver)])


def pair_purpose(context: bytes, one: int, other: int, asked: bytes) -> bytes:
    """Of the mask that two sites have in common, if they were asked for the same (`asked_digest`)."""
    return framed([b"pair mask", context, _place(min(one, other)), _place(max(one, other)), asked])


def self_purpose(context: bytes, index: int) -> bytes:
    """Of a site's own mask, from its seed."""
    return framed([b"self mask", context, _place(index)])


def commitment_purpose(context: bytes, index: int) -> bytes:
    """Of the value that stands for a seed before it is opened."""
    return framed([b"seed commitment", context, _place(index)])


def _place(index: int) -> bytes:
    return struct.pack("<H", index)
