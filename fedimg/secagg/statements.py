"""What is signed, and what keys are derived for: each bound to the sum's context and to its purpose."""

from __future__ import annotations

import hashlib
import struct

from fedimg.crypto.keys import framed


def keys_statement(context: bytes, index: int, cipher: bytes, mask: bytes, commitment: bytes) -> bytes:
    """A site's keys of one sum."""
    return framed([b"keys", context, _place(index), cipher, mask, commitment])


def input_digest(words: bytes | memoryview) -> bytes:
    return hashlib.sha256(words).digest()


def input_statement(context: bytes, index: int, digest: bytes) -> bytes:
    """The one masked input of a site in a sum."""
    return framed([b"masked input", context, _place(index), digest])


def view_statement(context: bytes, keys: bytes, sharing: bytes, bound: bytes, survivors: bytes) -> bytes:
    """Everything that the coordinator must have shown to all alike, as the messages' bytes."""
    parts = (keys, sharing, bound, survivors)
    return framed([b"view", context, *(hashlib.sha256(part).digest() for part in parts)])


def share_purpose(context: bytes, sender: int, receiver: int) -> bytes:
    """Of the key that seals one site's shares for another, and of the data they are bound to."""
    return framed([b"shares", context, _place(sender), _place(receiver)])


def pair_purpose(context: bytes, one: int, other: int, bound: bytes) -> bytes:
    """Of the mask that two sites have in common, if they were asked for the same."""
    asked = hashlib.sha256(bound).digest()
    return framed([b"pair mask", context, _place(min(one, other)), _place(max(one, other)), asked])


def self_purpose(context: bytes, index: int) -> bytes:
    """Of a site's own mask, from its seed."""
    return framed([b"self mask", context, _place(index)])


def commitment_purpose(context: bytes, index: int) -> bytes:
    """Of the value that stands for a seed before it is opened."""
    return framed([b"seed commitment", context, _place(index)])


def _place(index: int) -> bytes:
    return struct.pack("<H", index)
