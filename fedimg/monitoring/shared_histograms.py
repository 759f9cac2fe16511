"""What a site tells of a model's latest patients, so that sites can be compared: noised histograms in one signed file.

Nothing else leaves: no exact count (the patients' number is in the noised bins alone), no day but the two that a person
gave, no name of a study. The bins are those below, or follow from a finding's name: public, fixed, the same everywhere,
and never made from a site's data. A patient is one study, in one bin of each stream at most; a value that is missing
or not finite is in none.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from fedimg import canonical
from fedimg.crypto.keys import SigningKey, is_identity
from fedimg.errors import DataError, FedimgError
from fedimg.federation.request import check_name
from fedimg.privacy import histogram_plan
from fedimg.privacy.chain import head_of

FORMAT: Final = "fedimg drift histograms"
VERSION: Final = 1
MOST_BYTES: Final = 1 << 18
MOST_STREAMS: Final = 32
LEAST_DAYS, MOST_DAYS = 7, 366
FINDING: Final = "finding."
_REMEDY = "ask the site for the file as `fedimg watch histograms` wrote it"
_LOGITS = tuple(float(k) for k in range(-4, 5))
_EDGES: Final[Mapping[str, tuple[float, ...]]] = {
    "score": _LOGITS,  # of the logit of the calibrated score
    "image.mean": tuple(k / 20 for k in range(1, 16)),  # of images windowed to [0, 1]
    "image.std": tuple(3 * k / 100 for k in range(1, 15)),
    "image.noise": tuple(2.0**k for k in range(-10, -1)),
    "meta.pixel_mm": (0.2, 0.4, 0.55, 0.65, 0.75, 0.85, 0.95, 1.1, 1.5),
    "meta.slice_mm": (0.75, 1.25, 1.75, 2.25, 2.75, 3.5, 4.5, 5.5, 7.5),
}
STREAMS: Final = tuple(_EDGES)
"""Of every model; a model with several findings has `finding.CLASS` for each beside them."""
_FINDING = re.compile(r"finding\.[^\x00-\x1f\x7f]{1,200}")
_HEX32, _HEX64 = re.compile("[0-9a-f]{32}"), re.compile("[0-9a-f]{64}")
_DAY = re.compile(r"20\d\d-\d\d-\d\d", re.ASCII)
_FIELDS: Final = {
    *("format", "version", "federation", "site", "identity", "model", "first", "last", "release"),
    *("epsilon", "delta", "noise_multiplier", "counts"),
}
_MOST_COUNT = 10**12


def edges_of(stream: str) -> tuple[float, ...]:
    """The inner edges of a stream's bins, ascending. Raises DataError for an unknown stream."""
    edges = _LOGITS if _FINDING.fullmatch(stream) else _EDGES.get(stream)
    if edges is None:
        raise DataError(f"a stream: {', '.join(STREAMS)} or finding.CLASS", "another", "name one of them")
    return edges


def bins_of(stream: str) -> int:
    """How many bins it has. Raises as `edges_of`."""
    return len(edges_of(stream)) + 1


def bin_of(stream: str, value: object) -> int | None:
    """The bin of one value, lower edge included; None for what is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # a whole number may be too long for a float, and an error would be an answer about one patient
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return bisect_right(edges_of(stream), value)


def logit(score: object) -> float | None:
    """Of a probability, one closer to 0 or 1 than 10⁻⁶ as that close; None for what is none."""
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        return None
    p = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))


def rows(values: Iterable[Mapping[str, Any]], streams: Sequence[str]) -> npt.NDArray[np.float64]:
    """(U, K) float64: for each patient's values, by stream, a one in one bin of each stream at most; L2 norm ≤ √k."""
    sizes = [bins_of(stream) for stream in streams]
    starts = np.cumsum([0, *sizes])
    listed = list(values)
    found = np.zeros((len(listed), int(starts[-1])))
    for row, own in zip(found, listed, strict=True):
        for start, stream in zip(starts, streams, strict=False):
            if (place := bin_of(stream, own.get(stream))) is not None:
                row[start + place] = 1.0
    return found


def check_period(first: date, last: date) -> None:
    """Raises DataError for a period that is too short to hide in, or too long to speak of one time."""
    days = (last - first).days + 1
    if not LEAST_DAYS <= days <= MOST_DAYS:
        raise DataError(
            f"a period of {LEAST_DAYS} to {MOST_DAYS} days", f"{days}", "name another first or last day"
        )


@dataclass(frozen=True, slots=True)
class SharedHistograms:
    """One file.

    Attributes:
        federation: its id. site, identity: who says it; Ed25519 public key, hex. model: the bundle's digest.
        first, last: days (UTC), both included. release: the ledger's entry with which it was charged.
        epsilon, delta, noise_multiplier: what it cost each patient, add-or-remove-one, and σ ÷ sensitivity.
        counts: stream → noised whole numbers of patients in each bin; any may be below zero.
    """

    federation: str
    site: str
    identity: str
    model: str
    first: date
    last: date
    release: str
    epsilon: float
    delta: float
    noise_multiplier: float
    counts: Mapping[str, tuple[int, ...]]

    @property
    def noise_std(self) -> float:
        """Of each bin, in patients; rounding to whole patients included."""
        std = self.noise_multiplier * histogram_plan.sensitivity(len(self.counts))
        return math.sqrt(std**2 + 1 / 12)

    def to_bytes(self, key: SigningKey) -> bytes:
        """The file, signed by the site. Raises DataError unless `read` would take it."""
        body = self._body()
        signature = canonical.sign(body, key, FORMAT)
        data = canonical.encode({"histograms": body, "signature": signature}) + b"\n"
        self.read(data)
        return data

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Raises DataError unless it is a file as this writes it, signed by the identity in it, whose ε holds.

        Whose identity that is, and whether it is a member's, the reader has to ask of somebody else.
        """
        if len(data) > MOST_BYTES:
            raise DataError(f"a file of at most {MOST_BYTES // 1024} KiB", "a longer one", _REMEDY)
        document = canonical.decode_canonical(data, "file of drift histograms")
        body = document.get("histograms") if isinstance(document, dict) else None
        if not isinstance(body, dict) or set(document) != {"histograms", "signature"} or set(body) != _FIELDS:
            raise DataError("a file of drift histograms", "another document", _REMEDY)
        if body["format"] != FORMAT or canonical.encode(body["version"]) != b"%d" % VERSION:
            raise DataError(f"drift histograms of version {VERSION}", "another", "install the same fedimg")
        try:
            found = cls._of(body)
        except (ValueError, TypeError, AttributeError, OverflowError, FedimgError):
            raise DataError(
                "drift histograms on the public bins", "fields of another form", _REMEDY
            ) from None
        if not canonical.signed_by(body, found.identity, str(document["signature"]), FORMAT):
            raise DataError("drift histograms that their site signed", "another signature", _REMEDY)
        return found

    @classmethod
    def _of(cls, body: Mapping[str, Any]) -> Self:
        """Raises ValueError, TypeError, AttributeError, OverflowError or FedimgError for other forms."""
        for field, form in (("federation", _HEX32), ("identity", _HEX64), ("model", _HEX64)):
            _must(form.fullmatch(body[field]) is not None)
        _must(is_identity(bytes.fromhex(body["identity"])))
        check_name(body["site"])
        _must(head_of(body["release"]).name == body["release"])
        first, last = _day(body["first"]), _day(body["last"])
        check_period(first, last)
        epsilon, delta, noise = (body[name] for name in ("epsilon", "delta", "noise_multiplier"))
        _must(all(type(value) is float and math.isfinite(value) for value in (epsilon, delta, noise)))
        _must(0 < epsilon <= 100 and 0 < delta < 1 and 0 < noise <= 1e6)
        _must(histogram_plan.epsilon_of(noise, delta) <= epsilon * (1 + 1e-9))
        counts = body["counts"]
        _must(type(counts) is dict and 1 <= len(counts) <= MOST_STREAMS)
        for stream, own in counts.items():
            _must(type(own) is list and len(own) == bins_of(stream))
            _must(all(type(one) is int and abs(one) <= _MOST_COUNT for one in own))
        return cls(
            body["federation"],
            body["site"],
            body["identity"],
            body["model"],
            first,
            last,
            body["release"],
            epsilon,
            delta,
            noise,
            {stream: tuple(own) for stream, own in counts.items()},
        )

    def _body(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            **{name: getattr(self, name) for name in ("federation", "site", "identity", "model", "release")},
            "first": self.first.isoformat(),
            "last": self.last.isoformat(),
            **{name: float(getattr(self, name)) for name in ("epsilon", "delta", "noise_multiplier")},
            "counts": {stream: list(own) for stream, own in self.counts.items()},
        }


def _must(holds: bool) -> None:
    if not holds:
        raise ValueError


def _day(text: str) -> date:
    _must(_DAY.fullmatch(text) is not None)
    return date.fromisoformat(text)
