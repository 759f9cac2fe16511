"""What a run has taken of a ledger is what the ledger itself says once the run is closed."""

import pytest

from fedimg.crypto.keys import SigningKey
from fedimg.privacy.ledger import Allowance, Ledger, LedgerTerms
from fedimg.simulation import budgets

TERMS = LedgerTerms(10.0, 1e-5, 8)


class Plan:
    digest = "plan"
    allowances = (Allowance("train", 2.0, 1.0, 3, 1),)


@pytest.fixture
def ledger(tmp_path):
    made = Ledger.create(tmp_path / "l.sqlite", SigningKey.from_bytes(b"k" * 32), TERMS)
    yield made
    made.disconnect()


def test_a_row_before_the_run_is_closed_tells_what_is_left_after(ledger):
    """One release costs 1 of the budget at order 8."""
    ledger.reserve("before", Plan)
    ledger.charge("plan", "train")
    ledger.close("before")
    ledger.reserve("own", Plan)
    for _ in range(2):
        ledger.charge("plan", "train")
    found = budgets.row("a", ledger.statement, "own")
    budget = TERMS.budget
    assert found.others == pytest.approx(1 / budget)
    assert found.taken == pytest.approx(2 / budget)
    assert found.since == 5
    assert found.course[-1][1:] == pytest.approx((3 + 10 - budget, 5 + 10 - budget))
    ledger.close("own")
    assert found.left == pytest.approx(ledger.statement.remaining / budget)
    assert found.epsilon == pytest.approx(ledger.statement.epsilon_spent)


def test_a_home_that_is_gone_has_a_row_without_a_course(tmp_path):
    (found,) = budgets.rows({"a": tmp_path / "none"}, {"a"}, "own")
    assert (found.site, found.course, found.since) == ("a", (), 0)
