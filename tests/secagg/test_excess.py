"""Noise for drop-outs: its keys are shown for as many as did not drop out, and by nobody before that is certain."""

import numpy as np
import pytest

from fedimg.secagg import messages
from fedimg.secagg.carried import dumped, loaded
from fedimg.secagg.coordinator import VoidSumError
from fedimg.secagg.encoding import Encoded
from fedimg.secagg.messages import EXCESS, OPENED, split_excess

SITES = 7  # 5 of which survive: two keys each


def keys_of(name):
    return tuple(bytes([int(name[-1]) + 1, number]) * 16 for number in (1, 2))


@pytest.fixture
def seven(hall):
    made = hall(SITES)
    for name in made.plan.names:
        plain = made.words

        def answer(name, step, message, plain=plain, usual=made.answer):
            if step != 2:
                return usual(name, step, message)
            return made.sites[name].masked_input(message, lambda: Encoded(plain(name), keys_of(name)))

    made.answer = answer
    return made


@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_the_keys_beyond_the_drop_outs_are_shown_and_no_others(seven, dropped):
    gone = seven.plan.names[:dropped]
    found = seven.run(dict.fromkeys(gone, 2))
    assert np.array_equal(found.total, seven.expected(found.survivors))
    assert set(found.excess) == set(seven.plan.names[dropped:])
    for name, shown in found.excess.items():
        assert shown == tuple(enumerate(keys_of(name), start=1))[dropped:]


def test_a_survivor_that_is_gone_before_it_shows_its_keys_leaves_its_noise_in(seven):
    late = seven.plan.names[3]
    found = seven.run({late: 4})
    assert late in found.survivors
    assert late not in found.excess
    assert np.array_equal(found.total, seven.expected(seven.plan.names))


def test_no_key_is_in_anything_before_the_last_answer(seven):
    seen = []

    def wire(step, name, answer):
        if step < 4:
            seen.append(answer)
        return answer

    seven.run(wire=wire)
    everything = b"".join(seen)
    assert not any(key in everything for name in seven.plan.names for key in keys_of(name))


def test_a_site_that_refuses_forgets_its_keys(seven):
    """The coordinator says to some that more survived than did: their list is signed by nobody else."""
    name = seven.plan.names[0]

    def wire(step, site, answer):
        return None if site != name and step == 3 else answer

    with pytest.raises(VoidSumError, match="confirmations of at least 5"):
        seven.run(wire=wire)
    site = seven.sites[name]
    assert site.state.excess == list(keys_of(name))
    with pytest.raises(messages.MessageError):
        site.unmask(b"another message")
    assert site.state.excess == []


@pytest.mark.parametrize("number", [0, 1, 3, 7, 9])
def test_keys_of_noise_that_is_needed_or_unknown_are_discarded_with_their_answer(seven, number):
    bad, gone = seven.plan.names[6], seven.plan.names[0]

    def wire(step, name, answer):
        if step != 4 or name != bad:
            return answer
        opened, _ = split_excess(answer)
        context = seven.coordinator._context
        return opened + EXCESS.pack(context, 6, [(number, b"k" * 32)])

    found = seven.run({gone: 2}, wire)
    assert bad not in found.excess
    assert "keys of noise that is not needed" in seven.coordinator.refused[bad]
    assert np.array_equal(found.total, seven.expected(found.survivors))


def test_an_answer_that_ends_in_the_middle_is_discarded(seven):
    bad = seven.plan.names[6]
    found = seven.run(wire=lambda step, name, answer: answer[:-1] if (step, name) == (4, bad) else answer)
    assert bad not in found.excess
    with pytest.raises(messages.MessageError, match="OPEN message"):
        split_excess(b"short")
    whole = OPENED.pack(bytes(32), 1, [])
    assert split_excess(whole) == (whole, b"")


def test_keys_go_from_process_to_process_with_the_open_sum(seven):
    name = seven.plan.names[2]
    with pytest.raises(VoidSumError):
        seven.run(dict.fromkeys(seven.plan.names[4:], 3))  # in the middle of a sum
    state = dumped(seven.sites[name])
    again = loaded(state, seven.plan, "round 1", name, seven.identities[name])
    assert again.state.excess == list(keys_of(name))
