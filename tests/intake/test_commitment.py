"""A release record's commitment: it opens to the receipts that stood then, and says nothing to others."""

from __future__ import annotations

import hashlib
import json

import pytest

from fedimg.cli import main
from fedimg.crypto.keys import SiteKey
from fedimg.dicom.receipts import head_path
from fedimg.errors import ReceiptError
from fedimg.home import OutFolder, SiteHome
from fedimg.intake import FolderInputs, commitment, run_intake
from fedimg.intake.commitment import opened


def test_it_opens_to_the_receipts_that_stood_then(source, slice_of, out, config):
    nothing = commitment(out, "run-1")
    slice_of(0)
    run_intake(FolderInputs(source), out, config)
    one = commitment(out, "run-1")
    slice_of(1)
    run_intake(FolderInputs(source), out, config)
    two = commitment(out, "run-1")
    assert [opened(out, "run-1", c) for c in (nothing, one, two)] == [0, 1, 2]
    assert opened(out, "run-2", one) is None
    assert opened(out, "run-1", "0" * 64) is None


def test_it_says_nothing_without_the_key(source, slice_of, out, config, tmp_path):
    """Other runs and other keys give unrelated values, and neither root nor hash stands in it."""
    slice_of(0)
    run_intake(FolderInputs(source), out, config)
    head = json.loads(head_path(out.receipts).read_bytes())
    other = OutFolder(out.root, SiteKey.from_bytes(b"x" * 32), out.signing_key, out.identity, out.project)
    seen = {
        commitment(out, "run-1"),
        commitment(out, "run-2"),
        commitment(other, "run-1"),
        head["last"],
        head["root"],
    }
    seen.add(hashlib.sha256(bytes.fromhex(head["last"])).hexdigest())
    assert len(seen) == 6


def test_a_head_that_another_signed_is_refused(source, slice_of, out, config):
    slice_of(0)
    run_intake(FolderInputs(source), out, config)
    head = json.loads(head_path(out.receipts).read_bytes())
    head_path(out.receipts).write_text(json.dumps(head | {"lines": 7}))
    with pytest.raises(ReceiptError):
        commitment(out, "run-1")


def test_an_auditor_at_the_site_opens_it(source, slice_of, tmp_path, config, capsys):
    home = SiteHome.create(tmp_path / "home", simulated=True)
    slice_of(0)
    run_intake(FolderInputs(source), home, config)
    made = commitment(home, "run-1")
    slice_of(1)
    run_intake(FolderInputs(source), home, config)
    verify = ["deidentify", "verify", str(home.root), "--run", "run-1"]
    assert main([*verify, "--commitment", made]) == 0
    assert "run run-1 was about the first 1 of them" in capsys.readouterr().out
    assert main([*verify, "--commitment", made, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["committed"] == 1
    assert main([*verify, "--commitment", "ab" * 32]) == 4
    assert main(verify) == 2
