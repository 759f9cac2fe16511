import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.crypto.keys import SigningKey
from fedimg.errors import BudgetExhausted, ConfigError, LedgerError
from fedimg.privacy.chain import Head
from fedimg.privacy.events import Event
from fedimg.privacy.ledger import Allowance, Ledger, LedgerTerms, verify
from fedimg.privacy.renyi import rdp

TERMS = LedgerTerms(10.0, 1e-5, 8)


class Plan:
    """Five training releases and one retry at σ = 4, q = 1: ρ = 6·8/(2·16) = 1.5 at order 8."""

    def __init__(self, digest="plan", count=5, retries=1, noise=4.0):
        self.digest = digest
        self.allowances = (Allowance("train", noise, 1.0, count, retries),)


@pytest.fixture
def ledger(tmp_path, signing_key):
    made = Ledger.create(tmp_path / "l.sqlite", signing_key, TERMS)
    yield made
    made.disconnect()


def reopened(tmp_path, signing_key, **options):
    again = Ledger.open(tmp_path / "l.sqlite", signing_key, **options)
    again.disconnect()
    return again


def test_a_plan_is_reserved_whole_and_closing_gives_back_what_was_not_spent(ledger):
    """By hand: one release costs 8/(2·16) = ¼."""
    full = ledger.remaining
    assert full == pytest.approx(TERMS.budget)
    ledger.reserve("a", Plan())
    assert full - ledger.remaining == pytest.approx(6 / 4)
    ledger.charge("plan", "train")
    ledger.charge("plan", "train")
    assert full - ledger.remaining == pytest.approx(6 / 4)
    ledger.close("a")
    assert full - ledger.remaining == pytest.approx(2 / 4)


def test_declared_and_retried_releases_are_charged_and_not_one_more(ledger):
    ledger.reserve("a", Plan())
    names = [ledger.charge("plan", "train") for _ in range(6)]
    assert len(set(names)) == 6
    with pytest.raises(BudgetExhausted, match="at most 6 releases of kind train in this run; found one more"):
        ledger.charge("plan", "train")


def test_runs_that_fit_are_let_in_until_the_filter_says_no(ledger):
    """Each run costs 1.5; the budget at order 8 is 10 − conv(8, 1e-5)."""
    fits = int(TERMS.budget / 1.5)
    for n in range(fits):
        ledger.reserve(f"run-{n}", Plan(f"plan-{n}"))
    before = ledger.head
    with pytest.raises(BudgetExhausted, match="a plan costing at most"):
        ledger.reserve("one more", Plan("last"))
    assert ledger.head == before
    assert ledger.remaining >= 0


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(1, 4), st.sampled_from([1.5, 4.0, 9.0]), st.integers(0, 5), st.booleans()),
        max_size=8,
    )
)
def test_whatever_is_run_the_spend_never_passes_the_budget(tmp_path_factory, signing_key, steps):
    """Adaptively chosen runs, some left open: Σρ of all charges, added up apart from the ledger."""
    ledger = Ledger.create(tmp_path_factory.mktemp("l") / "l.sqlite", signing_key, TERMS)
    spent = 0.0
    for n, (count, noise, charges, closed) in enumerate(steps):
        plan = Plan(f"plan-{n}", count, 1, noise)
        try:
            ledger.reserve(f"run-{n}", plan)
        except BudgetExhausted:
            continue
        for _ in range(min(charges, count + 1)):
            ledger.charge(plan.digest, "train")
            spent += rdp(Event(noise, 1.0, 1), TERMS.order)
        if closed:
            ledger.close(f"run-{n}")
    assert spent <= TERMS.budget * (1 + 1e-12)
    assert ledger.statement.committed >= spent * (1 - 1e-12)
    ledger.disconnect()


def test_reopening_finds_everything_and_a_resumed_run_reserves_nothing(ledger, tmp_path, signing_key):
    ledger.reserve("a", Plan())
    ledger.charge("plan", "train")
    left, entries = ledger.remaining, ledger.head.sequence
    ledger.disconnect()
    again = Ledger.open(tmp_path / "l.sqlite", signing_key)
    assert again.remaining == left
    again.reserve("a", Plan())
    assert again.head.sequence == entries
    for _ in range(5):
        again.charge("plan", "train")
    with pytest.raises(BudgetExhausted):
        again.charge("plan", "train")
    again.disconnect()


def test_a_release_without_its_reservation_is_refused(ledger):
    with pytest.raises(LedgerError, match="a release of the reserved plan"):
        ledger.charge("plan", "train")
    ledger.reserve("a", Plan())
    for digest, release in (("other", "train"), ("plan", "evaluate")):
        with pytest.raises(LedgerError, match="a release of the reserved plan"):
            ledger.charge(digest, release)


def test_a_closed_run_and_a_changed_plan_are_refused(ledger):
    ledger.reserve("a", Plan())
    with pytest.raises(LedgerError, match="run a to be open with this plan; found another plan"):
        ledger.reserve("a", Plan("changed"))
    ledger.close("a")
    ledger.close("a")
    with pytest.raises(LedgerError, match="found a closed one"):
        ledger.reserve("a", Plan())
    with pytest.raises(LedgerError, match="a release of the reserved plan"):
        ledger.charge("plan", "train")
    with pytest.raises(LedgerError, match="a reserved run; found none"):
        ledger.close("b")


def test_a_full_disk_refuses_the_charge(ledger):
    """The file may not grow: pages fill up, then a charge fails, and only what was written counts."""
    ledger.reserve("a", Plan(count=200, noise=30.0))
    connection = ledger._chain._connection
    connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(LedgerError, match="free disk space or stop the other process; nothing was released"):
        _ = [ledger.charge("plan", "train") for _ in range(200)]
    charged = ledger.head.sequence - 2
    assert 0 < charged < 200
    assert ledger.statement.runs["a"].charged["train"] == charged
    assert connection.execute("SELECT count(*) FROM entries").fetchone()[0] == 2 + charged


def test_an_extract_says_the_same_and_anyone_can_check_it(ledger, signing_key):
    ledger.reserve("a", Plan())
    ledger.charge("plan", "train")
    statement = verify(ledger.extract(), signing_key.public_bytes)
    assert statement.terms == TERMS
    assert statement.runs["a"].charged == {"train": 1}
    assert statement.head == ledger.head
    assert statement.remaining == ledger.remaining


def test_an_altered_extract_is_refused(ledger, signing_key):
    ledger.reserve("a", Plan())
    document = json.loads(ledger.extract())
    shorter = document | {"entries": document["entries"][:-1]}
    cheaper = document | {"entries": [e.replace('"noise":4.0', '"noise":9.0') for e in document["entries"]]}
    unsigned = document | {"signature": "00" * 64}
    for altered in (shorter, cheaper, unsigned):
        with pytest.raises(LedgerError, match="an extract that this site did not sign"):
            verify(json.dumps(altered).encode(), signing_key.public_bytes)
    with pytest.raises(LedgerError, match="an extract that this site did not sign"):
        verify(ledger.extract(), SigningKey.from_bytes(b"y" * 32).public_bytes)
    for broken in (b"", b"[]", b'{"format": 1}', b"\xff", json.dumps(document | {"entries": 3}).encode()):
        with pytest.raises(LedgerError):
            verify(broken, signing_key.public_bytes)


def test_entries_that_no_ledger_writes_are_refused_even_when_signed(ledger, tmp_path, signing_key):
    ledger._chain.append(lambda _: b'{"kind":"charge","run":"never reserved","release":"train"}')
    ledger.disconnect()
    with pytest.raises(LedgerError, match="entries that no ledger writes"):
        reopened(tmp_path, signing_key)


@pytest.mark.parametrize("terms", [(0.1, 1e-5, 2), (float("nan"), 1e-5, 8), (10.0, 0.0, 8)])
def test_terms_that_let_nothing_in_are_refused(terms):
    with pytest.raises(ConfigError):
        LedgerTerms(*terms)


def test_a_head_is_comparable(ledger):
    assert ledger.head == Head(1, ledger.head.digest)
