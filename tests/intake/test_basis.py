"""One folder, one project, one profile, one key: at intake and at admission."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedimg.errors import ConfigError, ReceiptError
from fedimg.home import SiteHome
from fedimg.intake import MeasuredIntakeConfig, admission, admitted, run_intake
from fedimg.intake.basis import Basis
from fedimg.values import SourceItem


@pytest.fixture
def home(tmp_path):
    return SiteHome.create(tmp_path / "home", simulated=False)


@pytest.fixture
def items(slice_of):
    return [SourceItem(slice_of(seed), "dicom", label=0) for seed in range(3)]


@pytest.mark.parametrize("other", [{"project": "another"}, {"profile": "ps315-basic"}])
def test_a_home_takes_nothing_under_another_project_or_profile(home, items, config, other):
    run_intake(items[:2], home, config)
    before = home.receipts.read_bytes()
    with pytest.raises(ConfigError, match="the profile, project and key that this folder was filled under"):
        run_intake(items, home, replace(config, **other))
    assert home.receipts.read_bytes() == before
    assert len(admitted(home)) == 2


def test_what_was_only_held_back_binds_nothing(home, slice_of, config):
    unlabelled = [SourceItem(slice_of(0), "dicom")]
    run_intake(unlabelled, home, config)
    result = run_intake([SourceItem(slice_of(0), "dicom", label=1)], home, replace(config, project="another"))
    assert result.released == 1


def test_only_the_profile_that_the_terms_allow_is_admitted(home, items, config):
    run_intake(items, home, config)
    assert len(admission(home, "train").records) == 3
    found = admission(home, "ps315-basic")
    assert found.records == ()
    assert {error.found for error in found.refused} == {"another profile"}


def test_receipts_of_two_projects_in_one_home_admit_nothing(home, items, config, monkeypatch):
    from fedimg.intake import basis

    run_intake(items[:1], home, config)
    monkeypatch.setattr(basis.Basis, "check", lambda *_: None)  # an intake that did not look
    run_intake(items[1:], home, replace(config, project="another"))
    with pytest.raises(ReceiptError, match="released files of one profile, project and key"):
        admission(home)


def test_one_changed_byte_is_refused_for_training(home, items, config):
    result = run_intake(items, home, config)
    path = home.released / result.records[0].path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    found = admission(home)
    assert len(found.records) == 2
    assert [error.found for error in found.refused] == ["other bytes than were released"]


def test_receipts_put_back_admit_nothing_on_this_machine(home, items, config):
    run_intake(items[:2], home, config)
    earlier = {path: path.read_bytes() for path in (home.receipts, home.root / "receipts.head")}
    run_intake(items, home, config)
    for path, content in earlier.items():
        path.write_bytes(content)
    with pytest.raises(ReceiptError, match="put back to an earlier state"):
        admission(home)
    for path in earlier:
        path.unlink()
    with pytest.raises(ReceiptError):
        admission(home)


def test_a_folder_whose_links_were_made_otherwise_takes_nothing_more_in_and_still_trains(home, items, config):
    def named_otherwise(self, outcome, *arguments):
        made = basis_receipt(self, outcome, *arguments)
        return replace(made, origin={name: value for name, value in made.origin.items() if name != "links"})

    basis_receipt = Basis.receipt
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Basis, "receipt", named_otherwise)
        run_intake(items, home, config)
    with pytest.raises(ConfigError, match="named in another way"):
        run_intake(items, home, config)
    assert len(admission(home).records) == 3


def test_the_receipt_names_project_and_key_without_the_key(home, items):
    from fedimg.dicom import receipts

    run_intake(items[:1], home, MeasuredIntakeConfig())
    (receipt,) = receipts.read(home.receipts, home.signing_key.public_bytes)
    assert receipt.origin["project"] == "fedimg"
    assert len(receipt.origin["key"]) == 16
    assert receipt.origin["key"] not in home.site_key.to_bytes().hex()
