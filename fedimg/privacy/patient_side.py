"""What a ledger knows and decides of single patients: who may be sampled, who has withdrawn, who is one person.

For the site's own code alone. The main chain, extracts, heads and statements hold nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fedimg.errors import LedgerError
from fedimg.privacy.individual import present, spending
from fedimg.privacy.patients import Mask, Numbers, PatientRecords, mask_of
from fedimg.privacy.statement import LedgerTerms, RunSpend


class PatientSide:
    """The half of a `Ledger` that turns on patients."""

    _patients: PatientRecords
    _runs: dict[str, RunSpend]
    _terms: LedgerTerms
    _lost: float
    _active: str | None

    def enrol(self, run: str, roles: Mapping[str, Sequence[str]], site_key: str) -> None:
        """Note who may be sampled in an open run, before its first charge: they are charged from here on.

        Who has nothing left for one release is not among them. Calling it again adds who is new.

        Args:
            roles: ledger keys of the patients of each role; "" for one that is unknown.
            site_key: digest of the site key behind the keys.

        Raises:
            LedgerError: no such open run, or records under another site key.
        """
        spend = self._runs.get(run)
        if spend is None or spend.closed:
            raise LedgerError("an open run of this ledger", "none", "reserve its plan before round 1")
        self._patients.bind(site_key)
        self._patients.know(key for keys in roles.values() for key in keys)
        total = spending(self._patients, self._runs, self._terms.order, self._lost)
        for role, keys in roles.items():
            least = min(a.rho(self._terms.order, 1) for a in spend.allowances.values() if a.role == role)
            there = mask_of((self._patients.numbers[key] for key in keys if key), len(self._patients))
            self._patients.enter(run, role, there & (total + least <= self._terms.budget))

    def know(self, keys: Sequence[str], site_key: str) -> None:
        """Give each patient a record, which nothing is charged to."""
        self._patients.bind(site_key)
        self._patients.know(keys)

    def seats(self, keys: Sequence[str]) -> Numbers:
        """The record numbers of patients, by ledger key; −1 for one that no run has enrolled."""
        self._patients.refresh()
        return np.array([self._patients.numbers.get(key, -1) for key in keys], dtype=np.int64)

    def present(self, release: str, seats: Numbers) -> Mask:
        """Who of these may be in the release that was just charged: (n,) bool, to be asked after the charge.

        Left out are: who has withdrawn, until this very moment; whose own spending, this release included,
        would pass the budget; who was not enrolled; and every second record of one person.
        """
        run = self._runs[self._active or ""]
        self._patients.refresh()
        total = spending(self._patients, self._runs, self._terms.order, self._lost)
        members = self._patients.mask(run.run, run.allowances[release].role)
        return present(self._patients, seats, members, total, self._terms.budget)

    def withdrawn(self, seats: Numbers) -> Mask:
        """Who of these has withdrawn: (n,) bool. For a run without privacy, which charges nobody."""
        self._patients.refresh()
        everyone = np.ones(len(self._patients), dtype=np.bool_)
        nothing = np.zeros(len(self._patients))
        return (seats >= 0) & ~present(self._patients, seats, everyone, nothing, self._terms.budget)

    def withdraw(self, keys: Sequence[str], site_key: str) -> int:
        """Leave patients out from the next sampling on, for good, in this and every other process.

        Returns:
            How many of them a run had enrolled before.
        """
        self._patients.bind(site_key)
        self._patients.refresh()
        known = len(set(keys) & self._patients.numbers.keys())
        self._patients.know(keys)
        self._patients.withdraw(keys)
        return known

    def merge(self, pairs: Sequence[tuple[str, str]], site_key: str) -> None:
        """Make (from, into) one patient: the record carries the sum of both."""
        self._patients.bind(site_key)
        self._patients.know(key for pair in pairs for key in pair)
        self._patients.merge(pairs)

    def rekey(self, names: Mapping[str, str], site_key: str) -> None:
        """Carry all records over to another site key.

        Args:
            names: old ledger key → new ledger key; those of patients without record are ignored.

        Raises:
            LedgerError: a record would be left behind under the old key: nothing is changed.
        """
        self._patients.rename(names, site_key)
