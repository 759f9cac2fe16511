"""What a site answers, without a network: it looks before it joins, and says no more than it must."""

import json
import threading
import time

import numpy as np
import pytest
import torch
import yaml

from fedimg.config import agreed, compose
from fedimg.coordination.terms import terms_of
from fedimg.federation.conversation import Ended, Ending, Joining, Offer, Program, RoundMessage
from fedimg.home import SiteHome
from fedimg.operator_log import read_operator_log
from fedimg.privacy.ledger import Ledger, LedgerTerms
from fedimg.values import NoisedUpdate, RoundInstructions
from sites.attendance import Attendance, Bench
from sites.offers import Offers

SMALL = (
    "secagg=none",
    "rounds=3",
    "model=cnn",
    "model.width=4",
    "imaging.image_size=[32,32]",
    "training.local_steps=1",
    "privacy.epsilon=3",
    "privacy.delta=1e-3",
    "privacy.expected_batch_size=6",
)


@pytest.fixture
def home(tmp_path):
    """A real site's, without an image: what it does is the same, and quick."""
    found = SiteHome.create(tmp_path / "home", simulated=False)
    policy(found)
    Ledger.create(found.ledger, found.signing_key, LedgerTerms(10.0, 1e-3, 4)).disconnect()
    return found


def policy(home, **changes):
    known = {"declared_patients": 50, "max_delta": 1e-3, "require_battery": False, "preapproved_epsilon": 8.0}
    home.policy.write_text(yaml.safe_dump(known | changes))


@pytest.fixture
def site(home):
    found = Attendance(home, "north", Bench(torch.device("cpu")))
    yield found
    for thread in found._preparing.values():
        thread.join()
    found.close()


def terms(*overrides, run="run-1"):
    return terms_of(compose([*SMALL, *overrides]), run)


def offer(site, found, **changes):
    known = {
        "run": found.run_id,
        "program": site.program,
        "terms": agreed.plain(found),
        "digest": found.digest,
    }
    return Offer(**known | changes).to_bytes()


def said(site, data):
    answer = site.answer(data)
    return Joining.from_bytes(answer) if answer is not None else None


def joined(site, found):
    assert said(site, offer(site, found)).state == "preparing"
    site._preparing[found.run_id].join()
    answer = said(site, offer(site, found))
    assert answer is not None, read_operator_log(site.home.root)
    assert answer.state == "joined"
    return answer


def question(found, number, task="train", size=None):
    vector = np.zeros(size)
    return RoundMessage(
        found.run_id,
        RoundInstructions(found.run_id, number, task, found.digest, vector).to_bytes(),
    ).to_bytes()


def reasons(site):
    return json.dumps(read_operator_log(site.home.root))


def spent(home):
    ledger = Ledger.open(home.ledger, home.signing_key)
    try:
        return ledger.statement
    finally:
        ledger.disconnect()


def test_a_run_from_its_offer_to_its_end(site, home):
    found = terms()
    answer = joined(site, found)
    assert answer.plan["request"]["epsilon"] == 3.0
    assert answer.unit == "patient"
    assert answer.reserved > 0
    size = site._sites["run-1"].network.number_of_parameters
    first = site.answer(question(found, 1, size=size))
    assert NoisedUpdate.from_bytes(first, size).round == 1
    # the same question again has the same bytes, and costs nothing
    before = spent(home).runs["run-1"].charged
    assert site.answer(question(found, 1, size=size)) == first
    assert spent(home).runs["run-1"].charged == before == {"train": 1}
    ended = site.answer(Ending("run-1").to_bytes())
    part = Ended.from_bytes(ended).part
    assert part["part"]["charged"] == {"train": 1}
    assert part["key"] == home.signing_key.public_bytes.hex()
    # what was set aside and not spent is free again, and the run is over for good
    assert spent(home).epsilon_left > 10.0 - 3.0
    assert site.answer(Ending("run-1").to_bytes()) == ended
    assert site.answer(question(found, 2, size=size)) is None
    assert said(site, offer(site, found)) is None


def test_a_site_that_was_started_anew_goes_on_with_its_plan(site, home):
    found = terms()
    before = joined(site, found)
    size = site._sites["run-1"].network.number_of_parameters
    first = site.answer(question(found, 1, size=size))
    site.close()
    again = Attendance(home, "north", Bench(torch.device("cpu")))
    assert again.answer(question(found, 1, size=size)) is None  # until it is offered the run again
    after = joined(again, found)
    assert after.plan == before.plan
    assert again.answer(question(found, 1, size=size)) == first
    again.close()


def test_nothing_is_looked_at_before_a_person_has_agreed(site, home):
    policy(home, preapproved_epsilon=2.9)
    found = terms()
    assert said(site, offer(site, found)).state == "approval"
    assert "fedimg site approve" in reasons(site)
    assert not (home.root / "plans").exists()
    assert spent(home).runs == {}
    Offers(home).approve("run-1", "00" * 32)  # to another program
    assert said(site, offer(site, found)).state == "approval"
    Offers(home).approve(found.digest[:8], site.program.digest)
    joined(site, found)


def test_consent_to_one_run_is_none_to_another(site, home):
    policy(home, preapproved_epsilon=0.0)
    found, dearer = terms(), terms("privacy.epsilon=4")
    assert said(site, offer(site, found)).state == "approval"
    Offers(home).approve("run-1", site.program.digest)
    assert said(site, offer(site, dearer)) is None
    assert "the terms that this run was offered with" in reasons(site)
    assert spent(home).runs == {}


@pytest.mark.parametrize("overrides", [["privacy=none"], ["privacy=client_level", "privacy.epsilon=1"]])
def test_a_policy_never_agrees_beforehand_to_what_has_no_noise_of_the_sites_own(site, home, overrides):
    policy(home, allow_non_private=True, allow_client_level=True)
    assert said(site, offer(site, terms(*overrides))).state == "approval"


def test_another_program_is_refused_and_told(site):
    for program in (Program("9.9.9", site.program.digest), Program(site.program.version, "00" * 32)):
        answer = said(site, offer(site, terms(), program=program))
        assert (answer.state, answer.program) == ("version", site.program)
    assert "install the same release at both ends" in reasons(site)
    assert not (site.home.root / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"run": "run-2"}, "under their own digest and name"),
        ({"digest": "00" * 32}, "under their own digest and name"),
        ({"terms": {"rounds": 3}}, "values that are none"),
    ],
)
def test_terms_that_do_not_fit_their_offer_are_refused(site, changes, reason):
    assert said(site, offer(site, terms(), **changes)) is None
    assert reason in reasons(site)
    assert not (site.home.root / "runs").exists()


def test_what_a_policy_does_not_allow_is_an_absence_and_told_at_home(site, home):
    policy(home, max_epsilon=1.0)
    found = terms()
    assert said(site, offer(site, found)).state == "preparing"
    site._preparing["run-1"].join()
    assert said(site, offer(site, found)) is None
    assert "max_epsilon" in reasons(site)
    assert spent(home).runs == {}


def test_seeded_noise_is_never_for_a_real_site(site, home):
    found = terms("insecure_test_mode=true")
    said(site, offer(site, found))
    if "run-1" in site._preparing:
        site._preparing["run-1"].join()
    assert said(site, offer(site, found)) is None
    assert "real sites never take part" in reasons(site)
    assert spent(home).runs == {}


def test_a_ledger_that_was_put_back_is_not_used(site, home):
    found = terms()
    assert said(site, offer(site, found, head=f"{10**9}-{'ab' * 32}")).state == "preparing"
    site._preparing["run-1"].join()
    assert said(site, offer(site, found)) is None
    assert spent(home).runs == {}


@pytest.mark.parametrize("data", [b"", b"FLNK", b"\x00" * 100, RoundMessage("other", b"x").to_bytes()])
def test_anything_else_is_an_absence(site, data):
    assert site.answer(data) is None
    assert reasons(site) != "[]"


def test_an_end_while_the_site_prepares_is_no_end(site, monkeypatch):
    """What would be closed is not there yet; it is asked again."""
    from fedimg import client_round

    going, plain = threading.Event(), client_round.join

    def slow(*arguments, **options):
        going.wait(20)
        return plain(*arguments, **options)

    monkeypatch.setattr(client_round, "join", slow)
    found = terms()
    assert said(site, offer(site, found)).state == "preparing"
    assert site.answer(Ending("run-1").to_bytes()) is None
    going.set()
    site._preparing["run-1"].join()
    assert said(site, offer(site, found)).state == "joined"
    assert site.answer(Ending("run-1").to_bytes()) is not None


def test_too_many_open_offers_are_refused(site, home, monkeypatch):
    monkeypatch.setattr("sites.offers._MOST_OPEN", 3)
    policy(home, preapproved_epsilon=0.0)
    for number in range(3):
        assert said(site, offer(site, terms(run=f"run-{number}"))).state == "approval"
    assert said(site, offer(site, terms(run="run-3"))) is None
    assert "one more" in reasons(site)
    begun = time.monotonic()
    assert said(site, offer(site, terms(run="run-1"))).state == "approval"
    assert time.monotonic() - begun < 5
