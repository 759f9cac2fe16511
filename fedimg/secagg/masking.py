"""Masks: pseudo-random words that two sites agree on, one adding what the other takes off.

A stream is ChaCha20's (RFC 8439) under a key of 256 bits that serves for one stream; words are its bytes in
little-endian order. Added up modulo 2ᵏ, the masks of a pair are zero; a masked vector alone is uniform to
whoever does not know its keys.
"""

from __future__ import annotations

import numpy as np

from fedimg.crypto.keystream import keystream_blocks
from fedimg.values import Words


def add_mask(words: Words, key: bytes, *, negative: bool = False) -> None:
    """Add the stream of `key` to (P,) words in place, modulo 2ᵏ; take it off where `negative`.

    Block by block, in the processor's cache.
    """
    apply = np.subtract if negative else np.add
    start = 0
    for block in keystream_blocks(key, words.nbytes):
        mask = np.frombuffer(block, dtype=words.dtype)
        part = words[start : start + len(mask)]
        apply(part, mask, out=part)
        start += len(mask)
