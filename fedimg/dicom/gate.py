"""The residual gate: no identifier of the input may stand in the bytes that were written.

Two checks on the re-opened file, each enough to hold it back: nothing is in it that the profile
does not allow (`conformity`), and none of the input's identifiers is in it in any spelling (search).

What the search cannot see: an identifier that is an image (a later layer), one shorter than
`identifiers` collects, one inside compressed pixels, which this software's own encoder wrote.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fedimg.dicom.conformity import structure_fault
from fedimg.dicom.needles import (
    PIXEL_PREFIX,
    SHORTEST_IN_PIXELS,
    TEXT_PREFIX,
    Needles,
    Numbers,
    RecentNeedles,
)

__all__ = ["SHORTEST_IN_PIXELS", "outside", "search", "structure_fault"]

_recent = RecentNeedles()


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
    own = frozenset(needles)
    known = _recent.holding(own, shared)
    start, end = pixels or (len(data), len(data))
    found: list[tuple[int, bytes]] = []
    for first, last in ((0, start), (end, len(data))):
        if last > first:
            found += _search_text(data, first, last, known)
    # Overlapping the borders, so that a word half in the pixels is found.
    found += _search_pixels(data, max(start - 64, 0), end, known)
    return sorted({(at, at + len(needle)) for at, needle in found if needle in own or needle in shared})


def outside(hits: Iterable[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The hits that do not lie wholly within one of the spans (values of closed vocabularies)."""
    return [hit for hit in hits if not any(start <= hit[0] and hit[1] <= end for start, end in spans)]


def _search_text(data: bytes, start: int, end: int, known: Needles) -> Iterator[tuple[int, bytes]]:
    """(place, needle) of those that lie wholly between start and end; what is next to them may lie beyond."""
    before = max(start - 2, 0)
    lower = data[before : end + 2].lower()
    first_place, last_end = start - before, end - before
    short = [(at, needle) for needle in known.short if needle in lower for at in _places(lower, needle)]
    for at, needle in (*short, *_long_places(lower, known)):
        if at >= first_place and at + len(needle) <= last_end and _stands_alone(lower, at, needle):
            yield before + at, needle


def _long_places(lower: bytes, known: Needles) -> Iterator[tuple[int, bytes]]:
    """(place, needle) wherever a needle of `TEXT_PREFIX` bytes or more lies."""
    if len(lower) < TEXT_PREFIX:
        return
    single = np.frombuffer(lower, np.uint8).astype(np.uint16)
    pairs = single[:-1] | single[1:] << np.uint16(8)
    places = known.text_starts.places(pairs, step=2)
    places = places[places < len(pairs) - 2]
    keys = pairs[places].astype(np.uint64) | pairs[places + 2].astype(np.uint64) << np.uint64(16)
    for at, key in _known(places, keys, known.text_keys, TEXT_PREFIX):
        for needle in known.in_text[key]:
            if lower.startswith(needle, at):
                yield at, needle


def _known(
    places: npt.NDArray[np.int64], keys: Numbers, known: Numbers, length: int
) -> Iterator[tuple[int, bytes]]:
    """(place, key) of the places whose keys, numbers of `length` bytes, are known."""
    if not known.size:
        return
    nearest = np.minimum(np.searchsorted(known, keys), known.size - 1)
    within = known[nearest] == keys
    for place, key in zip(places[within].tolist(), keys[within].tolist(), strict=True):
        yield place, key.to_bytes(length, "little")


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


def _search_pixels(data: bytes, start: int, end: int, known: Needles) -> Iterator[tuple[int, bytes]]:
    """(place, needle) of those of six bytes and more that begin between start and end."""
    start -= start % 2
    if end - start < SHORTEST_IN_PIXELS:
        return
    words = np.frombuffer(data, "<u2", (end - start) // 2, start)
    places = np.concatenate([starts.places(words) for starts in known.pixel_starts])
    # The last byte may lie behind the pixels' end, or the data's: no needle is there then.
    at_places = (start + 2 * places)[:, np.newaxis] + np.arange(PIXEL_PREFIX)
    first = np.frombuffer(data, np.uint8).take(at_places, mode="clip")
    keys = np.zeros((len(places), 8), np.uint8)
    keys[:, :PIXEL_PREFIX] = first + ((first >= ord("A")) & (first <= ord("Z"))) * np.uint8(32)
    for index, key in _known(places, keys.view(np.uint64)[:, 0], known.pixel_keys, PIXEL_PREFIX):
        for needle, offset in known.in_pixels[key]:
            at = start + 2 * index - offset
            before = max(at - 2, 0)
            around = data[before : at + len(needle) + 2].lower()
            if (
                at >= 0
                and around.startswith(needle, at - before)
                and _stands_alone(around, at - before, needle)
            ):
                yield at, needle
