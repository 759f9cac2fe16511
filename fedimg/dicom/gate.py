"""The residual gate: no identifier of the input may stand in the bytes that were written.

Two checks on the re-opened file, each enough to hold it back: nothing is in it that the profile
does not allow (`conformity`), and none of the input's identifiers is in it in any spelling (search).

What the search cannot see: an identifier that is an image (a later layer), one shorter than
`identifiers` collects, one inside compressed pixels, which this software's own encoder wrote.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fedimg.dicom.conformity import structure_fault

__all__ = ["SHORTEST_IN_PIXELS", "outside", "search", "structure_fault"]

# In pixels any byte may follow any other: shorter runs would be met by chance (a needle of 6 letters
# once in 10^12 bytes of noise).
SHORTEST_IN_PIXELS = 6
_PREFIX, _PIXEL_PREFIX = 4, 5


def search(
    data: bytes,
    needles: Collection[bytes],
    pixels: tuple[int, int] | None = None,
    shared: frozenset[bytes] = frozenset(),
) -> list[tuple[int, int]]:
    """Where `needles` (lower case) stand in `data` as whole words: (start, end), in any case.

    Args:
        pixels: (start, end) of pixel data: there only needles of `SHORTEST_IN_PIXELS` bytes count.
        shared: more needles, the same for many files: prepared once.

    A letter next to a letter, or a digit next to a digit, continues the word: no hit.
    """
    own = _Prepared(needles)
    both = (own, _prepared(shared)) if shared else (own,)
    start, end = pixels or (len(data), len(data))
    hits: list[tuple[int, int]] = []
    for first, last in ((0, start), (end, len(data))):
        if last > first:
            hits += _search_text(data, first, last, both)
    # Overlapping the borders, so that a word half in the pixels is found.
    hits += _search_pixels(data, max(start - 64, 0), end, both)
    return sorted(set(hits))


def outside(hits: Iterable[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The hits that do not lie wholly within one of the spans (values of closed vocabularies)."""
    return [hit for hit in hits if not any(start <= hit[0] and hit[1] <= end for start, end in spans)]


class _Prepared:
    """Needles with tables of the byte pairs they begin with.

    Wherever a needle lies, its first pairs lie there: a place whose pairs are not in the tables
    needs no further look, and numpy looks at all places in one pass, whatever the number of needles.
    """

    __slots__ = ("long", "paired", "pixel_keys", "pixel_tables", "short", "text_keys", "text_tables")

    def __init__(self, needles: Collection[bytes]) -> None:
        self.short = [needle for needle in needles if len(needle) < _PREFIX]
        self.long = [needle for needle in needles if len(needle) >= _PREFIX]
        self.paired = [needle for needle in self.long if len(needle) >= SHORTEST_IN_PIXELS]
        heads = _heads(self.long, _PREFIX)
        # In text every place is looked at, for bytes 0 to 3 of a needle.
        self.text_tables = (_table(heads, (0,)), _table(heads, (2,)))
        self.text_keys = _keys(heads, (0,), _PREFIX)
        # In pixels every second place: of any needle of six bytes, bytes 0 to 4 or 1 to 5 begin at one.
        heads = _heads(self.paired, SHORTEST_IN_PIXELS)
        self.pixel_tables = (_table(heads, (0, 1)), _table(heads, (2, 3)))
        self.pixel_keys = _keys(heads, (0, 1), _PIXEL_PREFIX)


@lru_cache(maxsize=4)
def _prepared(needles: frozenset[bytes]) -> _Prepared:
    return _Prepared(needles)


def _heads(needles: Sequence[bytes], length: int) -> npt.NDArray[np.uint16]:
    joined = b"".join([needle[:length] for needle in needles])
    return np.frombuffer(joined, np.uint8).reshape(-1, length).astype(np.uint16)


def _keys(heads: npt.NDArray[np.uint16], offsets: Sequence[int], length: int) -> npt.NDArray[np.uint64]:
    """`length` bytes of each needle from each of `offsets` on, as one number."""
    found = [np.zeros(0, np.uint64)]
    for offset in offsets:
        number = np.zeros(len(heads), np.uint64)
        for n in range(length):
            number |= heads[:, offset + n].astype(np.uint64) << np.uint64(8 * n)
        found.append(number)
    return np.unique(np.concatenate(found))


def _table(heads: npt.NDArray[np.uint16], offsets: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Which of all byte pairs begin at one of `offsets` of a needle, in either case."""
    table = np.zeros(1 << 16, np.bool_)
    upper = np.where((heads >= ord("a")) & (heads <= ord("z")), heads - 32, heads).astype(np.uint16)
    for offset in offsets:
        for low in (heads, upper):
            for high in (heads, upper):
                table[low[:, offset] | high[:, offset + 1] << 8] = True
    return table


def _either(tables: Sequence[npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_]:
    return tables[0] if len(tables) == 1 else tables[0] | tables[1]


def _search_text(
    data: bytes, start: int, end: int, prepared: Sequence[_Prepared]
) -> Iterator[tuple[int, int]]:
    """Needles that lie wholly between start and end; what is next to them may lie beyond."""
    before = max(start - 2, 0)
    lower = data[before : end + 2].lower()
    first_place, last_end = start - before, end - before
    found = [
        (at, needle)
        for needle in [needle for group in prepared for needle in group.short if needle in lower]
        for at in _places(lower, needle)
    ]
    if len(lower) >= _PREFIX:
        found += _long_places(lower, prepared)
    for at, needle in found:
        if at >= first_place and at + len(needle) <= last_end and _stands_alone(lower, at, needle):
            yield before + at, before + at + len(needle)


def _long_places(lower: bytes, prepared: Sequence[_Prepared]) -> Iterator[tuple[int, bytes]]:
    """(place, needle) wherever a needle of `_PREFIX` bytes or more lies."""
    single = np.frombuffer(lower, np.uint8).astype(np.uint16)
    pairs = single[:-1] | single[1:] << 8
    first, second = (_either([group.text_tables[n] for group in prepared]) for n in (0, 1))
    places = np.flatnonzero(first[pairs[:-2]])
    places = places[second[pairs[places + 2]]]
    keys = pairs[places].astype(np.uint64) | pairs[places + 2].astype(np.uint64) << np.uint64(16)
    known = [group.text_keys for group in prepared]
    needles = [(group.long, 0) for group in prepared]
    for at, needle, _ in _candidates(places, keys, known, _PREFIX, needles):
        if lower.startswith(needle, at):
            yield at, needle


def _candidates(
    places: npt.NDArray[np.int64],
    keys: npt.NDArray[np.uint64],
    known: Sequence[npt.NDArray[np.uint64]],
    length: int,
    needles: Iterable[tuple[Sequence[bytes], int]],
) -> Iterator[tuple[int, bytes, int]]:
    """(place, needle, offset) where the bytes at a place (its key) are `length` bytes of a needle from offset on.

    `known` holds those keys of all needles: a place whose key is not among them is left out at once.
    """
    within = np.zeros(places.shape, np.bool_)
    for numbers in known:
        if numbers.size:
            nearest = np.minimum(np.searchsorted(numbers, keys), numbers.size - 1)
            within |= numbers[nearest] == keys
    if not within.any():
        return
    left = [
        (place, key.to_bytes(length, "little"))
        for place, key in zip(places[within].tolist(), keys[within].tolist(), strict=True)
    ]
    wanted = {key for _, key in left}
    by_key: dict[bytes, list[tuple[bytes, int]]] = {}
    for group, offset in needles:
        for needle in group:
            if (key := needle[offset : offset + length]) in wanted:
                by_key.setdefault(key, []).append((needle, offset))
    for place, key in left:
        for needle, offset in by_key.get(key, ()):
            yield place, needle, offset


def _places(lower: bytes, needle: bytes) -> Iterator[int]:
    at = lower.find(needle)
    while at >= 0:
        yield at
        at = lower.find(needle, at + 1)


def _stands_alone(lower: bytes, at: int, needle: bytes) -> bool:
    wide = len(needle) > 3 and needle[1] == 0 and needle[3] == 0  # UTF-16LE
    step = 2 if wide else 1
    before = lower[at - step : at - step + 1] if at >= step else b""
    after = lower[at + len(needle) : at + len(needle) + 1]
    return not (
        _same_kind(before, needle[:1]) or _same_kind(after, needle[-step : len(needle) - step + 1 or None])
    )


def _same_kind(neighbour: bytes, edge: bytes) -> bool:
    return (neighbour.isalpha() and edge.isalpha()) or (neighbour.isdigit() and edge.isdigit())


def _search_pixels(
    data: bytes, start: int, end: int, prepared: Sequence[_Prepared]
) -> Iterator[tuple[int, int]]:
    """Needles of six bytes and more that begin between start and end; aligned byte pairs first."""
    start -= start % 2
    if end - start < SHORTEST_IN_PIXELS:
        return
    pairs = np.frombuffer(data, "<u2", (end - start) // 2, start)
    first, second = (_either([group.pixel_tables[n] for group in prepared]) for n in (0, 1))
    places = np.flatnonzero(first.take(pairs[:-1]))
    places = places[second.take(pairs[places + 1])]
    bytewise = np.frombuffer(data, np.uint8)
    keys = np.zeros(places.shape, np.uint64)
    for n in range(_PIXEL_PREFIX):
        # The last byte may lie behind the pixels' end, or the data's: no needle is there then.
        byte = bytewise.take(places * 2 + (start + n), mode="clip")
        byte = byte + ((byte >= ord("A")) & (byte <= ord("Z"))) * np.uint8(32)
        keys |= byte.astype(np.uint64) << np.uint64(8 * n)
    known = [group.pixel_keys for group in prepared]
    offsets = [(group.paired, offset) for group in prepared for offset in (0, 1)]
    for index, needle, offset in _candidates(places, keys, known, _PIXEL_PREFIX, offsets):
        at = start + 2 * index - offset
        before = max(at - 2, 0)
        around = data[before : at + len(needle) + 2].lower()
        if at >= 0 and around.startswith(needle, at - before) and _stands_alone(around, at - before, needle):
            yield at, at + len(needle)
