"""The residual gate: no identifier of the input may stand in the bytes that were written.

Two checks on the re-opened file, each enough to hold it back: nothing is in it that the profile
does not name (structure), and none of the input's identifiers is in it in any spelling (search).

What the search cannot see: an identifier that is an image (a later layer), one shorter than
`identifiers` collects, one inside compressed pixels, which this software's own encoder wrote.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.values import convert_SQ

from fedimg.dicom.encoder import PIXEL_DATA
from fedimg.dicom.profile import Profile
from fedimg.dicom.pseudonyms import is_patient_key

# In pixels any byte may follow any other: shorter runs would be met by chance (a needle of 6 letters
# once in 10^12 bytes of noise).
SHORTEST_IN_PIXELS = 6
_META = frozenset({0x00020000, 0x00020001, 0x00020002, 0x00020003, 0x00020010, 0x00020012, 0x00020013})
_METHOD_CODES = 0x00120064


def search(
    data: bytes, needles: Collection[bytes], pixels: tuple[int, int] | None = None
) -> list[tuple[int, int]]:
    """Where `needles` (lower case) stand in `data` as whole words: (start, end), in any case.

    `pixels` is the (start, end) of pixel data: there only needles of `SHORTEST_IN_PIXELS` bytes count.
    A letter next to a letter, or a digit next to a digit, continues the word: no hit.
    """
    lower = data.lower()
    start, end = pixels or (len(lower), len(lower))
    hits: list[tuple[int, int]] = []
    for part, first, last in ((lower[:start], 0, start), (lower[end:], end, len(lower))):
        for needle in [needle for needle in needles if needle in part]:
            hits += _occurrences(lower, needle, first, last)
    # Overlapping the borders, so that a word half in the pixels is found.
    hits += _search_pixels(
        lower, [n for n in needles if len(n) >= SHORTEST_IN_PIXELS], max(start - 64, 0), end
    )
    return sorted(set(hits))


def outside(hits: Iterable[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The hits that do not lie wholly within one of the spans (values of closed vocabularies)."""
    return [hit for hit in hits if not any(start <= hit[0] and hit[1] <= end for start, end in spans)]


def _occurrences(lower: bytes, needle: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    at = lower.find(needle, start, end)
    while at >= 0:
        if _stands_alone(lower, at, needle):
            yield at, at + len(needle)
        at = lower.find(needle, at + 1, end)


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


def _search_pixels(lower: bytes, needles: Sequence[bytes], start: int, end: int) -> list[tuple[int, int]]:
    """One pass over any number of needles: aligned byte pairs first, then the few places left.

    Wherever a needle of six bytes lies, two neighbouring aligned pairs of it lie within: at offset
    0 or at offset 1. A place passes if both pairs are such pairs of some needle.
    """
    if not needles or end - start < SHORTEST_IN_PIXELS:
        return []
    start -= start % 2
    block = lower[start:end]
    pairs = np.frombuffer(block[: len(block) // 2 * 2], dtype="<u2")
    edges = (
        np.frombuffer(b"".join(needle[:5] for needle in needles), np.uint8).reshape(-1, 5).astype(np.uint16)
    )
    words = edges[:, :4] | edges[:, 1:] << 8  # the four byte pairs that begin at bytes 0 to 3
    first, second = np.zeros(1 << 16, np.bool_), np.zeros(1 << 16, np.bool_)
    first[words[:, :2]] = True
    second[words[:, 2:]] = True
    candidates: npt.NDArray[np.int64] = np.flatnonzero(first[pairs[:-1]] & second[pairs[1:]])
    if not candidates.size:
        return []
    by_pair: dict[bytes, list[tuple[bytes, int]]] = {}
    for needle in needles:
        for offset in (0, 1):
            by_pair.setdefault(needle[offset : offset + 4], []).append((needle, offset))
    hits = []
    for index in candidates.tolist():
        place = start + 2 * index
        for needle, offset in by_pair.get(lower[place : place + 4], ()):
            at = place - offset
            if at >= 0 and lower.startswith(needle, at) and _stands_alone(lower, at, needle):
                hits.append((at, at + len(needle)))
    return hits


def structure_fault(data: bytes, profile: Profile) -> str | None:
    """What in a written file contradicts the profile, in words without values; None if nothing does."""
    if data[:128] != bytes(128) or data[128:132] != b"DICM":
        return "a preamble that is not zero"
    dataset = pydicom.dcmread(BytesIO(data))
    if {int(element.tag) for element in dataset.file_meta.values()} - _META:
        return "a file meta element too many"
    for keyword in ("PatientID", "PatientName"):
        if not is_patient_key(str(dataset.get(keyword, ""))):
            return f"{keyword} that is no pseudonym"
    if dataset.get("PatientIdentityRemoved") != "YES":
        return "a file without the marks of de-identification"
    return _stray(dataset, profile, "root", 0)


def _stray(dataset: Dataset, profile: Profile, context: str, depth: int) -> str | None:
    rows = profile.contexts[context]
    for element in dataset.values():
        tag = int(element.tag)
        row = rows.get(tag)
        if row is None or depth > 16:
            return "an attribute that the profile does not name"
        vr = element.VR or ""
        if vr not in row.vr.split(" or "):
            return f"{row.keyword} with another VR than the dictionary's"
        if tag == PIXEL_DATA or vr != "SQ":
            continue
        inner = "method_code" if tag == _METHOD_CODES else row.rule if row.rule in profile.contexts else None
        for item in _items(element):
            fault = _stray(item, profile, inner or "code", depth + 1)
            if fault:
                return fault
    return None


def _items(element: RawDataElement | DataElement) -> Iterable[Dataset]:
    if isinstance(element, RawDataElement):
        return convert_SQ(element.value or b"", element.is_implicit_VR, element.is_little_endian)
    return element.value  # type: ignore[no-any-return]  # pydicom types the value of any VR as Any
