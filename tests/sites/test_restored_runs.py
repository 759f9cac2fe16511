"""What a restored home answers a coordinator: nothing in a run of before, and a person looks at each one after."""

import shutil
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import torch

from fedimg import client_round
from fedimg.client_round import Terms
from fedimg.config import agreed
from fedimg.crypto.sealing import SealingKey
from fedimg.errors import LedgerError, PolicyRefused
from fedimg.federation.conversation import Ending, Joining, Offer
from fedimg.home import SiteHome
from fedimg.imaging.config import ImagingConfig
from fedimg.models import ModelConfig
from fedimg.operator_log import read_operator_log
from fedimg.privacy.ledger import Ledger, LedgerTerms
from fedimg.privacy.policy import SitePolicy
from fedimg.privacy.request import PrivacyRequest
from fedimg.training import LocalTraining
from sites.attendance import Attendance, Bench
from sites.backup import back_up
from sites.offers import Offers
from sites.restoring import restore
from sites.serving import attend
from sites.settings import SiteSettings

KEY = SealingKey.from_bytes(bytes([1]) * 32)
NOW = datetime.now(UTC)
BEFORE, BETWEEN, AFTER = (f"{NOW + timedelta(days=n):%Y%m%d-%H%M%S}-abcd" for n in (-3, -1, 1))
POLICY = (
    "declared_patients: 100\npreapproved_epsilon: 10.0\nrequire_battery: false\nallow_non_private: true\n"
)


def terms_of(run):
    return Terms(
        run_id=run,
        rounds=2,
        model=ModelConfig(name="cnn", width=4, image_size=(16, 16)),
        training=LocalTraining(),
        imaging=ImagingConfig(image_size=(16, 16)),
        privacy=PrivacyRequest(rounds=2, epsilon=2.0, delta=1e-5, sampling_rate=0.2, engine="vmap"),
        deid_profile="train",
        validation_fraction=0.2,
        bins=8,
        seed=0,
    )


@pytest.fixture
def home(tmp_path):
    """A site that was offered a run, was backed up two days ago, and has been restored now."""
    made = SiteHome.create(tmp_path / "home", simulated=False)
    made.policy.write_text(POLICY)
    Ledger.create(made.ledger, made.signing_key, LedgerTerms(4.0, 1e-5, 8)).disconnect()
    Offers(made).keep(BEFORE, terms_of(BEFORE))
    Offers(made).join(BEFORE, "00" * 32)
    back_up(made, tmp_path / "b", KEY.public_bytes, now=NOW - timedelta(days=2))
    shutil.rmtree(made.root)
    restore(tmp_path / "b", made.root, KEY, now=NOW)
    return SiteHome.open(made.root)


@pytest.fixture
def offered(home):
    attendance = Attendance(home, "north", Bench(torch.device("cpu")))

    def offer(run):
        terms = terms_of(run)
        data = attendance.answer(Offer(run, attendance.program, agreed.plain(terms), terms.digest).to_bytes())
        return None if data is None else Joining.from_bytes(data)

    yield offer, attendance
    attendance.close()


@pytest.mark.parametrize("run", [BEFORE, BETWEEN], ids=["before the backup", "after it"])
def test_a_run_of_before_is_declined_and_told_to_the_operator_once(home, offered, run):
    offer, attendance = offered
    assert offer(run) is None
    assert offer(run) is None
    told = [line for line in read_operator_log(home.root) if "restored" in str(line.get("expected"))]
    assert len(told) == 1
    for _ in range(2):
        assert attendance.answer(Ending(run).to_bytes()) is None
    assert len(read_operator_log(home.root)) == 1  # the same reason is told once


@pytest.mark.parametrize("mode", ["per_site", "none"])
def test_the_round_itself_refuses_it_too_with_privacy_and_without(home, mode):
    """Without privacy no ledger stands in the way, and a second input to a secure sum would open it."""
    privacy = replace(terms_of(BETWEEN).privacy, mode=mode)
    with pytest.raises(PolicyRefused, match="after this home was restored"):
        client_round.join(home, "north", replace(terms_of(BETWEEN), privacy=privacy), torch.device("cpu"))


def test_a_later_run_waits_for_a_person_although_the_policy_agrees_beforehand(home, offered):
    offer, attendance = offered
    assert SitePolicy.load(home.policy).preapproved_epsilon == 10
    assert offer(AFTER).state == "approval"
    assert {one.run: one.state for one in attendance.offers.all()} == {BEFORE: "closed", AFTER: "approval"}
    with pytest.raises(PolicyRefused, match="after this home was restored"):
        attendance.offers.approve(BEFORE, "00" * 32)
    attendance.offers.approve(AFTER, attendance.program.digest)
    assert attendance.offers.agreed(
        AFTER, terms_of(AFTER), SitePolicy.load(home.policy), attendance.program.digest
    )


def test_no_run_is_joined_and_no_process_starts_before_the_ledger_is_recovered(home):
    with pytest.raises(LedgerError, match="fedimg ledger recover"):
        client_round.join(home, "north", terms_of(AFTER), torch.device("cpu"))
    with pytest.raises(LedgerError, match="fedimg ledger recover"):
        attend(SiteSettings(str(home.root)), threading.Event(), lambda *_a, **_k: None)


def test_a_home_that_was_never_restored_goes_by_its_policy(tmp_path):
    made = SiteHome.create(tmp_path / "other", simulated=False)
    made.policy.write_text(POLICY)
    assert Offers(made).agreed(BEFORE, terms_of(BEFORE), SitePolicy.load(made.policy), "00" * 32)
