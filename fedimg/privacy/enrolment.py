"""Which rows of a site's data sets are which records of its ledger, and who of them may be in a release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from fedimg.privacy.calibration import PrivacyPlan
from fedimg.privacy.ledger import Ledger
from fedimg.privacy.patients import Numbers

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Roll:
    """The patients of one run: `seats` maps a kind of release to the record numbers of its data set's rows."""

    ledger: Ledger
    seats: Mapping[str, Numbers]

    @classmethod
    def enrolled(
        cls, ledger: Ledger, run: str, plan: PrivacyPlan, keys: Mapping[str, Sequence[str]], site_key: str
    ) -> Self:
        """Note who may be sampled in a reserved run.

        Args:
            keys: release → ledger key of each row of the data set that it looks at, "" where unknown.
            site_key: digest of the site key behind the keys.

        Raises:
            LedgerError: no such open run, or records under another site key.
        """
        roles: dict[str, list[str]] = {}
        for allowance in plan.allowances:
            roles.setdefault(allowance.role, []).extend(keys[allowance.release])
        ledger.enrol(run, roles, site_key)
        return cls(ledger, {release: ledger.seats(own) for release, own in keys.items()})

    @classmethod
    def of_open_run(cls, ledger: Ledger, keys: Mapping[str, Sequence[str]], site_key: str) -> Self:
        """Of a run with `privacy=none`, which charges nobody; withdrawals hold there too."""
        ledger.know([key for own in keys.values() for key in own], site_key)
        return cls(ledger, {release: ledger.seats(own) for release, own in keys.items()})

    def present(self, release: str) -> Indices:
        """Rows that may be in the release that was just charged, ascending."""
        return np.flatnonzero(self.ledger.present(release, self.seats[release])).astype(np.int64)

    def remaining(self, release: str) -> Indices:
        """Rows of patients who have not withdrawn, ascending."""
        return np.flatnonzero(~self.ledger.withdrawn(self.seats[release])).astype(np.int64)
