"""What a run has taken of each ledger's budget, for its report."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from fedimg.errors import FedimgError
from fedimg.home import SiteHome
from fedimg.privacy.course import course, reserved_at
from fedimg.privacy.ledger import Statement
from fedimg.privacy.stated import statement_of
from fedimg.report import LedgerRow


def rows(homes: Mapping[str, Path], charged: Collection[str], run: str) -> tuple[LedgerRow, ...]:
    """One a ledger that this run was charged to, as it stands on the disk.

    A site that has left may have lost its ledger: its row has no course.
    """
    return tuple(_row(name, homes[name], run) for name in sorted(charged))


def _row(name: str, root: Path, run: str) -> LedgerRow:
    try:
        home = SiteHome.open(root)
        statement = statement_of(home.ledger, home.signing_key)
    except FedimgError:  # whatever kept a site from coming back may stand here too; the report says so
        return LedgerRow(name)
    return row(name, statement, run)


def row(name: str, statement: Statement, run: str) -> LedgerRow:
    """A ledger's course, and its budget's shares once `run` is closed."""
    terms = statement.terms
    own = statement.runs.get(run)
    taken = own.spent(terms.order) if own is not None else 0.0
    others = statement.committed - (own.rho(terms.order) if own is not None else 0.0)
    together = others + taken
    return LedgerRow(
        name,
        terms.epsilon_max,
        terms.delta,
        tuple((point.entry, point.spent, point.committed) for point in course(statement)),
        reserved_at(statement, run),
        max(0.0, others) / terms.budget,
        taken / terms.budget,
        together + terms.epsilon_max - terms.budget if together > 0 else 0.0,
    )
