"""Records by patient: what each pays, who is left out, and that nothing of it is seen from outside."""

import json
import shutil
import sqlite3

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.errors import BudgetExhausted, LedgerError
from fedimg.privacy.events import Event
from fedimg.privacy.individual import spending
from fedimg.privacy.ledger import Allowance, Ledger, LedgerTerms
from fedimg.privacy.renyi import rdp

TERMS = LedgerTerms(10.0, 1e-5, 8)
SITE = "5" * 16
BUDGET = TERMS.budget  # 8.63 at order 8; a release at σ = 2, q = 1 costs 8/(2·4) = 1 of it


def key(name):
    return f"{name:0>32}"


class Plan:
    """Releases at σ = 2, q = 1, of two disjoint roles, each costing 1 at order 8."""

    def __init__(self, digest="plan", count=2):
        self.digest = digest
        self.allowances = (
            Allowance("train", 2.0, 1.0, count, 0, "training"),
            Allowance("evaluate", 2.0, 1.0, 1, 0, "held out"),
        )


@pytest.fixture
def ledger(tmp_path, signing_key):
    made = Ledger.create(tmp_path / "l.sqlite", signing_key, TERMS)
    yield made
    made.disconnect()


def run(ledger, name, training=(), held_out=(), count=2, charges=None):
    """Reserve, enrol and charge; returns whether each training patient was in each release."""
    plan = Plan(f"plan of {name}", count)
    ledger.reserve(name, plan)
    keys = [key(p) for p in training]
    ledger.enrol(name, {"training": keys, "held out": [key(p) for p in held_out]}, SITE)
    there = []
    for _ in range(count if charges is None else charges):
        ledger.charge(plan.digest, "train")
        there.append(ledger.present("train", ledger.seats(keys)).tolist())
    ledger.close(name)
    return there


def spent(ledger, name):
    total = spending(ledger._patients, ledger._runs, TERMS.order, ledger._lost)
    return total[ledger._patients.numbers[key(name)]]


def test_a_patient_pays_for_the_runs_they_were_in_and_no_other(ledger):
    run(ledger, "first", "ab")
    run(ledger, "second", "bc", held_out="d")
    assert [spent(ledger, p) for p in "abcd"] == pytest.approx([2, 4, 2, 0])
    assert ledger.statement.committed == pytest.approx(4)


@settings(max_examples=20)
@given(
    runs=st.lists(
        st.tuples(st.sets(st.sampled_from("abcdef")), st.integers(1, 3), st.integers(0, 3)), max_size=5
    ),
    merges=st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=3),
)
def test_no_patient_passes_the_budget_and_records_are_found_again(
    tmp_path_factory, signing_key, runs, merges
):
    """What each person was truly in, counted apart, at most what the record says, and at most the budget."""
    path = tmp_path_factory.mktemp("l") / "l.sqlite"
    ledger = Ledger.create(path, signing_key, TERMS)
    ledger.merge([(key(a), key(b)) for a, b in merges], SITE)
    numbers = {p: n for n, p in enumerate("abcdef")}
    for a, b in merges:
        old, new = numbers[a], numbers[b]
        numbers = {p: new if n == old else n for p, n in numbers.items()}
    released = dict.fromkeys(numbers.values(), 0.0)
    for n, (who, count, charges) in enumerate(runs):
        names = sorted(who)
        try:
            for row in run(ledger, f"r{n}", names, count=count, charges=min(charges, count)):
                persons = [numbers[p] for p, there in zip(names, row, strict=True) if there]
                assert len(set(persons)) == len(persons)
                for person in persons:
                    released[person] += rdp(Event(2.0, 1.0, 1), 8)
        except BudgetExhausted:
            continue
    assert all(total <= BUDGET * (1 + 1e-12) for total in released.values())
    known = [p for p in "abcdef" if key(p) in ledger._patients.numbers]
    before = [spent(ledger, p) for p in known]
    assert all(record >= released[numbers[p]] - 1e-9 for p, record in zip(known, before, strict=True))
    ledger.disconnect()
    again = Ledger.open(path, signing_key)
    assert [spent(again, p) for p in known] == before
    again.disconnect()


def test_a_merged_record_carries_both_spends_and_is_one_unit(ledger):
    """a and b have 4 each of 8.6; as one person they have 8, so one release (9) is too much; c, alike, goes on."""
    run(ledger, "1", "abc", count=4)
    ledger.merge([(key("a"), key("b"))], SITE)
    assert spent(ledger, "a") == spent(ledger, "b") == pytest.approx(8)
    assert run(ledger, "2", "abcd", count=1) == [[False, False, True, True]]
    assert [spent(ledger, p) for p in "bcd"] == pytest.approx([8, 5, 1])


def test_two_records_of_one_person_are_one_unit_from_the_next_release_on(ledger):
    ledger.reserve("r", plan := Plan(count=3))
    seats = [key("a"), key("b")]
    ledger.enrol("r", {"training": seats, "held out": []}, SITE)
    ledger.charge(plan.digest, "train")
    assert ledger.present("train", ledger.seats(seats)).tolist() == [True, True]
    ledger.merge([(key("b"), key("a"))], SITE)
    ledger.charge(plan.digest, "train")
    assert ledger.present("train", ledger.seats(seats)).sum() == 1


def test_the_hard_stop_acts_inside_a_run_and_says_nothing(ledger, tmp_path, signing_key):
    """Merged in the middle of a run: 3 + 3 + 2 more fit into 8.6, the next does not; the run goes on."""
    ledger.reserve("r", plan := Plan(count=6))
    keys = [key("a"), key("b"), key("c")]
    ledger.enrol("r", {"training": keys, "held out": []}, SITE)
    for _ in range(3):
        ledger.charge(plan.digest, "train")
    other = Ledger.open(tmp_path / "l.sqlite", signing_key)
    other.merge([(key("a"), key("b"))], SITE)
    other.disconnect()
    there = []
    for _ in range(3):
        ledger.charge(plan.digest, "train")
        there.append(ledger.present("train", ledger.seats(keys)).tolist())
    # both records pay for a release that either could be in: 3 + 3, then 2 a step
    assert there == [[True, False, True], [False, False, True], [False, False, True]]


def test_a_withdrawal_by_another_process_acts_at_the_next_release(ledger, tmp_path, signing_key):
    ledger.reserve("r", plan := Plan(count=2))
    keys = [key("a"), key("b")]
    ledger.enrol("r", {"training": keys, "held out": []}, SITE)
    ledger.charge(plan.digest, "train")
    seats = ledger.seats(keys)
    assert ledger.present("train", seats).tolist() == [True, True]
    other = Ledger.open(tmp_path / "l.sqlite", signing_key)
    assert other.withdraw([key("b"), key("never seen")], SITE) == 1
    other.disconnect()
    ledger.charge(plan.digest, "train")  # the main chain was not touched: the run goes on
    assert ledger.present("train", seats).tolist() == [True, False]
    assert ledger.withdrawn(seats).tolist() == [False, True]
    ledger.close("r")
    assert run(ledger, "next", ["a", "b", "never seen"], count=1) == [[True, False, False]]


def test_who_is_not_enrolled_is_not_sampled(ledger):
    ledger.reserve("r", plan := Plan())
    ledger.enrol("r", {"training": [key("a"), ""], "held out": [key("h")]}, SITE)
    ledger.charge(plan.digest, "train")
    seats = ledger.seats([key("a"), "", key("h"), key("stranger")])
    assert ledger.present("train", seats).tolist() == [True, False, False, False]
    with pytest.raises(LedgerError, match="an open run of this ledger"):
        ledger.enrol("no such run", {"training": []}, SITE)


def test_another_site_key_refuses_and_carrying_over_keeps_every_record(ledger):
    run(ledger, "1", "ab")
    with pytest.raises(LedgerError, match="the site key under which this ledger knows its patients"):
        ledger.withdraw([key("A")], "6" * 16)
    with pytest.raises(LedgerError, match="1 records without a patient"):
        ledger.rekey({key("a"): key("A")}, "6" * 16)
    with pytest.raises(LedgerError, match="two records of one patient"):
        ledger.rekey({key("a"): key("A"), key("b"): key("A")}, "6" * 16)
    ledger.rekey({key(p): key(p.upper()) for p in "abz"}, "6" * 16)
    assert [spent(ledger, p) for p in "AB"] == pytest.approx([2, 2])
    assert key("a") not in ledger._patients.numbers
    ledger.withdraw([key("A")], "6" * 16)
    assert ledger.withdrawn(ledger.seats([key("A"), key("B")])).tolist() == [True, False]


def test_nothing_about_patients_is_in_the_extract_and_it_does_not_turn_on_them(
    tmp_path, signing_key, monkeypatch
):
    """Two sites, one with more patients and a withdrawal: extracts alike but for random digests."""
    monkeypatch.setattr("fedimg.privacy.ledger._now", lambda: "then")
    shapes = []
    for name, patients in (("one", "a"), ("other", "abcdefgh")):
        ledger = Ledger.create(tmp_path / name, signing_key, TERMS)
        run(ledger, "r", patients, count=2)
        if name == "other":
            ledger.withdraw([key("c")], SITE)
            ledger.merge([(key("a"), key("b"))], SITE)
        run(ledger, "s", patients, count=1)
        document = json.loads(ledger.extract())
        text = "".join(document["entries"])
        assert not any(key(p) in text for p in "abcdefgh")
        assert SITE not in text
        shapes.append([json.loads(e) | {"patients": ""} for e in document["entries"]])
        committed = [json.loads(e).get("patients") for e in document["entries"]]
        assert len(set(committed) - {None}) == 3  # a new one each time, though the records stand still
        ledger.disconnect()
    assert shapes[0] == shapes[1]


def tamper(path, statement):
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER no_patient_update")
    connection.execute("DROP TRIGGER no_patient_delete")
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("DELETE FROM patients WHERE sequence > 2", "put back or changed"),
        ("DELETE FROM patients", "put back or changed"),
        ("DROP TABLE patients", "one that cannot be read or written"),
        ("DELETE FROM patients WHERE sequence = 2", "a patients' entry 2 that does not continue"),
        ("UPDATE patients SET body = 'x' WHERE sequence = 3", "a patients' entry 3 of another type"),
        ("UPDATE patients SET body = x'00' WHERE sequence = 3", "a patients' entry 3 that does not continue"),
        ("UPDATE patients SET signature = x'00' WHERE sequence = 3", "3 that this site did not sign"),
    ],
)
def test_records_that_were_put_back_or_changed_are_refused(ledger, tmp_path, signing_key, statement, found):
    run(ledger, "r", "ab")
    ledger.disconnect()
    tamper(tmp_path / "l.sqlite", statement)
    with pytest.raises(LedgerError, match=found):
        Ledger.open(tmp_path / "l.sqlite", signing_key)


def test_records_of_an_older_copy_do_not_fit_under_the_chain(ledger, tmp_path, signing_key):
    """Only the patients' table is put back, entry by entry as it was, signed and linked."""
    run(ledger, "r", "ab")
    ledger.disconnect()
    shutil.copy(tmp_path / "l.sqlite", tmp_path / "old")
    again = Ledger.open(tmp_path / "l.sqlite", signing_key)
    again.withdraw([key("a")], SITE)
    run(again, "s", "b", count=1)
    again.disconnect()
    connection = sqlite3.connect(tmp_path / "l.sqlite")
    connection.executescript("DROP TRIGGER no_patient_delete;")
    connection.execute("DELETE FROM patients")
    connection.execute("ATTACH ? AS old", (str(tmp_path / "old"),))
    connection.execute("INSERT INTO patients SELECT * FROM old.patients")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerError, match="put back or changed"):
        Ledger.open(tmp_path / "l.sqlite", signing_key)


def test_a_ledger_of_before_there_were_records_gets_them(ledger, tmp_path, signing_key):
    ledger.disconnect()
    connection = sqlite3.connect(tmp_path / "l.sqlite")
    connection.execute("DROP TABLE patients")
    connection.close()
    again = Ledger.open(tmp_path / "l.sqlite", signing_key)
    assert run(again, "r", "a", count=1) == [[True]]
    again.disconnect()


def test_seats_stay_while_records_are_added(ledger):
    run(ledger, "r", "ba")
    seats = ledger.seats([key("a"), key("b")])
    run(ledger, "s", "zyx", count=1)
    np.testing.assert_array_equal(seats, ledger.seats([key("a"), key("b")]))
