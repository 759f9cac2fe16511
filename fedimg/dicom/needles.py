"""Needles made ready for one pass over bytes: what the first bytes of any of them may be.

Wherever a needle lies, its first byte pairs lie there: a place whose pairs begin no needle needs no further
look, and numpy looks at all places in one pass, whatever the number of needles.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import numpy.typing as npt

# In pixels any byte may follow any other: shorter runs would be met by chance (a needle of 6 letters
# once in 10^12 bytes of noise).
SHORTEST_IN_PIXELS = 6
TEXT_PREFIX, PIXEL_PREFIX = 4, 5
_MOST_STALE = 256
_BLOCK = 1 << 16  # words: few, so that a bright spot or a header beside dark pixels costs its own block only

Table = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint16]
Numbers = npt.NDArray[np.uint64]


class Needles:
    """Needles with tables of the bytes that they begin with; made for one set, and others may be added.

    Attributes:
        all: lower case. short: under `TEXT_PREFIX` bytes.
        in_text: first `TEXT_PREFIX` bytes → needles.
        in_pixels: `PIXEL_PREFIX` bytes from the first or the second on → (needle, 0 or 1). In pixels every
            second place is looked at: at one of the two a needle's bytes begin.
        text_keys, pixel_keys: keys of the two as numbers, ordered.
        text_starts, pixel_starts: what consecutive 16-bit words may be where a needle begins.
    """

    def __init__(self, needles: Iterable[bytes] = ()) -> None:
        self.all: set[bytes] = set()
        self.short: list[bytes] = []
        self.in_text: dict[bytes, list[bytes]] = {}
        self.in_pixels: dict[bytes, list[tuple[bytes, int]]] = {}
        self._heads: set[bytes] = set()
        self._tabulate()
        self.add(needles)

    def add(self, needles: Iterable[bytes]) -> None:
        heads: set[bytes] = set()
        for needle in needles:
            if needle in self.all:
                continue
            self.all.add(needle)
            if len(needle) < TEXT_PREFIX:
                self.short.append(needle)
                continue
            self.in_text.setdefault(needle[:TEXT_PREFIX], []).append(needle)
            heads.add(needle[:SHORTEST_IN_PIXELS])
            if len(needle) >= SHORTEST_IN_PIXELS:
                for offset in (0, 1):
                    key = needle[offset : offset + PIXEL_PREFIX]
                    self.in_pixels.setdefault(key, []).append((needle, offset))
        if not heads <= self._heads:
            self._heads |= heads
            self._tabulate()

    def _tabulate(self) -> None:
        self.text_keys, self.pixel_keys = _numbers(self.in_text), _numbers(self.in_pixels)
        heads = _rows([head[:TEXT_PREFIX] for head in self._heads], TEXT_PREFIX)
        self.text_starts = Starts([_cases(heads, 0)], [_cases(heads, 2)])
        long = [head for head in self._heads if len(head) == SHORTEST_IN_PIXELS]
        heads = _rows(long, SHORTEST_IN_PIXELS)
        one_letter = heads[:, 1] == 0  # in the first word: UTF-16LE
        two, wide = heads[~one_letter], heads[one_letter]
        self.pixel_starts = (
            Starts([_cases(two, 0), _cases(heads, 1)], [_cases(two, 2), _cases(heads, 3)]),
            Starts([_cases(wide, 0)], [_cases(wide, 2)], [_cases(wide, 4)]),
        )


class Starts:
    """What consecutive 16-bit words may be, as one table a word."""

    def __init__(self, *words: Sequence[Sequence[Words]]) -> None:
        self._tables = [_table([part for group in parts for part in group]) for parts in words]
        # Least and greatest: compared with the words of an image, which is quicker than looking all of them up.
        self._limits = [np.flatnonzero(table)[[0, -1]].tolist() for table in self._tables if table.any()]

    def places(self, words: Words, step: int = 1) -> npt.NDArray[np.int64]:
        """Where the words may begin, `step` from one to the next; those behind the end may be anything."""
        behind = (len(self._tables) - 1) * step
        found = [np.zeros(0, np.int64)]
        for begin in range(0, len(words), _BLOCK):
            part = words[begin : begin + _BLOCK + behind]
            # 12-bit values never are two letters.
            if self._limits and int(part.max()) >= self._limits[0][0]:
                found.append(begin + self._within_limits(part, step))
        places = np.concatenate(found)
        whole = int(np.searchsorted(places, len(words) - behind))
        sure, ending = places[:whole], places[whole:]
        for n, table in enumerate(self._tables):
            sure = sure[table[words[sure + n * step]]]
        return np.concatenate([sure, ending])

    def _within_limits(self, part: Words, step: int) -> npt.NDArray[np.int64]:
        possible = _between(part, self._limits[0])
        for n, limit in enumerate(self._limits[1:], 1):
            possible[: -n * step] &= _between(part[n * step :], limit)
        return np.flatnonzero(possible[:_BLOCK])


class RecentNeedles(threading.local):
    """Needles of one file after the other: those that a patient's files have in common are made ready once.

    Each thread has its own: one that adds needles may not change what another searches for.
    """

    def __init__(self) -> None:
        self._needles, self._shared = Needles(), frozenset[bytes]()

    def holding(self, needles: frozenset[bytes], shared: frozenset[bytes]) -> Needles:
        """All `needles` and `shared` ones, and some of other files: their hits do not count.

        Args:
            shared: the same object for many files.
        """
        if len(self._needles.all) > len(needles) + len(shared) + _MOST_STALE:
            self._needles, self._shared = Needles(), frozenset()
        if shared is not self._shared:
            self._needles.add(shared)
            self._shared = shared
        self._needles.add(needles - self._needles.all)
        return self._needles


def _between(words: Words, limits: Sequence[int]) -> Table:
    least, greatest = limits
    return words - np.uint16(least) <= np.uint16(greatest - least)  # wraps round below the least


def _numbers(keys: Collection[bytes]) -> Numbers:
    """Byte strings as little-endian numbers, ordered."""
    return np.sort(np.array([int.from_bytes(key, "little") for key in keys], np.uint64))


def _rows(heads: Sequence[bytes], length: int) -> Words:
    return np.frombuffer(b"".join(heads), np.uint8).reshape(-1, length).astype(np.uint16)


def _cases(heads: Words, offset: int) -> list[Words]:
    """The byte pairs at an offset of each head, each byte in lower and in upper case."""
    upper = heads - ((heads >= ord("a")) & (heads <= ord("z"))) * np.uint16(32)
    return [
        low[:, offset] | high[:, offset + 1] << np.uint16(8)
        for low in (heads, upper)
        for high in (heads, upper)
    ]


def _table(words: Iterable[Words]) -> Table:
    table = np.zeros(1 << 16, np.bool_)
    for some in words:
        table[some] = True
    return table
