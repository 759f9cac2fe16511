"""Two studies at one site: two homes, one identity, one ledger, one record for each patient."""

import json
from dataclasses import replace

import pytest
import torch

from fedimg import client_round, intake, site_data
from fedimg.cli import main
from fedimg.dicom.ledger_keys import LedgerKeys
from fedimg.errors import BudgetExhausted, DataError, LedgerError
from fedimg.home import SiteHome
from fedimg.imaging.config import ImagingConfig
from fedimg.models import ModelConfig
from fedimg.privacy.ledger import Ledger
from fedimg.privacy.request import PrivacyRequest
from fedimg.terms import Terms
from fedimg.training import LocalTraining

TERMS = Terms(
    run_id="first-study",
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


def init(root, *options):
    return main(["site", "init", str(root), "--patients", "100", *options])


@pytest.fixture
def homes(tmp_path, capsys):
    """ε_max = 2.6 at δ = 1e-5 has room for one run of ε = 2, whose Σρ is 0.347 of a budget of 0.347."""
    assert init(tmp_path / "a", "--epsilon-max", "2.6") == 0
    assert init(tmp_path / "b", "--site", str(tmp_path / "a")) == 0
    capsys.readouterr()
    made = SiteHome.open(tmp_path / "a"), SiteHome.open(tmp_path / "b")
    for home in made:
        home.policy.write_text(home.policy.read_text() + "require_battery: false\n")
    return made


def statement(home):
    ledger = Ledger.open(home.ledger, home.signing_key)
    ledger.disconnect()
    return ledger.statement


def test_a_further_home_has_the_sites_keys_and_ledger_and_none_of_its_own(homes):
    first, further = homes
    assert further.ledger == first.root / "ledger.sqlite"
    assert further.signing_key.public_bytes == first.signing_key.public_bytes
    assert not {"site.key", "signing.key", "ledger.sqlite"} & {path.name for path in further.root.iterdir()}
    assert further.policy.parent == further.receipts.parent == further.root != first.root
    assert further.anchor != first.anchor  # each home's receipts are noted apart
    assert LedgerKeys(further.site_key).of("H", "1") == LedgerKeys(first.site_key).of("H", "1")
    assert LedgerKeys(further.site_key).digest == LedgerKeys(first.site_key).digest


def test_a_second_studys_run_that_does_not_fit_is_refused_before_data_is_read(homes, monkeypatch):
    first, further = homes
    client_round.join(first, "a", TERMS, torch.device("cpu")).ledger.disconnect()
    before = statement(further).head

    def read(*_args, **_options):
        raise AssertionError("data was read")

    monkeypatch.setattr(site_data, "load", read)
    monkeypatch.setattr(intake, "admitted", read)
    with pytest.raises(BudgetExhausted, match="in this site's ledger"):
        client_round.join(further, "a", replace(TERMS, run_id="second-study"), torch.device("cpu"))
    assert statement(first).head == before
    assert set(statement(first).runs) == {"first-study"}


def test_one_run_is_not_joined_with_two_homes(homes):
    first, further = homes
    client_round.join(first, "a", TERMS, torch.device("cpu")).ledger.disconnect()
    with pytest.raises(LedgerError, match="reserved without this home's plan"):
        client_round.join(further, "a", TERMS, torch.device("cpu"))


def test_a_patient_has_one_record_and_a_withdrawal_holds_in_both_studies(homes, tmp_path, capsys):
    first, further = homes
    (tmp_path / "list.csv").write_text("PAT-1,H\n")
    key = LedgerKeys(first.site_key).of("H", "PAT-1")
    ledger = Ledger.open(first.ledger, first.signing_key)
    ledger.know([key], LedgerKeys(first.site_key).digest)
    assert main(["ledger", "withdraw", str(further.root), "--patients", str(tmp_path / "list.csv")]) == 0
    assert ledger.withdrawn(ledger.seats([key])).tolist() == [True]
    ledger.disconnect()
    shown = []
    for home in homes:
        capsys.readouterr()
        assert main(["ledger", "show", str(home.root), "--json"]) == 0
        shown.append(json.loads(capsys.readouterr().out))
    assert shown[0] == shown[1]


def test_no_second_ledger_is_opened_by_oversight(homes, tmp_path, capsys):
    assert init(tmp_path / "c") == 4
    said = capsys.readouterr().err
    assert f"add --site {tmp_path / 'a'}" in said
    assert not (tmp_path / "c").exists()
    assert init(tmp_path / "c", "--another-site") == 0
    other = SiteHome.open(tmp_path / "c")
    assert other.ledger.parent == other.root
    assert other.signing_key.public_bytes != homes[0].signing_key.public_bytes


def test_a_site_whose_first_home_is_gone_gets_no_fresh_ledger_in_its_place(homes, tmp_path, capsys):
    first, further = homes
    first.root.rename(tmp_path / "elsewhere")
    with pytest.raises(
        DataError, match=r"the first home of this site, as home.json names it; found none there"
    ):
        SiteHome.open(further.root)
    assert init(first.root) == 4
    assert "one whose home is gone" in capsys.readouterr().err
    assert init(tmp_path / "c", "--site", str(further.root)) == 4
    (tmp_path / "elsewhere").rename(first.root)
    first.ledger.unlink()
    assert init(tmp_path / "c", "--site", str(further.root)) == 3  # and none where the ledger is lost
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("there", ["a link", "another site", "another further home"])
def test_a_reference_is_followed_to_the_very_home_and_no_further(homes, tmp_path, there):
    first, further = homes
    first.root.rename(tmp_path / "moved")
    if there == "a link":
        first.root.symlink_to(tmp_path / "moved")
        found = "a link, or no folder"
    elif there == "another site":
        SiteHome.create(first.root, simulated=False)
        found = "one with another key"
    else:
        SiteHome.create_beside(first.root, SiteHome.open(tmp_path / "moved"))
        found = "a further or simulated one"
    with pytest.raises(DataError, match=f"found {found}"):
        SiteHome.open(further.root)


def test_a_third_home_refers_to_the_first_and_terms_are_not_given_again(homes, tmp_path, capsys):
    first, further = homes
    assert init(tmp_path / "c", "--site", str(further.root)) == 0
    assert SiteHome.open(tmp_path / "c").ledger == first.ledger
    for option in (["--delta", "1e-6"], ["--epsilon-max", "3"]):
        assert init(tmp_path / "d", "--site", str(first.root), *option) == 2
        assert "fixed when it was opened" in capsys.readouterr().err


def test_a_home_that_was_being_made_is_completed(homes, tmp_path):
    first, further = homes
    further.policy.unlink()
    assert init(further.root, "--site", str(first.root)) == 0
    assert further.policy.exists()
    assert init(further.root, "--site", str(first.root)) == 4


def test_more_declared_patients_than_the_ledgers_delta_is_for_are_said(homes, tmp_path, capsys):
    assert (
        main(["site", "init", str(tmp_path / "c"), "--patients", "20000", "--site", str(homes[0].root)]) == 0
    )
    assert "more than 1/(10 · patients) of this study" in capsys.readouterr().err
