"""What single patients have spent, and who may be in a release. Nothing of this leaves the ledger.

An individual filter at one fixed Rényi order (Feldman & Zrnic 2021, arXiv 2008.11193): a patient whose
own Σρ would pass the budget is left out before sampling. It charges the declared ρ, a public number, and
acts inside: constants, divisors and answers are those of a site where nobody is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fedimg.privacy.patients import Mask, Numbers, PatientRecords
from fedimg.privacy.statement import RunSpend

Spending = npt.NDArray[np.float64]
# Sums of the same numbers in another order differ by some 1e-16 of themselves.
_ROUNDING = 1e-12


def spending(
    records: PatientRecords, runs: Mapping[str, RunSpend], order: int, written_off: float
) -> Spending:
    """(n,) Σρ of each record, never too small: the sum over all records of one person.

    A patient pays for every charge of a run that they were enrolled in, whether still there or not.
    """
    total = np.full(len(records), written_off)
    for run in runs.values():
        if run.everyone:
            total += run.rho(order)
    for (name, role), members in records.members.items():
        run_spend = runs.get(name)
        if run_spend is not None and not run_spend.everyone:
            total[: len(members)][members] += run_spend.spent_in(order, role)
    if not records.merged:
        return total
    roots = records.roots()
    return np.bincount(roots, weights=total, minlength=len(records)).astype(np.float64)[roots]


def present(records: PatientRecords, seats: Numbers, members: Mask, total: Spending, budget: float) -> Mask:
    """(n,) of the patients at `seats`, one record a person.

    Args:
        seats: record numbers, −1 for none. members: (records,) who is enrolled.
        total: (records,) what each has spent, the release at hand included.
    """
    if not len(records):
        return np.zeros(len(seats), dtype=np.bool_)
    roots = records.roots()
    gone = np.bincount(roots, weights=records.withdrawn, minlength=len(records))[roots] > 0
    enrolled = np.bincount(roots, weights=members, minlength=len(records))[roots] > 0
    allowed = enrolled & ~gone & (total <= budget * (1 + _ROUNDING))
    chosen = np.flatnonzero((seats >= 0) & allowed[np.maximum(seats, 0)])
    _, first = np.unique(roots[seats[chosen]], return_index=True)
    answer = np.zeros(len(seats), dtype=np.bool_)
    answer[chosen[first]] = True
    return answer
