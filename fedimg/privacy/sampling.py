"""True Poisson sampling of patients, and fresh subsets of a patient's images.

The accountant's amplification by sampling holds for independent coin flips and for nothing else:
no shuffling, no fixed batch size, no dropped last batch. The batch may be empty.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from fedimg.errors import ConfigError
from fedimg.privacy.entropy import Entropy

Indices = npt.NDArray[np.int64]


def poisson_sample(n: int, rate: float, entropy: Entropy) -> Indices:
    """Ascending indices of the patients whose own coin, of probability `rate`, came up.

    A coin is a 64-bit integer compared with ⌊rate·2⁶⁴⌋: exact for every float64 rate ≥ 2⁻¹¹, and
    never more likely than `rate` (by less than 2⁻⁶⁴) below.
    """
    if not (math.isfinite(rate) and 0 < rate <= 1):
        raise ConfigError("a sampling rate in (0, 1]", f"{rate}", "set privacy.expected_batch_size")
    words = np.frombuffer(entropy.bytes(8 * n), dtype="<u8")
    threshold = math.floor(Fraction(rate) * 2**64)
    if threshold == 2**64:
        return np.arange(n, dtype=np.int64)
    return np.flatnonzero(words < np.uint64(threshold)).astype(np.int64)
