"""What verification finds, with the folder's own key and with one known beforehand."""

from __future__ import annotations

import json
import shutil

import pytest

from fedimg.crypto.keys import SiteKey
from fedimg.errors import ConfigError, DataError, ReceiptError
from fedimg.home import OutCard, OutFolder
from fedimg.intake import FolderInputs, run_intake
from fedimg.intake.proof import prove, public_key_of


@pytest.fixture
def filled(source, slice_of, out, config):
    for seed in range(3):
        slice_of(seed)
    run_intake(FolderInputs(source), out, config)
    return out


def first_file(folder):
    return min(path for path in folder.released.rglob("*") if path.is_file())


def test_what_holds_is_counted(filled):
    proof = prove(filled.root, filled.signing_key.public_bytes)
    assert (proof.receipts, proof.released, proof.key_given, proof.anchored) == (3, 3, True, True)
    assert not proof.unfinished
    assert not prove(filled.root).key_given


def test_one_changed_byte_is_found_anywhere_in_a_file(filled):
    path = first_file(filled)
    original = path.read_bytes()
    for at in (0, len(original) // 2, len(original) - 1):
        path.write_bytes(original[:at] + bytes([original[at] ^ 1]) + original[at + 1 :])
        with pytest.raises(ReceiptError, match="found other bytes than were released"):
            prove(filled.root)
    path.write_bytes(original)
    assert prove(filled.root).released == 3


def test_a_folder_signed_anew_by_another_is_found_only_with_the_key_known_beforehand(
    filled, source, config, tmp_path
):
    forged = OutFolder.create(tmp_path / "forged", SiteKey.from_bytes(b"x" * 32), "trial")
    run_intake(FolderInputs(source), forged, config)
    assert prove(forged.root).released == 3
    with pytest.raises(ReceiptError, match="a signature that does not verify"):
        prove(forged.root, filled.signing_key.public_bytes)


def test_receipts_put_back_to_an_earlier_state_are_found_on_this_machine(filled, source, slice_of, config):
    earlier = {name: (filled.root / name).read_bytes() for name in ("receipts.jsonl", "receipts.head")}
    slice_of(3)
    run_intake(FolderInputs(source), filled, config)
    for name, content in earlier.items():
        (filled.root / name).write_bytes(content)
    first_file(filled)
    for act in (lambda: prove(filled.root), lambda: run_intake(FolderInputs(source), filled, config)):
        with pytest.raises(ReceiptError, match="they were put back to an earlier state"):
            act()
    filled.anchor.unlink()  # elsewhere it cannot be seen, and the file without a receipt is
    with pytest.raises(ReceiptError, match="1 files without one"):
        prove(filled.root)


def test_a_machine_that_has_not_seen_the_receipts_says_so(filled):
    filled.anchor.unlink()
    assert not prove(filled.root).anchored


def test_receipted_files_still_in_quarantine_are_an_interrupted_run(filled):
    path = first_file(filled)
    lines = map(json.loads, filled.receipts.read_bytes().splitlines())
    link = next(line["link"] for line in lines if line["output"].endswith(path.name))
    shutil.move(path, filled.quarantine / f"{link}-1.part")
    with pytest.raises(ReceiptError, match="1 still in quarantine, where an interrupted run left them"):
        prove(filled.root)


def test_a_run_that_was_not_finished_is_told(filled):
    (filled.quarantine / "survey.sqlite").write_bytes(b"")
    assert prove(filled.root).unfinished


def test_a_public_key_is_read_from_text_or_file(tmp_path):
    (tmp_path / "site.pub").write_text("ab" * 32 + "\n")
    assert public_key_of("ab" * 32) == public_key_of(str(tmp_path / "site.pub")) == b"\xab" * 32
    for wrong in ("ab", "zz" * 32, str(tmp_path / "none")):
        with pytest.raises(ConfigError, match="a public key of 64 hexadecimal digits"):
            public_key_of(wrong)


def test_an_output_is_opened_with_its_own_key_only(filled, key, tmp_path):
    opened = OutFolder.open(filled.root, key)
    assert opened == filled
    assert opened.signing_key.public_bytes == filled.signing_key.public_bytes
    with pytest.raises(ConfigError, match="expected the key of this output folder; found another one"):
        OutFolder.open(filled.root, SiteKey.from_bytes(b"y" * 32))
    with pytest.raises(DataError, match="an output folder of"):
        OutFolder.open(tmp_path, key)
    with pytest.raises(DataError, match="found one with files in it"):
        OutFolder.create(filled.root, key, "trial")


def test_no_key_lies_in_an_output(filled, key):
    for path in filled.root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert key.to_bytes() not in content
            assert key.to_bytes().hex().encode() not in content
    assert OutCard.read(filled.root).public_key == filled.signing_key.public_bytes.hex()


def test_a_folder_whose_making_was_interrupted_is_made_again(tmp_path, key):
    root = tmp_path / "half"
    (root / "released").mkdir(parents=True)
    (root / "deid.json-new").write_bytes(b"{")
    assert OutFolder.create(root, key, "trial").identity
