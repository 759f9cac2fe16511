"""Released studies for a recipient: only with a receipt that holds, only for a named key, and written down first."""

import json
import shutil

import numpy as np
import pydicom
import pytest

from fedimg.archive import written_public_key
from fedimg.cli import main
from fedimg.crypto.keys import SigningKey, SiteKey
from fedimg.crypto.sealing import SealingKey
from fedimg.dicom.authoring import write_image
from fedimg.errors import ConfigError, DataError, PolicyRefused, ReceiptError
from fedimg.home import OutFolder, SiteHome
from fedimg.intake import IntakeConfig, MeasuredIntakeConfig, run_intake
from fedimg.intake.folder import FolderInputs
from fedimg.operator_log import read_operator_log
from fedimg.privacy.policy import SitePolicy
from fedimg.values import SourceItem
from sites import sharing
from sites.restoring import restore
from sites.sharing import Recipient, seal, shared, unseal

KEY, OTHER = (SealingKey.from_bytes(bytes([number]) * 32) for number in (1, 2))
TO = Recipient("aalen", KEY.public_bytes)
ALLOWED = SitePolicy(100, share_with=(written_public_key(KEY.public_bytes),))
NUMBER, NAME = "MRN5550123", "QUIRRELL^ANNABETH"


def image(folder, seed, *, modality="CR", body="CHEST", study="1"):
    wave = 1000 + 300 * np.sin(np.add.outer(np.arange(32), np.arange(32)) / 5)
    pixels = (wave + np.random.default_rng(seed).normal(0, 5, wave.shape)).astype(np.uint16)
    known = {
        "PatientID": NUMBER,
        "PatientName": NAME,
        "BodyPartExamined": body,
        "StudyInstanceUID": f"1.2.3.{study}",
    }
    path = folder / f"{seed}.dcm"
    write_image(path, modality=modality, pixels=pixels, attributes=known)
    return SourceItem(path, "dicom", label=seed % 2)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A home with four images of one patient in two studies."""
    folder = tmp_path_factory.mktemp("filled")
    home = SiteHome.create(folder / "home", simulated=True)
    items = [image(folder, seed, study=str(1 + seed // 3)) for seed in range(4)]
    assert run_intake(items, home, IntakeConfig(project="trial")).released == 4
    return home.root


@pytest.fixture
def home(filled, tmp_path):
    return SiteHome.open(shutil.copytree(filled, tmp_path / "home"))


def released(root):
    return {p.relative_to(root / "released").as_posix(): p for p in (root / "released").rglob("*.dcm")}


def tree(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_recipient_gets_the_released_bytes_and_who_sent_them(home, tmp_path):
    written = seal(home, ALLOWED, tmp_path / "x", TO)
    sender = home.signing_key.public_bytes.hex()
    received = unseal(tmp_path / "x", tmp_path / "out", KEY, sender)
    found = tree(tmp_path / "out")
    facts = json.loads(found.pop("share.json"))
    assert found == {name: path.read_bytes() for name, path in released(home.root).items()}
    assert (written.files, received.files, received.sender) == (4, 4, sender)
    assert (facts["recipient"], facts["profile"]["name"], facts["sender"]) == ("aalen", "train", sender)


def test_nothing_of_the_patient_is_in_it(home, tmp_path):
    seal(home, ALLOWED, tmp_path / "x", TO)
    unseal(tmp_path / "x", tmp_path / "out", KEY)
    for name, data in tree(tmp_path / "out").items():
        assert NUMBER.encode() not in data
        assert b"QUIRRELL" not in data.upper()
        assert "5550123" not in name


def test_studies_are_chosen_by_the_uid_that_stands_in_their_files(home, tmp_path):
    uid = {pydicom.dcmread(path).StudyInstanceUID for path in released(home.root).values()}
    assert len(uid) == 2
    chosen = min(uid)
    expected = {
        n for n, path in released(home.root).items() if pydicom.dcmread(path).StudyInstanceUID == chosen
    }
    seal(home, ALLOWED, tmp_path / "x", TO, [chosen])
    unseal(tmp_path / "x", tmp_path / "out", KEY)
    assert set(tree(tmp_path / "out")) - {"share.json"} == expected
    with pytest.raises(DataError, match="1 that no released file has"):
        seal(home, ALLOWED, tmp_path / "y", TO, [chosen, "2.25.1"])
    assert not (tmp_path / "y").exists()


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("keys", [(), (written_public_key(OTHER.public_bytes),)])
def test_a_key_that_the_policy_does_not_name_gets_nothing_and_leaves_no_line(home, tmp_path, keys):
    with pytest.raises(PolicyRefused, match="share_with"):
        seal(home, SitePolicy(100, share_with=keys), tmp_path / "x", TO)
    assert not (tmp_path / "x").exists()
    assert list(shared(home.root, home.signing_key.public_bytes)) == []


@pytest.mark.parametrize("key", ["", "x25519:12", "x25519:" + "G" * 64, "*", KEY.public_bytes.hex()])
def test_a_policy_names_whole_keys(key):
    with pytest.raises(ConfigError, match="share_with"):
        SitePolicy.from_mapping({"declared_patients": 100, "share_with": [key]})


def test_one_changed_byte_refuses_all_of_it(home, tmp_path):
    path = sorted(released(home.root).values())[2]
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ReceiptError, match="other bytes than were released"):
        seal(home, ALLOWED, tmp_path / "x", TO)
    path.unlink()
    with pytest.raises(ReceiptError, match="no such file"):
        seal(home, ALLOWED, tmp_path / "x", TO)
    path.symlink_to(min(released(home.root).values()))
    with pytest.raises(ReceiptError, match="a link"):
        seal(home, ALLOWED, tmp_path / "x", TO)
    assert not (tmp_path / "x").exists()
    assert list(shared(home.root, home.signing_key.public_bytes)) == []


def test_receipts_that_do_not_verify_refuse_everything(home, tmp_path):
    text = home.receipts.read_text()
    home.receipts.write_text(text.replace('"released"', '"ReleaseD"', 1))
    with pytest.raises(ReceiptError):
        seal(home, ALLOWED, tmp_path / "x", TO)
    home.receipts.write_text(text)
    seal(home, ALLOWED, tmp_path / "x", TO)


def test_a_file_without_a_receipt_is_not_shared(home, tmp_path):
    path = min(released(home.root).values())
    (path.parent / "2.25.7.dcm").write_bytes(path.read_bytes())
    assert seal(home, ALLOWED, tmp_path / "x", TO).files == 4


def test_a_file_that_changes_while_it_is_sealed_is_refused(home, tmp_path, monkeypatch):
    real = sharing.write

    def changed_before(*arguments):
        path = min(released(home.root).values())
        path.write_bytes(path.read_bytes()[::-1])
        return real(*arguments)

    monkeypatch.setattr(sharing, "write", changed_before)
    with pytest.raises(DataError, match="one that changed"):
        seal(home, ALLOWED, tmp_path / "x", TO)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("body", ["HEAD", ""])
def test_a_head_whose_voxels_were_to_stay_here_does_not_leave(tmp_path, body):
    """Under `train` heads are released for training at the site; CT of unknown size counts as one."""
    home = SiteHome.create(tmp_path / "home", simulated=True)
    items = [image(tmp_path, 1), image(tmp_path, 2, modality="CT", body=body, study="2")]
    assert run_intake(items, home, IntakeConfig(project="trial")).released == 2
    with pytest.raises(ReceiptError, match="a head, let through"):
        seal(home, ALLOWED, tmp_path / "x", TO)
    (own,) = {
        pydicom.dcmread(path).StudyInstanceUID
        for path in released(home.root).values()
        if pydicom.dcmread(path).Modality == "CR"
    }
    assert seal(home, ALLOWED, tmp_path / "x", TO, [own]).files == 1


def test_a_release_whose_pixels_were_not_proven_does_not_leave(tmp_path):
    home = SiteHome.create(tmp_path / "home", simulated=True)
    assert run_intake([image(tmp_path, 1)], home, MeasuredIntakeConfig(project="trial")).released == 1
    with pytest.raises(ReceiptError, match="proven free of text"):
        seal(home, ALLOWED, tmp_path / "x", TO)


def test_an_empty_home_shares_nothing(tmp_path):
    home = SiteHome.create(tmp_path / "home", simulated=True)
    with pytest.raises(DataError, match="released files to share"):
        seal(home, ALLOWED, tmp_path / "x", TO)


# ---------------------------------------------------------------------------------------------------- the log


def test_the_log_says_for_whom_when_and_how_many_before_the_file_is_there(home, tmp_path):
    seal(home, ALLOWED, tmp_path / "x", TO)
    with pytest.raises(DataError):
        seal(home, ALLOWED, tmp_path / "x", TO)  # the name is taken: noted all the same
    first, second = shared(home.root, home.signing_key.public_bytes)
    assert (first["recipient"], first["key"]) == ("aalen", written_public_key(KEY.public_bytes))
    assert (first["files"], first["studies"], second["files"]) == (4, 2, 4)
    told = read_operator_log(home.root)[-1]
    assert (told["step"], told["found"]) == ("sharing", f"4 released files for aalen, key {first['key']}")
    path = sharing.log_path(home.root)
    path.write_text(path.read_text().replace("aalen", "basel", 1))
    with pytest.raises(ReceiptError):
        list(shared(home.root, home.signing_key.public_bytes))
    with pytest.raises(ReceiptError):  # and nothing more is shared over it
        seal(home, ALLOWED, tmp_path / "z", TO)
    assert not (tmp_path / "z").exists()


# ------------------------------------------------------------------------------------------------- the recipient


def test_another_key_sender_or_purpose_opens_nothing(home, tmp_path):
    seal(home, ALLOWED, tmp_path / "x", TO)
    wrong = SigningKey.from_bytes(bytes(32)).public_bytes.hex()
    for key, sender, match in ((OTHER, None, "sealed for this key"), (KEY, wrong, "this site signed")):
        with pytest.raises(DataError, match=match):
            unseal(tmp_path / "x", tmp_path / "out", key, sender)
    with pytest.raises(DataError, match="another purpose"):
        restore(tmp_path / "x", tmp_path / "made", KEY)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="something of that name"):
        unseal(tmp_path / "x", tmp_path / "out", KEY)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.999])
def test_a_cut_or_changed_file_leaves_nothing(home, tmp_path, part):
    seal(home, ALLOWED, tmp_path / "x", TO)
    whole = (tmp_path / "x").read_bytes()
    at = int(part * len(whole))
    for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 128]) + whole[at + 1 :]):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(DataError):
            unseal(tmp_path / "x", tmp_path / "out", KEY)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


# ------------------------------------------------------------------------------------------------- the verbs


@pytest.fixture
def recipient(tmp_path, capsys):
    assert main(["share", "keygen", str(tmp_path / "k"), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_recipients_key_is_secret_and_made_once(tmp_path, recipient, capsys):
    file = tmp_path / "k"
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "k.pub").read_text() == recipient["key"] + "\n"
    before = file.read_bytes()
    assert main(["share", "keygen", str(file)]) == 4
    (tmp_path / "k.pub").unlink()
    assert main(["share", "keygen", str(file)]) == 4
    assert file.read_bytes() == before
    assert not (tmp_path / "k.pub").exists()
    shown = capsys.readouterr()
    assert before.hex() not in shown.out + shown.err
    assert len(recipient["code"]) == 29


def test_seal_and_open_from_the_command_line(home, tmp_path, recipient, capsys):
    home.policy.write_text("declared_patients: 100\n")
    to = ["--to", f"aalen={recipient['public_file']}"]
    assert main(["share", "seal", str(home.root), str(tmp_path / "x"), *to]) == 3
    assert "add the key to share_with" in capsys.readouterr().err
    home.policy.write_text(f"declared_patients: 100\nshare_with: ['{recipient['key']}']\n")
    assert main(["share", "seal", str(home.root), str(tmp_path / "x"), *to, "--json"]) == 0
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert (told["files"], told["code"], told["to"]) == (4, recipient["code"], "aalen")
    assert "patients' data still: pseudonymous, not anonymous" in shown.err
    command = ["share", "open", str(tmp_path / "x"), str(tmp_path / "k"), str(tmp_path / "out"), "--json"]
    assert main([*command, "--from", "00" * 32]) == 4
    capsys.readouterr()
    assert main([*command, "--from", told["sender"]]) == 0
    assert json.loads(capsys.readouterr().out)["checked"] is True
    assert main(["share", "list", str(home.root), "--json"]) == 0
    (line,) = json.loads(capsys.readouterr().out)
    assert line["recipient"] == "aalen"
    assert main(["site", "log", str(home.root)]) == 0
    assert "4 released files for aalen" in capsys.readouterr().out
    assert main(["share", "seal", str(home.root), str(tmp_path / "y"), "--to", "aalen"]) == 2
    assert (
        main(
            ["share", "seal", str(home.root), str(tmp_path / "y"), "--to", f"a b={recipient['public_file']}"]
        )
        == 2
    )


def test_an_output_folder_is_shared_under_the_sites_policy_and_key(tmp_path, recipient, capsys):
    assert main(["deidentify", "keygen", str(tmp_path / "site.key")]) == 0
    key = SiteKey.load(tmp_path / "site.key")
    out = OutFolder.create(tmp_path / "out", key, "trial")
    (tmp_path / "in").mkdir()
    image(tmp_path / "in", 1)
    assert run_intake(FolderInputs(tmp_path / "in"), out, IntakeConfig(project="trial")).released == 1
    (tmp_path / "policy.yaml").write_text(f"declared_patients: 100\nshare_with: ['{recipient['key']}']\n")
    command = [
        "share",
        "seal",
        str(out.root),
        str(tmp_path / "x"),
        "--to",
        f"aalen={recipient['public_file']}",
    ]
    assert main(command) == 2
    more = ["--policy", str(tmp_path / "policy.yaml"), "--site-key", str(tmp_path / "site.key")]
    assert main([*command, *more]) == 0
    assert unseal(tmp_path / "x", tmp_path / "got", SealingKey.load(tmp_path / "k")).files == 1
    capsys.readouterr()
    assert main(["share", "list", str(out.root)]) == 0
    assert "aalen" in capsys.readouterr().out
    assert main(["deidentify", "verify", str(out.root)]) == 0
