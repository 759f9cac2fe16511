"""A coordinator that lies, and up to c sites that help it: every honest site refuses, and nothing is opened."""

import numpy as np
import pytest

from fedimg.crypto.agreement import AgreementKey
from fedimg.crypto.keys import SigningKey
from fedimg.errors import MessageError, PolicyRefused
from fedimg.secagg import statements
from fedimg.secagg.coordinator import VoidSumError
from fedimg.secagg.encoding import Encoded
from fedimg.secagg.messages import (
    CONFIRMATIONS,
    COORDINATOR,
    KEYS,
    MASK_KEY,
    OPENED,
    SEED,
    SHARES,
    SURVIVORS,
    pack_input,
    unpack_input,
)
from fedimg.secagg.site import SumSite
from fedimg.values import MaskedUpdate

SITES = 5  # t = 4, c ≤ 2


def upto(hall, step, drops=None):
    """The messages that open `step`, an honest coordinator's, by site."""
    drops, messages, take = drops or {}, dict.fromkeys(hall.sites, b""), hall.coordinator
    for number, following in enumerate((take.keys, take.sharing, take.survivors, take.confirmed)[:step]):
        messages = following(
            {
                name: hall.answer(name, number, m)
                for name, m in messages.items()
                if drops.get(name, 9) > number
            }
        )
    return messages


def rows_of(table, hall, message):
    return table.unpack(hall.coordinator._context, COORDINATOR, message, SITES)


def packed(table, hall, rows):
    return table.pack(hall.coordinator._context, COORDINATOR, rows)


def refuses(hall, step, message, expected):
    """Every site that gets this message refuses, for this reason, and then says nothing more."""
    for name in hall.sites:
        with pytest.raises(MessageError, match=expected):
            hall.answer(name, step, message)
        for later in range(step, 5):
            with pytest.raises(MessageError, match="each step of a secure sum once and in order"):
                hall.answer(name, later, message)


def test_a_key_that_the_coordinator_puts_in_place_of_a_sites(hall):
    five = hall(SITES)
    message = next(iter(upto(five, 1).values()))
    rows, mine = rows_of(KEYS, five, message), AgreementKey.fresh().public_bytes
    for field in (1, 2, 3):
        five.start("round 1")
        rows = rows_of(KEYS, five, next(iter(upto(five, 1).values())))
        changed = tuple(mine if place == field else value for place, value in enumerate(rows[2]))
        refuses(
            five,
            1,
            packed(KEYS, five, [*rows[:2], changed, *rows[3:]]),
            "keys signed by the sites of the roster",
        )


def test_a_key_signed_by_somebody_who_is_not_in_the_roster(hall):
    five = hall(SITES)
    rows, stranger = rows_of(KEYS, five, next(iter(upto(five, 1).values()))), SigningKey(b"z" * 32)
    context = five.coordinator._context
    row = rows[2]
    signature = stranger.sign(statements.keys_statement(context, *row[:4]))
    refuses(
        five, 1, packed(KEYS, five, [*rows[:2], (*row[:4], signature), *rows[3:]]), "keys signed by the sites"
    )


def test_a_site_beyond_the_roster(hall):
    five = hall(SITES)
    rows, stranger = rows_of(KEYS, five, next(iter(upto(five, 1).values()))), SigningKey(b"z" * 32)
    body = (SITES, *(AgreementKey.fresh().public_bytes for _ in range(2)), bytes(32))
    signature = stranger.sign(statements.keys_statement(five.coordinator._context, *body))
    refuses(five, 1, packed(KEYS, five, [*rows[1:], (*body, signature)]), "keys signed by the sites")


def test_a_site_that_copies_anothers_key(hall):
    """Two sites with one mask key would leave a mask in the sum that both know."""
    five = hall(SITES)
    rows = rows_of(KEYS, five, next(iter(upto(five, 1).values())))
    names = five.plan.names
    copied = (4, rows[4][1], rows[0][2], rows[4][3])
    signature = five.identities[names[4]].sign(statements.keys_statement(five.coordinator._context, *copied))
    message = packed(KEYS, five, [*rows[:4], (*copied, signature)])
    for name in names[:4]:
        with pytest.raises(MessageError, match="keys that are all different"):
            five.answer(name, 1, message)


@pytest.mark.parametrize("another", ["round 2", "round 1 of another run"])
def test_a_round_that_is_replayed(hall, another):
    """Keys of another sum, honestly signed there, are worth nothing in this one."""
    five = hall(SITES)
    old = next(iter(upto(five, 1).values()))
    if another == "round 2":
        five.start(another)
    else:
        five = hall(SITES, run_id="another run")
    upto(five, 1)
    refuses(five, 1, old, "one of another run, plan or sum")
    five.start("round 3")
    upto(five, 1)
    forged = packed(
        KEYS,
        five,
        [KEYS.row.unpack(old[i : i + KEYS.row.size]) for i in range(46 + 2, len(old), KEYS.row.size)],
    )
    refuses(five, 1, forged, "keys signed by the sites of the roster")


@pytest.mark.parametrize(
    "changed", [{"threshold": 5}, {"colluders": 2}, {"size": 4}, {"word_bits": 64}, {"terms": "less noise"}]
)
def test_a_plan_that_is_changed(hall, changed):
    """What sites are told differs in one number: their keys do not meet."""
    five, other = hall(SITES), hall(SITES, **changed)
    assert five.plan.digest != other.plan.digest
    theirs = next(iter(upto(other, 1).values()))
    upto(five, 1)
    refuses(five, 1, theirs, "one of another run, plan or sum")


def test_a_site_whose_identity_is_not_in_the_plan(hall):
    five = hall(SITES)
    with pytest.raises(PolicyRefused, match="this site's own key in the plan"):
        SumSite(five.plan, "round 1", five.plan.names[0], SigningKey(b"z" * 32))


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_fewer_sites_than_the_threshold_are_shown(hall, step):
    five = hall(SITES)
    tables = {1: KEYS, 2: SHARES, 3: SURVIVORS, 4: CONFIRMATIONS}
    for name, message in upto(five, step).items():
        rows = rows_of(tables[step], five, message)
        own = five.plan.names.index(name)
        kept = [row for row in rows if row[0] == own] + [row for row in rows if row[0] != own][:2]
        with pytest.raises(MessageError, match=f"of at least {five.plan.threshold} sites; found 3"):
            five.answer(name, step, packed(tables[step], five, sorted(kept)))


def test_a_false_survivor(hall):
    """A site that sent nothing is named as a survivor: its signature is missing, whatever is put there."""
    five = hall(SITES)
    dropped = five.plan.names[1]
    messages = upto(five, 3, {dropped: 2})
    rows = rows_of(SURVIVORS, five, next(iter(messages.values())))
    five.sites.pop(dropped)
    for digest, signature in ((bytes(32), bytes(64)), rows[0][1:]):
        # the same sites again, each time up to the list of survivors
        again = hall(SITES, label=f"again {signature.hex()[:8]}")
        shown = upto(again, 3, {dropped: 2})
        there = rows_of(SURVIVORS, again, next(iter(shown.values())))
        again.sites.pop(dropped)
        refuses(
            again,
            3,
            packed(SURVIVORS, again, sorted([*there, (1, digest, signature)])),
            "own signature over its",
        )


def test_a_survivor_that_is_named_as_dropped(hall):
    """Its mask key would be opened while the coordinator holds its masked input: it is not in the list it signs."""
    five = hall(SITES)
    rows = rows_of(SURVIVORS, five, next(iter(upto(five, 3).values())))
    without = packed(SURVIVORS, five, rows[1:])
    with pytest.raises(MessageError, match="this site among the survivors"):
        five.answer(five.plan.names[0], 3, without)


def test_another_masked_input_in_a_sites_name(hall):
    five = hall(SITES)
    rows = rows_of(SURVIVORS, five, next(iter(upto(five, 3).values())))
    digest = bytes(32)
    signature = five.identities[five.plan.names[0]].sign(
        statements.input_statement(five.coordinator._context, 0, digest)
    )  # as if its key had been used for two inputs
    with pytest.raises(MessageError, match="this site's own masked input"):
        five.answer(five.plan.names[0], 3, packed(SURVIVORS, five, [(0, digest, signature), *rows[1:]]))


def test_both_shares_of_one_site_are_asked_for(hall):
    """Once with the site among the survivors, once without it: the second list is refused, opened or not."""
    five = hall(SITES)
    messages = upto(five, 4)
    survivors = five.coordinator._messages["survivors"]
    fewer = packed(SURVIVORS, five, rows_of(SURVIVORS, five, survivors)[:4])
    for name in five.plan.names[:4]:
        opened = five.answer(name, 4, messages[name])
        roles = {
            of: role
            for of, role, _ in OPENED.unpack(
                five.coordinator._context, five.plan.names.index(name), opened, SITES
            )
        }
        assert set(roles.values()) == {SEED}
        with pytest.raises(MessageError, match="once and in order"):
            five.answer(name, 3, fewer)
        with pytest.raises(MessageError, match="once and in order"):
            five.answer(name, 4, messages[name][:-1])


def test_two_lists_to_two_halves_with_colluders(hall):
    """K = 7, t = 5, c = 2: each half is told that others dropped out; colluders sign whatever helps."""
    seven = hall(7, colluders=2)
    names = seven.plan.names
    rogues, honest = names[:2], names[2:]
    shown = upto(seven, 3)
    rows = SURVIVORS.unpack(seven.coordinator._context, COORDINATOR, next(iter(shown.values())), 7)
    # each list: the colluders and enough honest ones to reach t = 5
    lists = {
        half: packed(SURVIVORS, seven, sorted(row for row in rows if names[row[0]] in (*rogues, *half)))
        for half in ((*honest[:3],), (*honest[2:],))
    }
    first, second = lists
    signatures: dict[tuple[str, ...], list] = {}
    for half, message in lists.items():
        view = statements.view_statement(
            seven.coordinator._context,
            seven.coordinator._messages["keys"],
            range(7),
            seven.coordinator._asked,
            message,
        )
        signatures[half] = [(names.index(name), seven.identities[name].sign(view)) for name in rogues]
    for name in first:
        (row,) = CONFIRMATIONS.unpack(
            seven.coordinator._context, names.index(name), seven.answer(name, 3, lists[first]), 7
        )
        signatures[first].append(row)
    for name in second[1:]:  # the honest site in both halves has signed the first list
        (row,) = CONFIRMATIONS.unpack(
            seven.coordinator._context, names.index(name), seven.answer(name, 3, lists[second]), 7
        )
        signatures[second].append(row)
    with pytest.raises(MessageError, match="once and in order"):
        seven.answer(second[0], 3, lists[second])
    # four signatures are not five, and those of the first list do not fit the second
    short = packed(CONFIRMATIONS, seven, sorted(signatures[second]))
    mixed = packed(CONFIRMATIONS, seven, sorted([*signatures[second], signatures[first][2]]))
    with pytest.raises(MessageError, match="confirmations of at least 5 sites; found 4"):
        seven.answer(second[1], 4, short)
    with pytest.raises(MessageError, match="signatures of survivors over the list that this site was shown"):
        seven.answer(second[2], 4, mixed)


def test_keys_that_a_colluder_showed_differently_to_two_halves(hall):
    """Both sets are honestly signed by the colluder; what sites confirm covers the keys, so no list gets t."""
    five = hall(SITES)
    names, context = five.plan.names, five.coordinator._context
    answers = {name: five.answer(name, 0, b"") for name in names}
    message = five.coordinator.keys(answers)[names[0]]
    rows = rows_of(KEYS, five, message)
    other = (0, *(AgreementKey.fresh().public_bytes for _ in range(2)), bytes(32))
    signed = (*other, five.identities[names[0]].sign(statements.keys_statement(context, *other)))
    two_faced = packed(KEYS, five, [signed, *rows[1:]])
    shares = {
        name: five.answer(name, 1, message if name in names[:3] else two_faced)
        for name in names
        if name != names[0]
    } | {names[0]: five.answer(names[0], 1, message)}
    sharing = five.coordinator.sharing(shares)
    survivors = five.coordinator.survivors({name: five.answer(name, 2, m) for name, m in sharing.items()})
    with pytest.raises(VoidSumError, match="confirmations of at least 4 of 5 sites; found 3"):
        five.coordinator.confirmed({name: five.answer(name, 3, m) for name, m in survivors.items()})
    assert set(five.coordinator.refused) == set(names[3:])


def test_a_second_masked_input_in_one_sum(hall):
    """Two inputs under one mask differ by un-masked data."""
    five = hall(SITES)
    messages = upto(five, 2)
    name = five.plan.names[0]
    first = five.answer(name, 2, messages[name])
    five.inputs[name] = five.inputs[name] + 1
    assert (
        five.answer(name, 2, messages[name]) == first
    )  # the same question: the same bytes, nothing made anew
    with pytest.raises(MessageError, match="once and in order"):
        five.answer(name, 2, packed(SHARES, five, rows_of(SHARES, five, messages[name])[:4]))


def test_steps_out_of_order(hall):
    five = hall(SITES)
    for name in five.sites:
        with pytest.raises(MessageError, match="once and in order"):
            five.answer(name, 3, b"")
        with pytest.raises(MessageError, match="once and in order"):
            five.answer(name, 0, b"")


def test_the_coordinator_discards_what_is_not_in_order_and_goes_on_with_the_rest(hall):
    """One site's answers are broken at one step, in turn: the sum is that of the others."""

    def shorter(answer):
        return answer[:-1]

    def another_context(answer):
        return answer[:10] + bytes(32) + answer[42:]

    def flipped(answer):
        return answer[:-1] + bytes([answer[-1] ^ 1])

    for step in range(5):
        for change in (shorter, another_context, flipped):
            five = hall(SITES, label=f"{step}{change.__name__}")
            bad = five.plan.names[2]

            def wire(at, name, answer, step=step, change=change, bad=bad):
                return change(answer) if at == step and name == bad else answer

            opened = five.run(wire=wire)
            # a byte of a sealed share that is flipped harms one receiver's share only, of a share that is opened nobody
            silent = change is flipped and step in (1, 4)
            assert (five.coordinator.refused == {}) == silent
            survived = [n for n in five.plan.names if silent or step >= 3 or n != bad]
            assert opened.survivors == tuple(survived)
            assert np.array_equal(opened.total, five.expected(survived))


def test_wrong_shares_are_found_and_left_out(hall):
    """A site opens shares that it has made up: with as many right ones as the threshold the sum stands."""
    five = hall(SITES)
    liar = five.plan.names[0]

    def wire(step, name, answer):
        if step != 4 or name != liar:
            return answer
        rows = OPENED.unpack(five.coordinator._context, 0, answer, SITES)
        return OPENED.pack(
            five.coordinator._context, 0, [(of, role, bytes([0]) + b"\x07" * 32) for of, role, _ in rows]
        )

    assert np.array_equal(five.run(wire=wire).total, five.expected(five.plan.names))
    six = hall(SITES, label="two liars")
    rogues = six.plan.names[:2]

    def wires(step, name, answer):
        if step != 4 or name not in rogues:
            return answer
        index = six.plan.names.index(name)
        rows = OPENED.unpack(six.coordinator._context, index, answer, SITES)
        return OPENED.pack(
            six.coordinator._context, index, [(of, role, bytes([0]) + b"\x07" * 32) for of, role, _ in rows]
        )

    with pytest.raises(VoidSumError, match="4 right shares of the secrets of site-0000"):
        six.run(wire=wires)


def test_shares_in_the_other_role_are_discarded(hall):
    five = hall(SITES)

    def wire(step, name, answer):
        if step != 4 or name != five.plan.names[0]:
            return answer
        rows = OPENED.unpack(five.coordinator._context, 0, answer, SITES)
        return OPENED.pack(five.coordinator._context, 0, [(of, MASK_KEY, share) for of, _, share in rows])

    assert np.array_equal(five.run(wire=wire).total, five.expected(five.plan.names))
    assert "each in the role that was confirmed" in five.coordinator.refused[five.plan.names[0]]


def test_an_input_signed_by_another_is_discarded(hall):
    five = hall(SITES)
    bad, other = five.plan.names[0], five.identities[five.plan.names[1]]

    def wire(step, name, answer):
        if step != 2 or name != bad:
            return answer
        _, words = unpack_input(five.coordinator._context, 0, answer, 3, 32)
        digest = statements.input_digest(words.tobytes())
        return pack_input(
            five.coordinator._context,
            0,
            other.sign(statements.input_statement(five.coordinator._context, 0, digest)),
            MaskedUpdate(words),
        )

    assert np.array_equal(five.run(wire=wire).total, five.expected(five.plan.names[1:]))
    assert "a masked input signed by the site" in five.coordinator.refused[bad]


@pytest.mark.parametrize("kind", ["copied", "of small order", "twice the same"])
def test_one_sites_unusable_keys_cost_that_site_only(hall, kind):
    """Honest sites would refuse a list with such keys, so the coordinator leaves the site out."""
    five = hall(SITES)
    bad, context, seen = five.plan.names[4], five.coordinator._context, []

    def wire(step, name, answer):
        if step != 0:
            return answer
        (row,) = KEYS.unpack(context, five.plan.names.index(name), answer, 1)
        seen.append(row)
        if name != bad:
            return answer
        mask = {"copied": seen[0][2], "of small order": bytes(32), "twice the same": row[1]}[kind]
        changed = (4, row[1], mask, row[3])
        signature = five.identities[bad].sign(statements.keys_statement(context, *changed))
        return KEYS.pack(context, 4, [(*changed, signature)])

    assert np.array_equal(five.run(wire=wire).total, five.expected(five.plan.names[:4]))
    assert set(five.coordinator.refused) == {bad}


def test_two_models_to_one_sum(hall):
    """One site is asked for its vector and the others for zeros: their masks do not cancel, and nobody confirms."""
    five = hall(SITES, label="models")
    asked = {name: b"the real model" if name == five.plan.names[0] else b"another" for name in five.sites}
    five.coordinator._asked = statements.asked_digest(b"another")
    messages = upto(five, 2)
    inputs = {
        name: five.sites[name].masked_input(m, lambda name=name: Encoded(five.words(name)), asked[name])
        for name, m in messages.items()
    }
    survivors = five.coordinator.survivors(inputs)
    confirmed = {name: five.answer(name, 3, m) for name, m in survivors.items()}
    messages = five.coordinator.confirmed(confirmed)
    assert set(five.coordinator.refused) == {five.plan.names[0]}
    # what the four open is not the sum: each has a mask with the first that stays
    opened = five.coordinator.opened({name: five.answer(name, 4, m) for name, m in messages.items()})
    assert not np.array_equal(opened.total, five.expected(five.plan.names))
    assert not np.array_equal(opened.total, five.inputs[five.plan.names[0]])
    # nor can the first be made to open anything by the others' signatures
    with pytest.raises(MessageError, match="signatures of survivors over the list that this site was shown"):
        five.answer(five.plan.names[0], 4, messages[five.plan.names[1]])


@pytest.mark.parametrize(("sites", "liars"), [(13, 2), (20, 3), (50, 8)])
def test_wrong_shares_are_corrected_up_to_half_of_what_is_over(hall, sites, liars):
    """⌊(K − t)/2⌋ of the first sites open shares that they made up, of everybody's secrets."""
    many = hall(sites)
    rogues = many.plan.names[:liars]
    assert liars == (sites - many.plan.threshold) // 2

    def wire(step, name, answer):
        if step != 4 or name not in rogues:
            return answer
        index = many.plan.names.index(name)
        rows = OPENED.unpack(many.coordinator._context, index, answer, sites)
        made_up = bytes([0]) + bytes([index + 7]) * 32
        return OPENED.pack(many.coordinator._context, index, [(of, role, made_up) for of, role, _ in rows])

    assert np.array_equal(many.run(wire=wire).total, many.expected(many.plan.names))
