"""The life of an alert: no sequence of events loses one, takes it out of a person's hand, or makes it say "not found"."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.codes import Code
from fedimg.errors import DataError
from fedimg.monitoring.alerts import (
    DECIDED,
    TRANSITIONS,
    Acknowledged,
    Alert,
    Confirmed,
    Delivered,
    Dismissal,
    Dismissed,
    Escalated,
    FoundAgain,
    State,
    Superseded,
    TransitionRefused,
    after,
    alert_key,
    deduplicated,
    may,
    one_of_each,
)

NODULE = Code("27925004", "SCT", "Nodule")
DIGEST = "ab" * 32


def raised(study="1f" * 16, finding="nodule", **changed):
    values = {
        "key": alert_key(study, DIGEST, finding),
        "study": study,
        "finding": finding,
        "code": NODULE,
        "kind": "tumour",
        "where": "right lung, upper third, slice 12 of 30",
        "size_mm": 9.0,
        "score": 0.93,
        "threshold": 0.41,
        "model_name": "nodule",
        "model_version": "1.0.0",
        "model_digest": DIGEST,
        "raised_at": 1000.0,
    }
    return Alert(**values | changed)


def again(score=0.8, threshold=0.41):
    return FoundAgain(2000.0, score, threshold, "left lung", 4.0)


events = st.one_of(
    st.sampled_from([Delivered(), Acknowledged(), Confirmed(), Superseded(), Escalated()]),
    st.sampled_from(list(Dismissal)).map(Dismissed),
    st.builds(
        FoundAgain, st.floats(1000, 9000), st.floats(0, 1), st.floats(0, 1), st.just("left lung"), st.none()
    ).filter(lambda e: e.score >= e.threshold),
)
IN_HAND = DECIDED | {State.ACKNOWLEDGED}


@given(st.lists(events, max_size=30))
def test_no_sequence_of_events_loses_an_alert_or_takes_it_out_of_a_persons_hand(sequence):
    alert = first = raised()
    for event in sequence:
        before = alert
        try:
            alert = after(alert, event)
        except TransitionRefused:
            assert not may(before, type(event))
            assert alert is before
            continue
        assert may(before, type(event))
        assert (alert.key, alert.study, alert.finding, alert.code) == (
            first.key,
            first.study,
            first.finding,
            first.code,
        )
        assert alert.score >= alert.threshold
        # never un-acknowledged, and never decided without having been acknowledged
        assert before.state not in IN_HAND or alert.state in IN_HAND
        assert before.state not in DECIDED or (alert.state, alert.reason) == (before.state, before.reason)
        assert alert.state not in DECIDED or before.state in IN_HAND
        # only a later result supersedes, and what was superseded can be raised again
        assert alert.state is not State.SUPERSEDED or isinstance(event, Superseded)
        assert alert.revision >= before.revision
        assert (alert.reason != "") == (alert.state is State.DISMISSED)


def test_everything_that_is_not_listed_is_refused_and_says_why():
    """Six states and seven events: the listed 19 pairs go, the other 23 do not."""
    chosen = [Delivered(), Acknowledged(), Confirmed(), Dismissed(Dismissal.KNOWN), Superseded(), Escalated()]
    went = set()
    for state, event in itertools.product(State, [*chosen, again()]):
        reason = "known-already" if state is State.DISMISSED else ""
        alert = raised(state=state, reason=reason)
        if may(alert, type(event)):
            assert after(alert, event).state is TRANSITIONS[type(event)][state]
            went.add((state.value, type(event).__name__))
        else:
            with pytest.raises(TransitionRefused, match=f"found one that is {state}"):
                after(alert, event)
    assert went == {
        ("raised", "Delivered"),
        ("raised", "Acknowledged"),
        ("delivered", "Acknowledged"),
        ("superseded", "Acknowledged"),
        ("acknowledged", "Confirmed"),
        ("acknowledged", "Dismissed"),
        ("raised", "Superseded"),
        ("delivered", "Superseded"),
        ("raised", "Escalated"),
        ("delivered", "Escalated"),
        *((state.value, "FoundAgain") for state in State),
    }


def test_an_alert_that_says_not_found_cannot_be_made():
    for score, threshold in ((0.4, 0.41), (0.0, 0.1), (float("nan"), 0.4), (0.5, float("nan")), (1.1, 0.4)):
        with pytest.raises(DataError, match="a score between its threshold and 1"):
            raised(score=score, threshold=threshold)
    with pytest.raises(DataError, match="a score between"):
        after(raised(), again(score=0.2))
    assert not {field for field in Alert.__dataclass_fields__ if "called" in field or "negative" in field}


@pytest.mark.parametrize(
    "wrong",
    [
        {"study": "1.2.840.113619.2.1"},
        {"key": "short"},
        {"model_digest": "../x"},
        {"where": "two\nlines"},
        {"where": "x" * 201},
        {"finding": ""},
        {"size_mm": -1.0},
        {"size_mm": float("nan")},
        {"raised_at": float("inf")},
        {"reason": "known-already"},
        {"state": State.DISMISSED, "reason": "Mr. Miller has it since 2019"},
        {"state": State.DISMISSED},
    ],
)
def test_other_forms_are_refused_without_a_word_of_them(wrong):
    with pytest.raises(DataError) as refused:
        raised(**wrong)
    assert not any(word in str(refused.value) for word in ("1.2.840", "../x", "xxx", "Miller"))


def test_a_dismissal_needs_a_reason_of_the_list():
    alert = after(after(raised(), Delivered()), Acknowledged())
    assert after(alert, Dismissed(Dismissal.ARTEFACT)).reason == "artefact"
    with pytest.raises(ValueError, match="words of a person"):
        after(alert, Dismissed("words of a person"))


def test_a_key_is_that_of_study_model_and_finding_and_of_nothing_else():
    assert alert_key("ab", "cd", "e") == alert_key("ab", "cd", "e")
    keys = {alert_key(*parts) for parts in itertools.permutations(("ab", "cd", "e"))}
    assert len(keys | {alert_key("abc", "d", "e"), alert_key("ab", "c", "de")}) == 8


def test_what_a_program_superseded_is_raised_again_with_its_escalation_anew():
    old = after(after(raised(), Escalated()), Superseded())
    new = deduplicated(old, raised(raised_at=5000.0))
    assert (new.state, new.raised_at, new.escalated, new.revision) == (State.RAISED, 5000.0, 0, 2)


@pytest.mark.parametrize("state", [State.ACKNOWLEDGED, State.CONFIRMED, State.DISMISSED])
def test_a_persons_decision_stands_with_the_new_evidence(state):
    known = raised(state=state, reason="artefact" if state is State.DISMISSED else "")
    new = deduplicated(known, raised(score=0.6, where="left lung", raised_at=5000.0))
    assert (new.state, new.reason, new.raised_at) == (state, known.reason, 1000.0)
    assert (new.score, new.where, new.revision) == (0.6, "left lung", 1)


def test_a_run_that_says_nothing_new_changes_nothing():
    known = after(raised(), Delivered())
    for fresh in (raised(raised_at=9.0), raised(score=0.925), raised(size_mm=9.9)):
        assert deduplicated(known, fresh) is known
    for fresh in (raised(score=0.91), raised(size_mm=None), raised(size_mm=10.5), raised(where="left lung")):
        assert deduplicated(known, fresh) == replace(
            known, score=fresh.score, size_mm=fresh.size_mm, where=fresh.where, revision=1
        )
    assert deduplicated(None, known) is known
    with pytest.raises(DataError, match="two alerts of one key"):
        deduplicated(known, raised(finding="effusion"))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.5, 1)), max_size=12))
def test_of_several_places_the_surest_stands_for_its_finding(found):
    kept = one_of_each([raised(finding=name, score=score) for name, score in found])
    assert {a.finding: a.score for a in kept} == {
        name: max(s for n, s in found if n == name) for name, _ in found
    }
    assert len(kept) == len({name for name, _ in found})
