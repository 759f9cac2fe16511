"""Digests that anyone can recompute, and commitments that only the site can open."""

import copy
import stat
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fedimg
from fedimg import canonical, record
from fedimg.errors import DataError, LedgerError
from fedimg.privacy.ledger import Ledger
from fedimg.record import code
from tests.record.conftest import RUN, facts

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_canonical_bytes_read_back_to_the_same_bytes(value):
    try:
        data = canonical.encode(value)
    except UnicodeEncodeError:  # lone surrogates have no bytes
        return
    assert canonical.encode(canonical.decode(data, "test")) == data


def test_the_code_digest_is_what_the_documented_command_prints():
    folder = Path(fedimg.__file__).parent.parent
    command = "find fedimg -name '*.py' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    told = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert code.installed()["digest"] == told.split()[0]


def test_one_changed_byte_or_name_changes_the_code_digest(tmp_path):
    package = tmp_path / "p"
    package.mkdir()
    (package / "a.py").write_text("x = 1\n")
    first = code.digest_of(package)
    (package / "a.py").write_text("x = 2\n")
    second = code.digest_of(package)
    (package / "a.py").rename(package / "b.py")
    assert len({first, second, code.digest_of(package)}) == 3


def test_weights_are_named_whatever_their_order_and_layout():
    a, b = torch.randn(3, 4), torch.arange(5)
    same = record.weights_digest({"a": a, "b": b})
    assert record.weights_digest({"b": b.clone(), "a": a.t().contiguous().t()}) == same
    for other in ({"a": a, "c": b}, {"a": a.t(), "b": b}, {"a": a.double(), "b": b}, {"a": a}):
        assert record.weights_digest(other) != same


def test_secrets_are_fresh_stay_at_the_site_and_are_not_in_the_record(finished):
    home = finished.homes["alder"]
    files = list((home.root / "commitments").iterdir())
    assert files
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_bytes().hex().encode() not in finished.data
    assert stat.S_IMODE((home.root / "commitments").stat().st_mode) == 0o700
    known = {part["part"]["data"]["commitment"] for part in finished.parts}
    again = record.signed_part(home, facts("alder", home, None))["part"]["data"]
    assert again["commitment"] not in known  # the same data, another secret
    (home.root / "commitments" / f"{again['secret']}.key").unlink()


def test_the_site_opens_its_commitments_and_nobody_else_can(finished):
    part = finished.parts[0]["part"]
    opening = record.opening(finished.homes["alder"], part)
    found = record.verify(finished.data, finished.evidence(openings=(opening,)))
    assert found.passed, found.failures
    assert {"alder: opening of data", "alder: opening of ledger", "alder: opening: ledger extract"} <= {
        check.name for check in found.checks
    }
    assert record.Opening.from_json(opening.to_json()) == opening
    lie = copy.deepcopy(opening.to_json()) | {"ledger": "00" * 32, "receipts": "11" * 32}
    wrong = record.verify(finished.data, finished.evidence(openings=(record.Opening.from_json(lie),)))
    assert {check.name for check in wrong.failures} == {
        "alder: opening of data",
        "alder: opening of ledger",
        "alder: opening: ledger extract",
    }
    with pytest.raises(DataError):
        record.opening(finished.homes["birch"], part)  # birch does not have alder's secret


def test_a_commitment_is_to_the_ledger_of_that_time_also_when_it_has_grown(finished, site_at):
    home, plan = site_at("elm")
    part = record.signed_part(home, facts("elm", home, plan))["part"]
    ledger = Ledger.open(home.ledger, home.signing_key)
    ledger.close(RUN)
    ledger.disconnect()
    assert record.opening(home, part).opens(part["data"]["commitment"], part["ledger"]["commitment"]) == (
        True,
        True,
    )
    part["ledger"]["commitment"] = "00" * 32
    with pytest.raises(LedgerError):
        record.opening(home, part)


@pytest.mark.parametrize(
    "value", [None, [], {}, {"format": "fedimg-opening-1", "secret": "zz"}, {"secret": "00"}]
)
def test_what_is_no_opening_is_refused(value):
    with pytest.raises(DataError, match="opening"):
        record.Opening.from_json(value)
