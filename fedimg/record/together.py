"""What several runs cost a patient who is in the data of all of them, from their release records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedimg.privacy.federation import composed_epsilon
from fedimg.record.plans import plan_from_json
from fedimg.record.verify import read


@dataclass(frozen=True, slots=True)
class Together:
    """(ε, δ) of all runs for one `unit` that is in each of them; ε is None where one of them promises nothing."""

    epsilon: float | None
    delta: float
    unit: str


def together(records: Sequence[Path]) -> Together:
    """Composed over the plans that the sites signed: for runs that were all fixed before the first.

    Raises:
        DataError: a file that is no release record.
    """
    found = [read(file.read_bytes())["record"] for file in records]
    unit = str(found[0]["claim"]["unit"]) if found else ""
    if not found or not all(one["claim"]["private"] for one in found):
        return Together(None, 0.0, unit)
    plans = [[plan_from_json(signed["part"]["plan"]) for signed in one["sites"]] for one in found]
    delta = max(float(one["claim"]["delta"]) for one in found)
    return Together(composed_epsilon(plans, delta), delta, unit)
