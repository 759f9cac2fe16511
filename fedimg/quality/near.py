"""Images that are nearly the same: recompressed, made brighter, scaled, moved by a little.

Candidates are pairs of perceptual hashes; each is then held against the other, thumbnail against thumbnail. What is
compared there is fine detail (the picture less its own blur), since images of one kind are alike in everything else:
two chest radiographs of two patients correlate by over 0.9.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from fedimg.errors import ConfigError
from fedimg.quality.hashing import Hashes, Pairs, pairs_between, pairs_within, perceptual_hashes
from fedimg.values import FloatArray

SIDE = 32
_CROP = 2  # cells at each border, into which a moved picture may reach
_REACH = 4  # half cells, of one picture against the other
_STEPS = range(-_REACH, _REACH + 1)
_WHOLE_MOVES = tuple((a / 2, b / 2) for a in _STEPS for b in _STEPS if a % 2 == b % 2 == 0)
_HALF_MOVES = tuple((a / 2, b / 2) for a in _STEPS for b in _STEPS if a % 2 or b % 2)
_WORTHWHILE = 0.75  # of a whole step, below which half steps change nothing
_PAIRS_AT_ONCE, _IMAGES_AT_ONCE = 2048, 8192

Thumbnails = npt.NDArray[np.uint8]
Series = npt.NDArray[np.int64]


@dataclass(frozen=True)
class NearConfig:
    """How alike is nearly the same.

    Attributes:
        radius_bits: hashes of candidates differ in no more bits of 64.
        moved_radius_bits: the same for a hash of an image that was moved by `move_cells` of 32 a side, in each
            of eight directions; None leaves these out, and images that were moved with them.
        correlation: of fine detail, from which on two images are nearly the same.
    """

    radius_bits: int = 7
    moved_radius_bits: int | None = 5
    move_cells: float = 0.6
    correlation: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.correlation <= 1:
            raise ConfigError("a correlation above 0, at most 1", str(self.correlation), "change it")


def near_pairs(
    thumbnails: Thumbnails, config: NearConfig, series: Series | None = None
) -> tuple[Pairs, FloatArray]:
    """Pairs i < j of (N, 32, 32) that are nearly the same, and how far they correlate.

    Images without contrast are like none. A function of the thumbnails alone, but for `series` (N,): images with
    the same number ≥ 0 are not compared, as neighbouring slices are alike.
    """
    candidates = candidate_pairs(thumbnails, config, series)
    found = correlations(thumbnails, candidates)
    near = found >= config.correlation
    return candidates[near], found[near]


def candidate_pairs(thumbnails: Thumbnails, config: NearConfig, series: Series | None = None) -> Pairs:
    """Pairs i < j whose hashes are within the radii, each once, in order; not of one series."""
    hashes = hashes_of(thumbnails)
    there = np.flatnonzero(hashes)
    of_series = np.full(len(there), -1) if series is None else series[there]

    def of_two(pairs: Pairs) -> Pairs:
        left, right = of_series[pairs[:, 0]], of_series[pairs[:, 1]]
        kept: Pairs = pairs[(left < 0) | (left != right)]
        return kept

    found = [of_two(pairs_within(hashes[there], config.radius_bits))]
    if config.moved_radius_bits is not None:
        step = config.move_cells
        for down, across in product((-step, 0.0, step), repeat=2):
            if down or across:
                moved = hashes_of(thumbnails, (down, across))
                pairs = pairs_between(hashes[there], moved[there], config.moved_radius_bits)
                found.append(of_two(pairs[pairs[:, 0] != pairs[:, 1]]))
    pairs = np.concatenate(found)
    pairs.sort(axis=1)
    unique: Pairs = there[np.unique(pairs, axis=0)]
    return unique


def hashes_of(thumbnails: Thumbnails, moved: tuple[float, float] = (0.0, 0.0)) -> Hashes:
    """(N,) hashes of the thumbnails, or of what they show moved (down, across) by so many cells, edges continued."""
    blocks = [
        perceptual_hashes(_sampled(thumbnails[begin : begin + _IMAGES_AT_ONCE].astype(np.float32), moved))
        for begin in range(0, len(thumbnails), _IMAGES_AT_ONCE)
    ]
    return np.concatenate([np.zeros(0, np.uint64), *blocks])


def correlations(thumbnails: Thumbnails, pairs: Pairs) -> FloatArray:
    """(P,) the largest correlation of fine detail, over moves of up to two cells each way."""
    found = [np.zeros(0, np.float32)]
    for begin in range(0, len(pairs), _PAIRS_AT_ONCE):
        left, right = (detail(thumbnails[side]) for side in pairs[begin : begin + _PAIRS_AT_ONCE].T)
        best = np.full(len(left), -1.0, np.float32)
        for move in _WHOLE_MOVES:
            np.maximum(best, _correlated(left, right, move), out=best)
        promising = np.flatnonzero(best >= _WORTHWHILE)
        for move in _HALF_MOVES:
            if len(promising):
                there = _correlated(left[promising], right[promising], move)
                best[promising] = np.maximum(best[promising], there)
        found.append(best)
    return np.concatenate(found)


def detail(thumbnails: Thumbnails) -> FloatArray:
    """(N, 32, 32) less its own blur."""
    values = thumbnails.astype(np.float32)
    fine: FloatArray = values - gaussian_filter(values, (0, 2, 2), mode="nearest")
    return fine


def _correlated(left: FloatArray, right: FloatArray, move: tuple[float, float]) -> FloatArray:
    """Each of the two is moved half the way, so that interpolation blurs both alike."""
    half = (move[0] / 2, move[1] / 2)
    inner = (slice(None), slice(_CROP, -_CROP), slice(_CROP, -_CROP))
    a = _sampled(left, half)[inner].reshape(len(left), -1)
    b = _sampled(right, (-half[0], -half[1]))[inner].reshape(len(right), -1)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    norm = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    together = (a * b).sum(axis=1)
    found: FloatArray = np.divide(together, norm, out=np.zeros_like(together), where=norm > 1e-3)
    return found


def _sampled(values: FloatArray, moved: tuple[float, float]) -> FloatArray:
    """What (N, H, W) shows, moved (down, across); linear between cells, edges continued."""
    for axis, by in zip((1, 2), moved, strict=True):
        if by:
            at = np.clip(np.arange(values.shape[axis]) - by, 0, values.shape[axis] - 1)
            low = np.floor(at).astype(np.int64)
            high = np.minimum(low + 1, values.shape[axis] - 1)
            share = (at - low).astype(np.float32)
            share = share[:, None] if axis == 1 else share
            values = values.take(low, axis) * (1 - share) + values.take(high, axis) * share
    return values
