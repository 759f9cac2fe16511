"""What a member says when it is offered a run: judged, and whatever it is, no more than a refused answer."""

import json
from dataclasses import replace

import pytest

from fedimg.config import compose
from fedimg.coordination.folder import RunFolder
from fedimg.coordination.terms import own_network, terms_of
from fedimg.crypto.keys import SigningKey
from fedimg.federation.conversation import Joining, Offer, Program, sealed
from fedimg.privacy.calibration import make_plan
from fedimg.privacy.chain import head_of
from fedimg.privacy.kept_heads import KeptHeads
from fedimg.privacy.policy import SitePolicy
from fedimg.run_sums import sums_of
from fedimg.secagg.roster import Roster
from server.gathering import Gathering

OWN = Program("0.1.0", "ab" * 32)
NAMES = ("north", "south", "east")
DECLARED = 500
RECEIPTS = "cd" * 32
VERDICT = {"audit": "battery", "verdict": "pass", "checks": 50, "not_checkable": [], "seconds": 1.5}


@pytest.fixture(scope="module")
def terms():
    return terms_of(compose(["secagg=pairwise", "rounds=3", "privacy.epsilon=3", "sites=3"]), "run-1")


class NoLedger:
    """One with room for everything."""

    remaining = 1e9

    class terms:
        order = 4


@pytest.fixture(scope="module")
def plan(terms):
    return make_plan(terms.privacy, SitePolicy(DECLARED), NoLedger())


@pytest.fixture
def gathering(tmp_path, terms):
    keys = {name: SigningKey.create(tmp_path / f"{name}.key").public_bytes for name in NAMES}
    roster = Roster(keys, dict.fromkeys(NAMES, float(DECLARED)))
    (tmp_path / "run-1").mkdir()
    return Gathering(
        terms,
        OWN,
        RunFolder(tmp_path / "run-1"),
        KeptHeads(tmp_path / "heads.json"),
        roster,
        "patient",
        sums_of(terms, roster, own_network(terms).number_of_parameters),
    )


def head(number, letter="e"):
    return f"{number}-{letter * 64}"


def joining(plan, **changes):
    known = Joining("run-1", "joined", OWN, "patient", plan.as_json(), RECEIPTS, head(7), 7, VERDICT)
    return replace(known, **changes)


def offered(gathering, **answers):
    """Offer the run; what stands of each afterwards."""
    asked = {}

    def ask(outgoing):
        asked.update(outgoing)
        return {
            name: answer if isinstance(answer, bytes | None) else answer.to_bytes()
            for name, answer in answers.items()
        }

    gathering.offer(dict.fromkeys(answers, "since"), ask)
    return asked


def test_who_joins_is_there_and_is_kept(gathering, plan, tmp_path, terms):
    asked = offered(gathering, north=joining(plan), south=joining(plan, head=head(3)))
    offer = Offer.from_bytes(asked["north"])
    assert (offer.digest, offer.members, offer.head) == (terms.digest, gathering.roster.digest, "")
    assert set(gathering.present) == {"north", "south"}
    assert gathering.plans == {"north": plan, "south": plan}
    again = Gathering(
        terms, OWN, gathering.folder, gathering.heads, gathering.roster, "patient", gathering.sums
    )
    assert again.joined == gathering.joined
    assert again.plans == gathering.plans
    # who is there is not asked again; who was lost is
    assert offered(gathering, north=joining(plan)) == {}
    gathering.lost("north")
    assert Offer.from_bytes(offered(gathering, north=joining(plan))["north"]).head == head(7)


HUGE = 10**400


@pytest.mark.parametrize(
    "change",
    [
        {"noise_multiplier": 0.1},
        {"noise_multiplier": 1e308},
        {"noise_multiplier": HUGE},
        {"evaluation_noise_multiplier": 0.01},
        {"declared_patients": 10**9},
        {"declared_patients": HUGE},
        {"declared_patients": DECLARED + 1},
        {"sampling_rate": 0.5},
        {"epsilon": None},
        {"epsilon": 1e-6},
        {"epsilon_second": 2.0},
        {"request": [1]},
        {"request": {}},
        {"sum_sites": 3},
        {"noise_multiplier": "1"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_plan_that_this_site_could_not_have_made_is_refused(gathering, plan, change):
    values = plan.as_json() | change
    header = json.loads(joining(plan).to_bytes()[14:]) | {"plan": values}
    offered(gathering, north=sealed(b"JOIN", header), south=joining(plan))
    assert set(gathering.present) == {"south"}
    assert set(gathering.joined) == set(gathering.plans) == {"south"}
    assert "its answer was refused" in gathering.standing["north"]


def test_a_plan_whose_noise_was_raised_to_fit_its_ledger_is_sound(gathering, plan):
    from fedimg.privacy import calibration

    raised = replace(
        plan,
        noise_multiplier=plan.noise_multiplier * 1.1,
        evaluation_noise_multiplier=plan.evaluation_noise_multiplier * 1.1,
    )
    first, second = calibration.recomputed(raised)
    offered(gathering, north=joining(replace(raised, epsilon=first, epsilon_second=second)))
    assert set(gathering.present) == {"north"}
    gathering.joined.clear()
    gathering.lost("north")
    offered(gathering, north=joining(raised))  # with the ε of less noise
    assert gathering.present == {}


@pytest.mark.parametrize(
    "verdict",
    [
        {},
        VERDICT | {"audit": "empirical"},
        VERDICT | {"verdict": "fail"},
        VERDICT | {"site": "south"},
        VERDICT | {"seconds": HUGE},
        VERDICT | {"checks": "50"},
        VERDICT | {"not_checkable": ["x"] * 1000},
        VERDICT | {"not_checkable": ["x" * 1000]},
    ],
    ids=lambda v: str(v)[:40],
)
def test_a_verdict_that_no_battery_gives_is_refused(gathering, plan, verdict):
    offered(gathering, north=joining(plan, battery=verdict))
    assert gathering.joined == {}


def test_a_site_of_other_units_or_without_a_plan_is_refused_and_the_others_are_not(gathering, plan):
    offered(
        gathering,
        north=joining(plan, unit="image"),
        south=joining(plan),
        east=replace(joining(plan), plan=None),
    )
    assert set(gathering.present) == {"south"}


def test_a_ledger_that_was_put_back_is_refused_and_nobody_elses(gathering, plan):
    gathering.heads.joined("north", head_of(head(9)), 9)
    for wrong in (head(8), head(9, "f")):
        offered(gathering, north=joining(plan, head=wrong), south=joining(plan))
        assert "put back or forked" in gathering.standing["north"]
        gathering.standing.clear()
        assert set(gathering.present) == {"south"}
    offered(gathering, north=joining(plan, head=head(10)), south=joining(plan))
    assert set(gathering.present) == {"south", "north"}


def test_what_a_site_said_first_stands(gathering, plan):
    offered(gathering, north=joining(plan))
    gathering.lost("north")
    offered(gathering, north=joining(plan, receipts="ef" * 32, battery=None))
    assert gathering.joined["north"].receipts == RECEIPTS
    assert gathering.joined["north"].battery == VERDICT
    gathering.lost("north")
    offered(gathering, north=joining(replace(plan, noise_multiplier=plan.noise_multiplier * 1.01)))
    assert "the plan that this site joined with" in gathering.standing["north"]


@pytest.mark.parametrize("answer", [b"", b"x" * 100, b"FLNK\x01\x00JOIN\xff\xff\xff\xff"])
def test_bytes_that_say_nothing_are_a_refused_answer(gathering, answer):
    offered(gathering, north=answer)
    assert "refused" in gathering.standing["north"]


def test_a_site_that_declines_is_not_asked_before_every_message(gathering, plan, monkeypatch):
    assert set(offered(gathering, north=None)) == {"north"}
    assert "its operator can see why" in gathering.standing["north"]
    assert offered(gathering, north=None) == {}
    gathering.offer({}, lambda _outgoing: {})
    assert gathering.standing == {}  # who is gone stands nowhere
    # connected anew it is asked at once
    gathering.offer({"north": "later"}, lambda _outgoing: {"north": joining(plan).to_bytes()})
    assert set(gathering.present) == {"north"}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("preparing", "is preparing"),
        ("approval", "consent"),
        ("members", "other members"),
        ("version", "install the same release at both ends"),
    ],
)
def test_where_a_site_stands_is_said_in_words(gathering, state, words):
    program = Program("9.9", "00" * 32) if state == "version" else OWN
    offered(gathering, north=Joining("run-1", state, program))
    assert words in gathering.standing["north"]
    assert gathering.present == {}
