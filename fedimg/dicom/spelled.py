"""Whether numbers that may stay read as text: a name can be hidden in floats, or as the entries of a table.

No attribute says what such letters are, so that no search finds them. Looked for are runs of
`_SHORTEST` characters, of one byte or two (UTF-16) each, that are letters, digits, spaces and the
punctuation of names, with `_LETTERS` letters among them. Numbers that happen to look so are told
apart by what numbers are: floats by their size, look-up tables by climbing or falling all the way
(PS3.3 C.11.1, C.11.2), colours by changing little from entry to entry (C.7.9). Colours that jump about
are letters by chance where their pairs are not those of names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

_SHORTEST, _LETTERS = 6, 4
_CHARACTER = rb"[A-Za-z0-9 ^,.'=_-]"
_NARROW = re.compile(_CHARACTER + rb"{%d,}" % _SHORTEST)
_WIDE = re.compile(rb"(?:" + _CHARACTER + rb"\0){%d,}" % _SHORTEST)
_LETTER, _REPEATED = re.compile(rb"[A-Za-z]"), re.compile(rb"(.)\1{2,}", re.DOTALL)
_FLOATS: Mapping[str, np.dtype[Any]] = {"FL": np.dtype("<f4"), "FD": np.dtype("<f8")}
_LEAST, _MOST = 1e-6, 1e6  # of floats in images; those that letters make are mostly beyond
# Pairs of letters that names of many languages are made of: of pairs by chance 45 in 100 are among them.
_PAIRS = frozenset(
    b"ab ac ad ah bd af ag ai ak al am an ap ar as at au av aw ay az ba be bi bl bo br bu by ca ce ch ci ck cl co cr cu cz "
    b"da de di do dr dt du dy ea eb ec ed ee ef eg ei ek el em en eo ep er es et eu ev ew ey ez fa fe ff fi fl fo fr fu "
    b"ga ge gg gh gi gl gn go gr gu ha he hi hl hm hn ho hr ht hu hy ia ib ic id ie if ig ij ik il im in io ip ir is it "
    b"iu iv iz ja je jo ju ka ke kh ki kl ko kr ks ku ky la ld le lf li lk ll lm lo ls lt lu lv ly lz ma mb mc me mi mm "
    b"mo mp ms mu my na nc nd ne ng ni nk nn no ns nt nu ny nz oa ob oc od oe of og oh oi oj ok ol om on oo op or os ot "
    b"ou ov ow ox oy oz pa pe pf ph pi pl po pp pr ps pu qu ra rb rc rd re rg rh ri rk rl rm rn ro rr rs rt ru rv ry rz "
    b"sa sc se sh si sk sl sm sn so sp ss st su sv sw sy sz ta tc te th ti tj to tr ts tt tu ty tz ua ub uc ud ue uf ug "
    b"ui uk ul um un up ur us ut uy va ve vi vo vu wa we wi wo wr ws xi ya ye yi yl ym yn yo yr ys yu za ze zh zi zo zu".split()
)
_WINDOW = 10
_SHORTEST_CURVE = 16  # entries: fewer could be the letters of a name that happen to climb
_STEP = 0x0600  # between neighbours among 65,536 shades: six times that of an even ramp over 256 entries


def reads_as_text(raw: bytes, vr: str) -> bool:
    """Whether the little-endian bytes of binary numbers hold a run that a person could read."""
    kind = _FLOATS.get(vr)
    if kind is None:
        return next(_runs(raw), None) is not None
    return any(_odd(raw, kind, first, last) for first, last in _runs(raw))


def table_reads_as_text(raw: bytes, bits: int) -> bool:
    """The same for a look-up table or one channel of a palette, whose entries may pass letters on their way.

    Args:
        raw: little-endian entries. bits: of an entry, 8 or 16.
    """
    width = bits // 8
    entries = np.frombuffer(raw, "u1" if bits == 8 else "<u2", len(raw) // width).astype(np.int64)
    if bits == 16 and bool((entries >> 8 == entries & 0xFF).all()):
        return False  # shades of 8 bits, doubled: their bytes say everything twice, as no word does
    steps = np.diff(entries)
    if len(entries) >= _SHORTEST_CURVE and (bool((steps >= 0).all()) or bool((steps <= 0).all())):
        return False
    for first, last in _runs(raw):
        step = 2 if raw[first + 1] == 0 else 1
        for start, end in _words(raw[first:last:step]):
            low, high = (first + start * step) // width, -(-(first + end * step) // width)
            if not _smooth(entries[low:high], bits):
                return True
    return False


def _runs(raw: bytes) -> Iterator[tuple[int, int]]:
    for pattern in (_NARROW, _WIDE):
        for found in pattern.finditer(raw):
            # Steps of a table repeat, letters of a word do not.
            said = _REPEATED.sub(rb"\1", found.group().replace(b"\0", b""))
            if len(said) >= _SHORTEST and len(_LETTER.findall(said)) >= _LETTERS:
                yield found.span()


def _words(said: bytes) -> Iterator[tuple[int, int]]:
    """Where the letters of a text read like names: of ten in a row nearly all pairs, of fewer all of them."""
    places = [letter.start() for letter in _LETTER.finditer(said)]
    known = [  # what is not side by side is no pair, and says nothing
        second > first + 1 or said[first : second + 1].lower() in _PAIRS for first, second in pairwise(places)
    ]
    for at in range(max(1, len(known) - _WINDOW + 2)):
        window = known[at : at + _WINDOW - 1]
        if len(window) - sum(window) <= (1 if len(window) == _WINDOW - 1 else 0):
            yield places[at], places[at + len(window)] + 1


def _odd(raw: bytes, kind: np.dtype[Any], first: int, last: int) -> bool:
    """Whether any of the floats under a run has a size that measurements have not."""
    start, end = first // kind.itemsize, min(-(-last // kind.itemsize), len(raw) // kind.itemsize)
    sizes = np.abs(np.frombuffer(raw, kind, end - start, start * kind.itemsize).astype(np.float64))
    usual = (sizes == 0) | ((sizes >= _LEAST) & (sizes <= _MOST))
    return not usual.all()


def _smooth(entries: npt.NDArray[np.int64], bits: int) -> bool:
    """Whether a table passes letters on its way; shades of 8 bits may lie alone in 16."""
    if bits == 16 and int(entries.max(initial=0)) < 256:
        bits = 8
    return bool((np.abs(np.diff(entries)) <= (_STEP if bits == 16 else _STEP >> 8)).all())
