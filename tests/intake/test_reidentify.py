"""Re-identification: only with the key, only among candidates, and never without a line in the log."""

from __future__ import annotations

import stat

import pytest

from fedimg.crypto.keys import SiteKey
from fedimg.dicom.chain import signed_lines
from fedimg.dicom.pseudonyms import Pseudonyms
from fedimg.dicom.receipts import ReceiptLog
from fedimg.errors import ConfigError, DataError, ReceiptError
from fedimg.home import OutFolder
from fedimg.intake.proof import prove
from fedimg.intake.reidentify import LABEL, reidentify


@pytest.fixture
def listed(tmp_path):
    path = tmp_path / "candidates.csv"
    path.write_text("patient_id,issuer\nMRN1\nmrn2 \nMRN3,HOSPITAL\n")
    return path


def lookups(folder):
    lines = signed_lines(folder.audit, folder.signing_key.public_bytes, LABEL)
    return [body for _, _, body in lines]


def prove_lookups(folder):
    ReceiptLog(folder.receipts, folder.signing_key).close()
    return prove(folder.root).lookups


def test_the_patient_is_found_and_the_look_up_is_on_record(out, key, listed):
    pseudonyms = Pseudonyms(key, "trial")
    (found,) = reidentify(out, "trial", pseudonyms.subject("", "MRN2"), listed, "custodian 4")
    assert found.patient_id == "mrn2 "
    (found,) = reidentify(out, "trial", pseudonyms.subject("HOSPITAL", "MRN3"), listed, "custodian 4")
    assert (found.patient_id, found.issuer) == ("MRN3", "HOSPITAL")
    assert reidentify(out, "trial", pseudonyms.subject("", "MRN9"), listed, "custodian 5") == ()
    noted = lookups(out)
    assert [(line["custodian"], line["candidates"], line["found"]) for line in noted] == [
        ("custodian 4", 3, 1),
        ("custodian 4", 3, 1),
        ("custodian 5", 3, 0),
    ]
    assert prove_lookups(out) == 3
    assert b"MRN" not in out.audit.read_bytes().upper()
    assert stat.S_IMODE(out.audit.stat().st_mode) == 0o600


def test_another_key_or_project_finds_nobody(out, key, listed, tmp_path):
    pseudonym = Pseudonyms(key, "trial").subject("", "MRN1")
    other = OutFolder.create(tmp_path / "other", SiteKey.from_bytes(b"z" * 32), "trial")
    assert reidentify(other, "trial", pseudonym, listed, "c") == ()
    assert reidentify(out, "another", pseudonym, listed, "c") == ()


def test_a_look_up_that_cannot_be_written_down_tells_nothing(out, key, listed, monkeypatch):
    from fedimg.dicom import chain

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chain.ChainLog, "write", full)
    with pytest.raises(OSError, match="No space left"):
        reidentify(out, "trial", Pseudonyms(key, "trial").subject("", "MRN1"), listed, "c")


def test_a_changed_log_is_found_before_anything_is_told(out, key, listed):
    pseudonym = Pseudonyms(key, "trial").subject("", "MRN1")
    reidentify(out, "trial", pseudonym, listed, "c")
    out.audit.write_bytes(out.audit.read_bytes().replace(b'"found":1', b'"found":0'))
    with pytest.raises(ReceiptError):
        reidentify(out, "trial", pseudonym, listed, "c")


@pytest.mark.parametrize(
    ("pseudonym", "custodian", "expected"),
    [("FI12", "c", "a pseudonym"), ("FI" + "0" * 20, " ", "who looks it up")],
)
def test_what_a_look_up_needs_is_said(out, listed, pseudonym, custodian, expected):
    with pytest.raises((ConfigError, DataError), match=expected):
        reidentify(out, "trial", pseudonym, listed, custodian)
    assert not out.audit.exists()


def test_a_list_that_cannot_be_read_is_said(out, tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "a.csv", tmp_path / "none.csv"):
        with pytest.raises(DataError, match="a CSV file of patient numbers"):
            reidentify(out, "trial", "FI" + "0" * 20, path, "c")
