"""The picture of a ledger shows the site's number, and the same one as the statement."""

import dataclasses
import re

import pytest

from fedimg.crypto.keys import SigningKey
from fedimg.privacy.course import course, reserved_at
from fedimg.privacy.ledger import Allowance, Ledger, LedgerTerms
from fedimg.report import LedgerRow, SiteReportData, render, render_site
from fedimg.report.ledger import MOST_CHARTS, ledger_chart

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


def test_the_entry_of_a_runs_reservation(ledger):
    ledger.reserve("second", Plan)
    assert [reserved_at(ledger.statement, run) for run in ("r", "second", "never")] == [2, 6, 0]


def row(number, taken=None, **changes):
    """Its ledger's course ends where its own number says, so no two of them are alike."""
    spent = 0.4 + 0.01 * number if taken is None else taken
    points = ((1, 0.0, 0.0), (2, 0.0, 9.0), (3, 10 * spent, 9.0))
    return dataclasses.replace(
        LedgerRow(f"site-{number}", 10.0, 2e-5, points, 2, 0.1, spent, 7.168), **changes
    )


def test_a_run_of_many_sites_draws_the_tightest_few_and_tells_the_rest(complete):
    page = render(complete(ledgers=tuple(row(number) for number in range(30))))
    drawn = re.findall(r"<figcaption>Privacy ledger of (\S+) over its life", page)
    assert drawn == [f"site-{number}" for number in range(29, 29 - MOST_CHARTS, -1)]
    # 0.9 less 0.40 to 0.65 of the 26 that are not drawn
    assert "The other 26 have 25.0 % to 50.0 % of their budget left." in page
    assert page.count("This run begins at the dashed line, entry 2.") == MOST_CHARTS
    assert all(f'scope="row">site-{number}<' in page for number in range(30))


def test_ledgers_with_one_course_are_one_chart(complete):
    page = render(complete(ledgers=tuple(row(number, 0.5) for number in range(30))))
    assert page.count("<figcaption>Privacy ledger") == 1
    assert "Privacy ledger of site-0 and 29 others, all alike, over its life" in page
    assert "Drawn are the ledgers" not in page


def test_what_is_left_is_never_rounded_up_nor_what_is_spent_down(complete):
    page = render(complete(ledgers=(row(0, 0.50001, others=0.1),)))
    cells = re.search(r'scope="row">site-0</th>(.*?)</tr>', page).group(1)
    assert re.findall(r">([^<>]+)</td>", cells) == ["10", "2e-5", "10.0 %", "50.1 %", "39.9 %", "7.17"]


def test_a_ledger_that_cannot_be_read_is_said_so_and_one_without_secret_noise_is_void(complete):
    data = complete(ledgers=(row(0), LedgerRow("gone")))
    page = render(data)
    assert "1 ledger could not be read at the end of the run" in page
    assert 'scope="row">gone<' in page
    void = render(dataclasses.replace(data, privacy=dataclasses.replace(data.privacy, insecure=True)))
    assert "these figures are void" in void
    assert "Privacy ledger of site-0 (void) over its life" in void
    assert "Budget of each site" not in render(complete())
