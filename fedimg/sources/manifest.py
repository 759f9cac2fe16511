"""What a data source hands over: per site its inputs, and what may be said of them in public."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy.typing as npt

from fedimg.values import Quarantine, SourceItem

PUBLIC = "public"
"""The name under which `load` gives the server's own held-out set; no site may have it."""


@dataclass(frozen=True, slots=True)
class PublicArrays:
    """Declared public images without files or identities, which therefore cross no identity boundary.

    Attributes:
        images: (N, C, *spatial) uint8, or float32 in [0, 1].
        labels: (N,) int64 class indices, or float32 numbers.
        patient_keys: N names; with `unit="image"` one each, from the position in the published file.
    """

    images: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    patient_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SourceManifest:
    """One site's share of a data source.

    Attributes:
        items: inputs for the intake; PHI, they stay at the site.
        public_data: generated, or declared public; only then may pictures of it stand in a report.
        declared_patients: {site: n̄}, from the source's public card alone, see `declared`; None where
            there is no card and the operator has to say it.
        card: what the source is, in words for the report; no patient data.
        classes: names by class index.
        unit: what privacy protects: "patient", or "image" where nothing is known of patients.
        held_back: inputs that the source itself refuses, by reason; PHI like `items`.
        dropped_columns, repeated_rows: what the table had beyond the allow-list, and twice.
        arrays: instead of items, for data that pass no intake.
    """

    items: tuple[SourceItem, ...]
    public_data: bool
    declared_patients: Mapping[str, int] | None
    card: str
    classes: tuple[str, ...]
    unit: Literal["patient", "image"]
    held_back: Mapping[Quarantine, tuple[SourceItem, ...]] = field(default_factory=dict)
    dropped_columns: int = 0
    repeated_rows: int = 0
    arrays: PublicArrays | None = None


def declared(expected_patients: float) -> int:
    """n̄ from a public expectation: two significant digits, at least 1.

    588.5 → 590, 1188 → 1200, 60 → 60. The argument must come from a public card (a published count, a
    configured size), never from counting a site's patients: divisor, sampling rate and δ follow
    from n̄, and would otherwise tell how many patients a site has.
    """
    return max(1, int(float(f"{expected_patients:.1e}")))
