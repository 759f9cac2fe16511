"""The picture of a ledger shows the site's number, and the same one as the statement."""

import pytest

from fedimg.crypto.keys import SigningKey
from fedimg.privacy.course import course
from fedimg.privacy.ledger import Allowance, Ledger, LedgerTerms
from fedimg.report import SiteReportData, render_site
from fedimg.report.ledger import ledger_chart

TERMS = LedgerTerms(10.0, 1e-5, 8)


class Plan:
    digest = "plan"
    allowances = (Allowance("train", 2.0, 1.0, 3, 1),)


@pytest.fixture
def ledger(tmp_path):
    made = Ledger.create(tmp_path / "l.sqlite", SigningKey.from_bytes(b"k" * 32), TERMS)
    made.reserve("r", Plan)
    for _ in range(2):
        made.charge("plan", "train")
    made.close("r")
    yield made
    made.disconnect()


def test_the_course_by_hand_and_its_end_is_the_statement(ledger):
    """One release costs 1 at order 8; the conversion, 10 − budget, is added to every Σρ above 0."""
    conversion = TERMS.epsilon_max - TERMS.budget
    spent, committed = [0, 0, 1, 2, 2], [0, 4, 4, 4, 2]
    found = course(ledger.statement)
    assert [p.entry for p in found] == [1, 2, 3, 4, 5]
    for point, s, c in zip(found, spent, committed, strict=True):
        assert point.spent == pytest.approx(s + conversion if s else 0)
        assert point.committed == pytest.approx(c + conversion if c else 0)
    assert found[-1].committed == pytest.approx(ledger.statement.epsilon_spent)
    assert [p.entry for p in course(ledger.statement, most=2)] == [1, 3, 5]


def test_the_picture_says_what_is_left(ledger):
    chart = ledger_chart("l", course(ledger.statement), TERMS.epsilon_max, TERMS.delta)
    left = ledger.statement.epsilon_left
    assert f"left {left:.4g} of 10" in chart.caption
    assert str(chart.svg).startswith("<svg")
    assert "spent or reserved" in str(chart.legend)
    assert ledger_chart("l", [(1, 0.0, 0.0)], 10.0, 1e-5) is None


def test_a_sites_own_report_shows_it_where_there_is_one(ledger):
    shown = {"ledger": course(ledger.statement), "ledger_terms": (TERMS.epsilon_max, TERMS.delta)}
    plain = ("a", False, "train", "p", 3, 2, 10)
    assert "Privacy ledger over its life: ε spent" in render_site(SiteReportData(*plain, **shown))
    assert "Privacy ledger" not in render_site(SiteReportData(*plain))
