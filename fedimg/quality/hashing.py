"""Perceptual hashes, and all pairs of them that differ in a few bits.

The hash is the sign of the lowest 64 coefficients of a thumbnail's cosine transform against their median (C. Zauner,
"Implementation and Benchmarking of Perceptual Image Hash Functions", 2010). Pairs within r bits are found by the
pigeonhole principle: of r + 1 bands that the 64 bits are cut into, two such hashes have one in common (as in G. S.
Manku et al., WWW 2007). The search is exact: no pair within r is missed, none beyond is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn

from fedimg.errors import ConfigError
from fedimg.values import FloatArray

BITS = 64
LARGEST_RADIUS = 15
_LOW = 8  # coefficients a side
_PAIRS_AT_ONCE = 1 << 22

Hashes = npt.NDArray[np.uint64]
Pairs = npt.NDArray[np.int64]


def perceptual_hashes(thumbnails: FloatArray) -> Hashes:
    """(N, side, side) → (N,), side ≥ 8; 0 for one without contrast."""
    low = dctn(thumbnails.astype(np.float64), axes=(1, 2), norm="ortho")[:, :_LOW, :_LOW].reshape(-1, BITS)
    # The first is the mean grey value, as far from the others as can be.
    bits = low > np.median(low[:, 1:], axis=1, keepdims=True)
    bits &= np.abs(low[:, 1:]).max(axis=1, keepdims=True, initial=0) >= 1e-6
    hashes: Hashes = np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)
    return hashes


def pairs_within(hashes: Hashes, radius: int) -> Pairs:
    """(P, 2): every i < j whose hashes differ in at most `radius` bits, in order. Raises ConfigError as below."""
    pairs = pairs_between(hashes, hashes, radius)
    return pairs[pairs[:, 0] < pairs[:, 1]]


def pairs_between(left: Hashes, right: Hashes, radius: int) -> Pairs:
    """(P, 2): every (i, j) with left[i] and right[j] at most `radius` bits apart, each once, in order.

    Time grows with the pairs that share a band: near n for hashes that are unlike each other, n² for equal ones;
    memory with the pairs that are found. Raises ConfigError for a radius outside 0 to 15.
    """
    if not 0 <= radius <= LARGEST_RADIUS:
        raise ConfigError(f"a radius from 0 to {LARGEST_RADIUS} bits", str(radius), "change it")
    left, right = np.asarray(left, np.uint64), np.asarray(right, np.uint64)
    found = [np.zeros((0, 2), np.int64)]
    bands = _bands(radius + 1)
    for number, band in enumerate(bands):
        for i, j in _alike(_band(left, *band), _band(right, *band)):
            apart = left[i] ^ right[j]
            near = np.bitwise_count(apart) <= radius
            apart = apart[near]
            # A pair that shares several bands belongs to the first of them, so that it is found once.
            first = np.ones(len(apart), np.bool_)
            for earlier in bands[:number]:
                first &= _band(apart, *earlier) != 0
            found.append(np.stack([i[near][first], j[near][first]], axis=1))
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _bands(count: int) -> list[tuple[int, int]]:
    """(shift, width) of as many bands, as equal as they can be, that cover the bits once."""
    edges = [k * BITS // count for k in range(count + 1)]
    return [(low, high - low) for low, high in pairwise(edges)]


def _band(hashes: Hashes, shift: int, width: int) -> Hashes:
    if width == BITS:
        return hashes
    band: Hashes = (hashes >> np.uint64(shift)) & np.uint64((1 << width) - 1)
    return band


def _alike(left: Hashes, right: Hashes) -> Iterator[tuple[Pairs, Pairs]]:
    """All pairs of equal keys, as blocks of (i, j) of bounded size."""
    order = np.argsort(right, kind="stable")
    keys = right[order]
    starts, ends = np.searchsorted(keys, left, "left"), np.searchsorted(keys, left, "right")
    reached = np.concatenate([[0], np.cumsum(ends - starts)])
    begin = 0
    while begin < len(left):
        end = max(begin + 1, int(np.searchsorted(reached, reached[begin] + _PAIRS_AT_ONCE, "right")) - 1)
        i = np.repeat(np.arange(begin, end), (ends - starts)[begin:end])
        if len(i):
            step = np.arange(len(i)) - (reached[i] - reached[begin])
            yield i, order[starts[i] + step]
        begin = end
