"""Images whose size, spacing, brightness or contrast is not that of the others of their modality.

By the robust score of B. Iglewicz and D. C. Hoaglin (1993), 0.6745 · (x − median) ÷ MAD, with a floor under the
deviation, since in archives most images of a kind are of exactly one size.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fedimg.quality.finding import Finding, Kind, Severity
from fedimg.quality.measuring import Measured
from fedimg.values import Vector

FURTHEST = 6.0
FEWEST = 20
"""Of a modality, below which nothing is said of its images."""

_SIZES = ("depth", "height", "width")
_SPACINGS = ("spacing_d", "spacing_h", "spacing_w")
_LEAST_OCTAVES = (
    0.1  # floor under the deviation of sizes, spacings and contrasts, which are compared as logarithms
)
_LEAST_CONTRASTS = 0.05  # floor under the deviation of brightness, in median contrasts


def robust_scores(values: Vector, floor: float) -> Vector:
    """(N,) how far each value lies from the median, in deviations of a normal distribution; NaN stays."""
    middle = np.nanmedian(values)
    deviation = max(float(np.nanmedian(np.abs(values - middle))) / 0.6745, floor)
    return np.asarray((values - middle) / deviation, np.float64)


def find_outliers(measured: Measured) -> Iterator[Finding]:
    """Sizes, spacings, brightness, contrast, and kinds of pixel that are mixed within a modality."""
    usable = measured.usable()
    kinds: dict[str, list[int]] = defaultdict(list)
    for index in np.flatnonzero(usable).tolist():
        kinds[measured.taken[index].kind].append(index)
    groups = [np.array(found) for found in kinds.values() if len(found) >= FEWEST]
    contrast = np.log2(np.maximum(measured.numbers("contrast"), 1e-12))
    yield from _finding(
        Kind.SIZE_OUTLIER,
        _beyond(groups, [np.log2(measured.numbers(name)) for name in _SIZES], _LEAST_OCTAVES),
        "of another size than most of their modality: another protocol, a localiser or a screen capture",
    )
    yield from _finding(
        Kind.SPACING_OUTLIER,
        _beyond(groups, [np.log2(measured.numbers(name)) for name in _SPACINGS], _LEAST_OCTAVES),
        "with another spacing than most of their modality: another protocol, or a wrong unit",
    )
    yield from _finding(
        Kind.CONTRAST_OUTLIER,
        _beyond(groups, [contrast], 5 * _LEAST_OCTAVES),
        "with far more or less contrast than most of their modality",
    )
    brightness = measured.numbers("brightness")
    far: set[int] = set()
    for group in groups:
        floor = _LEAST_CONTRASTS * float(np.nanmedian(measured.numbers("contrast")[group]))
        far |= _beyond([group], [brightness], max(floor, 1e-12))
    yield from _finding(
        Kind.BRIGHTNESS_OUTLIER,
        far,
        "far brighter or darker than most of their modality: inverted, windowed or in another unit",
    )
    yield from _mixed(measured, kinds)


def _beyond(groups: list[npt.NDArray[np.int64]], numbers: list[Vector], floor: float) -> set[int]:
    found: set[int] = set()
    for group in groups:
        for values in numbers:
            scores = robust_scores(values[group], floor)
            found |= set(group[np.abs(scores) > FURTHEST].tolist())
    return found


def _finding(kind: Kind, found: set[int], text: str) -> Iterator[Finding]:
    if found:
        where = tuple((index,) for index in sorted(found))
        yield Finding(kind, Severity.WARNING, len(found), f"images {text}", where)


def _mixed(measured: Measured, kinds: dict[str, list[int]]) -> Iterator[Finding]:
    """Photometric interpretations that stand beside each other within a modality: the rarer ones are pointed at."""
    rare: list[int] = []
    for indices in kinds.values():
        counts = Counter(measured.taken[index].photometric for index in indices)
        if len(counts) > 1:
            usual = counts.most_common(1)[0][0]
            rare += [index for index in indices if measured.taken[index].photometric != usual]
    if rare:
        text = (
            "images stored otherwise than most of their modality (MONOCHROME1 beside MONOCHROME2, colour beside "
            "grey): they are read alike here, but look whether captures are among them"
        )
        yield Finding(
            Kind.MIXED_PHOTOMETRIC, Severity.NOTE, len(rare), text, tuple((i,) for i in sorted(rare))
        )
