"""Envelopes of the link: what is written is read, and whatever else is refused as a message, never otherwise."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.config import agreed, compose
from fedimg.coordination.terms import terms_of
from fedimg.errors import MessageError
from fedimg.federation.conversation import (
    Ended,
    Ending,
    Joining,
    Offer,
    Program,
    RoundMessage,
    kind_of,
    sealed,
)

OWN = Program("0.1.0", "ab" * 32)
KINDS = (Offer, Joining, RoundMessage, Ending, Ended)
MESSAGES = (
    Offer("run-1", OWN, {"rounds": 3}, "cd" * 32, "7-" + "ef" * 32),
    Joining(
        "run-1", "joined", OWN, "patient", {"steps": 3}, "aa" * 32, "9-" + "bb" * 32, 4, {"verdict": "pass"}
    ),
    Joining("run-1", "approval", OWN),
    RoundMessage("run-1", b"\x00FIMG anything"),
    Ending("run-1"),
    Ended("run-1", {"part": {"site": "north"}}),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_what_is_written_is_read_by_its_own_kind_only(message):
    data = message.to_bytes()
    assert type(message).from_bytes(data) == message
    assert kind_of(data) == data[6:10]
    for other in KINDS:
        if other is not type(message):
            with pytest.raises(MessageError):
                other.from_bytes(data)


@given(st.sampled_from(MESSAGES), st.data())
def test_a_changed_or_shortened_message_is_refused_or_says_something_sound(message, data):
    raw = bytearray(message.to_bytes())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    else:
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = type(message).from_bytes(bytes(raw))
    except MessageError:
        return
    assert found.to_bytes() == bytes(raw)  # one value, one string of bytes


@given(st.binary(max_size=300))
def test_bytes_that_are_no_message_are_refused(data):
    for kind in KINDS:
        with pytest.raises(MessageError):
            kind.from_bytes(data)


@pytest.mark.parametrize(
    "run", ["", "../x", "a/b", ".hidden", "-x", "x" * 64, "a b", "ä", "x\n", "x\x00", None, 3, ["x"]]
)
def test_a_run_whose_name_could_leave_its_folder_is_refused(run):
    with pytest.raises(MessageError):
        Ending.from_bytes(sealed(b"ENDS", {"run": run}))


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "ready"},
        {"unit": "client"},
        {"reserved": -1},
        {"reserved": True},
        {"reserved": 1.5},
        {"plan": []},
        {"battery": "pass"},
        {"receipts": ""},
        {"receipts": "AA" * 32},
        {"head": "1-zz"},
        {"head": "9" * 40 + "-" + "aa" * 32},
        {"version": "1" * 50},
        {"code": "ab"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_site_that_says_something_else_is_refused(changes):
    raw = MESSAGES[1].to_bytes()
    header = json.loads(raw[14:]) | changes
    with pytest.raises(MessageError):
        Joining.from_bytes(sealed(b"JOIN", header))


def test_a_header_that_is_too_deep_or_too_long_is_refused():
    for text in (
        b"[" * 100_000,
        b'{"run":"x","part":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b"{" * (1 << 20),
    ):
        raw = b"FLNK\x01\x00PART" + len(text).to_bytes(4, "little") + text
        with pytest.raises(MessageError):
            Ended.from_bytes(raw)


@pytest.mark.parametrize(
    "overrides",
    [
        ["secagg=none"],
        ["secagg=pairwise", "privacy=distributed"],
        ["experiment=scattering_private", "secagg=none"],
        ["privacy=none", "secagg=none", "training.class_weights=[1,2.5]", "model=resnet18"],
        ["imaging=augmented", "secagg=none", "privacy.epsilon=3"],
    ],
    ids=" ".join,
)
def test_terms_that_travel_are_the_same_terms(overrides):
    terms = terms_of(compose(overrides), "run-1")
    travelled = json.loads(Offer("run-1", OWN, agreed.plain(terms), terms.digest).to_bytes()[14:])["terms"]
    assert agreed.read(travelled) == terms
    assert agreed.read(travelled).digest == terms.digest


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.pop("rounds"),
        lambda v: v.update(rounds="3"),
        lambda v: v.update(rounds=True),
        lambda v: v.update(more=1),
        lambda v: v.update(_target_="os.system"),
        lambda v: v["privacy"].update(epsilon=-1),
        lambda v: v["privacy"].update(epsilon=10**400),
        lambda v: v["model"].update(task="counting"),
        lambda v: v["model"].update(task="detection"),  # with another task's loss
        lambda v: v["secagg"].update(name="auto"),
        lambda v: v.update(model=[]),
        lambda v: v["imaging"].update(image_size=[64.0, 64]),
        lambda v: v["privacy"].update(noise={"_target_": "x"}),
        lambda v: v["subgroups"].update(attributes=["race"]),
        lambda v: v["subgroups"].update(age_edges=[0, 37]),
        lambda v: v["subgroups"].update(scanners="ge"),
        lambda v: v.update(subgroups=["sex"]),
    ],
)
def test_terms_that_are_none_are_refused_without_a_word_of_them(change):
    values = agreed.plain(terms_of(compose(["secagg=none"]), "run-1"))
    change(values)
    with pytest.raises(MessageError, match="expected the terms of a run; found values that are none"):
        agreed.read(values)
