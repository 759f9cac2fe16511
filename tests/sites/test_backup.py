"""A home's backup and what is made of it: round trips, refusals, kills, and nothing released twice."""

import json
import shutil
import signal
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from fedimg import shared_site
from fedimg.archive import Archive, Member, write
from fedimg.cli import main
from fedimg.crypto.keys import SigningKey
from fedimg.crypto.sealing import SealingKey
from fedimg.dicom.receipts import ReceiptLog
from fedimg.errors import DataError, LedgerError, PolicyRefused, ReceiptError
from fedimg.home import SiteHome
from fedimg.intake.admission import admission
from fedimg.intake.commitment import history
from fedimg.outbox import Outbox
from fedimg.privacy.ledger import Allowance, Ledger, LedgerTerms
from fedimg.restored import CLOCKS_APART, Restored, check_run
from sites import backup as backing
from sites.backup import LEDGER, PURPOSE, back_up, belongs
from sites.restoring import restore

KEY, OTHER = (SealingKey.from_bytes(bytes([number]) * 32) for number in (1, 2))
NOW = datetime.now(UTC)
OPEN, ENDED = "20260101-000000-aaaa", "20260102-000000-bbbb"
LATER = f"{NOW + timedelta(days=1):%Y%m%d-%H%M%S}-cccc"


@dataclass(frozen=True)
class Plan:
    digest: str = "d" * 64
    allowances: tuple = (Allowance("train", 1.5, 0.1, 10, 2),)


def ledger_of(home):
    return Ledger.open(home.ledger, home.signing_key)


def spent(home, run, releases):
    ledger = ledger_of(home)
    ledger.reserve(run, Plan())
    for _ in range(releases):
        ledger.charge(Plan().digest, "train")
    head, reserved = ledger.head, ledger.last_reserved
    ledger.disconnect()
    return head, reserved


def put(path, text="x"):
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)


@pytest.fixture
def home(tmp_path, capsys):
    """A site that is within one run and has ended another."""
    root = tmp_path / "home"
    assert main(["site", "init", str(root), "--patients", "250"]) == 0
    capsys.readouterr()
    found = SiteHome.open(root)
    spent(found, OPEN, 2)
    put(root / "runs" / OPEN / "offer.json")
    put(root / "runs" / ENDED / "offer.json")
    put(root / "runs" / ENDED / "ended.part", "signed")
    put(root / "plans" / f"{OPEN}.json", "{}")
    put(root / "sums" / OPEN / "train.last", "3\n")
    put(root / "federation" / "node.key", "node")
    put(root / "labels.jsonl", "{}\n")
    put(root / "commitments" / f"{ENDED}-12.key", "secret")
    Outbox(root / "outbox" / OPEN).put(3, "train", "ab" * 32, b"noised")
    with ReceiptLog(found.receipts, found.signing_key) as log:
        assert len(log) == 0
    put(root / "released" / "FI00" / "x.dcm", "pixels")
    put(root / "targets" / ("ab" * 32), "classes of voxels")
    put(root / "cache" / "volume.npy", "decoded")
    put(root / "quarantine" / "look.part", "as it came")
    return found


@pytest.fixture
def lost(home, tmp_path):
    """The backup of a home whose disk is gone."""
    file = tmp_path / "home.sealed"
    back_up(home, file, KEY.public_bytes, now=NOW - timedelta(days=2))
    shutil.rmtree(home.root)
    return file


def tree(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


# --------------------------------------------------------------------------------------------- what is in it


def test_what_cannot_be_made_again_comes_back_and_nothing_else(home, tmp_path):
    before = tree(home.root)
    back_up(home, tmp_path / "b", KEY.public_bytes)
    shutil.rmtree(home.root)
    restore(tmp_path / "b", home.root, KEY)
    after = tree(home.root)
    left_out = ("released/", "targets/", "cache/", "quarantine/", "ledger.sqlite")
    kept = {n for n in before if not n.startswith(left_out) and not n.endswith(".lock")}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert set(after) - kept == {LEDGER, "restored.json"}
    assert {
        "site.key",
        "signing.key",
        "policy.yaml",
        f"sums/{OPEN}/train.last",
        "federation/node.key",
    } <= kept
    modes = {stat.S_IMODE(p.stat().st_mode) for p in home.root.rglob("*") if p.is_file()}
    folders = {stat.S_IMODE(p.stat().st_mode) for p in [home.root, *home.root.rglob("*")] if p.is_dir()}
    assert (modes, folders) == ({0o600}, {0o700})
    assert SiteHome.open(home.root).site_key.to_bytes() == home.site_key.to_bytes()


def test_released_files_come_along_where_they_are_asked_for(home, tmp_path):
    back_up(home, tmp_path / "b", KEY.public_bytes, released=True)
    shutil.rmtree(home.root)
    restore(tmp_path / "b", home.root, KEY)
    assert (home.root / "released" / "FI00" / "x.dcm").read_text() == "pixels"
    assert (home.root / "targets" / ("ab" * 32)).read_text() == "classes of voxels"
    assert not any((home.root / "quarantine").iterdir())


def test_nothing_of_it_shows_and_no_trace_stays_in_the_home(home, tmp_path):
    before = set(tree(home.root))
    back_up(home, tmp_path / "b", KEY.public_bytes)
    data = (tmp_path / "b").read_bytes()
    assert b"policy" not in data
    assert home.site_key.to_bytes() not in data
    assert set(tree(home.root)) - before <= {"receipts.lock", "audit.lock"}


def test_a_ledger_that_is_charged_meanwhile_is_copied_whole(home, tmp_path):
    ledger = ledger_of(home)  # open, with a log beside the file
    ledger.reserve(LATER, Plan())
    made = back_up(home, tmp_path / "b", KEY.public_bytes)
    assert made.head == ledger.head.name
    ledger.charge(Plan().digest, "train")
    ledger.disconnect()


def test_a_ledger_that_does_not_verify_is_not_backed_up(home, tmp_path):
    home.ledger.write_bytes(b"SQLite format 3\0" + bytes(4000))
    with pytest.raises(LedgerError):
        back_up(home, tmp_path / "b", KEY.public_bytes)
    home.ledger.unlink()
    with pytest.raises(LedgerError):
        back_up(home, tmp_path / "b", KEY.public_bytes)
    assert not (tmp_path / "b").exists()


def test_while_an_intake_is_at_work_no_backup_is_made(home, tmp_path):
    with ReceiptLog(home.receipts, home.signing_key), pytest.raises(ReceiptError, match="at work"):
        back_up(home, tmp_path / "b", KEY.public_bytes)
    back_up(home, tmp_path / "b", KEY.public_bytes)


def test_a_backup_is_never_written_over(home, tmp_path):
    (tmp_path / "b").write_text("kept")
    with pytest.raises(DataError):
        back_up(home, tmp_path / "b", KEY.public_bytes)
    assert (tmp_path / "b").read_text() == "kept"


# ------------------------------------------------------------------------------------------------- refusals


def test_a_home_that_exists_is_not_written_over(lost, home):
    home.root.mkdir()
    with pytest.raises(DataError, match="something of that name"):
        restore(lost, home.root, KEY)
    assert not any(home.root.iterdir())


def test_a_second_home_beside_the_one_that_is_there_is_refused(home, tmp_path):
    back_up(home, tmp_path / "b", KEY.public_bytes)
    with pytest.raises(DataError, match="whose home was lost"):
        restore(tmp_path / "b", tmp_path / "second", KEY)
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_cut_or_changed_backup_and_another_key_leave_nothing(lost, home, tmp_path, part):
    whole = lost.read_bytes()
    at = min(int(part * len(whole)), len(whole) - 1)
    changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    for data, key in ((whole[:at], KEY), (changed, KEY), (whole, OTHER)):
        lost.write_bytes(data)
        with pytest.raises(DataError):
            restore(lost, home.root, key)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home.sealed"]


def test_another_sites_backup_is_refused_where_the_key_is_named(lost, home):
    with pytest.raises(DataError, match="this site signed"):
        restore(lost, home.root, KEY, sender="00" * 32)
    restore(lost, home.root, KEY, sender=home.signing_key.public_bytes.hex())


def forged(home, tmp_path, change, signer=None, **facts):
    """A backup whose maker can sign: the site itself, or somebody who knows the public key."""
    parts = tmp_path / "parts"
    parts.mkdir(exist_ok=True)
    back_up(home, tmp_path / "sound", KEY.public_bytes)
    with Archive.open(tmp_path / "sound", KEY, PURPOSE, tmp_path) as archive:
        archive.extract(parts, belongs)
    change(parts)
    names = sorted(
        (p.relative_to(parts).as_posix() for p in parts.rglob("*") if p.is_file()), key=lambda n: n.split("/")
    )
    told = {name: value for name, value in archive.facts.items() if name != "sender"} | facts
    members = [Member(name, parts, name) for name in names]
    key = signer or home.signing_key
    write(tmp_path / "forged", KEY.public_bytes, PURPOSE, told, key, members, tmp_path)
    shutil.rmtree(home.root)
    return tmp_path / "forged"


CHANGES = {
    "a file that no home has": lambda p: put(p / "attend.lock"),
    "a cache": lambda p: put(p / "cache" / "x"),
    "a ledger in use": lambda p: (p / LEDGER).rename(p / "ledger.sqlite"),
    "no ledger": lambda p: (p / LEDGER).unlink(),
    "a ledger that does not verify": lambda p: (p / LEDGER).write_bytes((p / LEDGER).read_bytes()[:-5000]),
    "no marker": lambda p: (p / "home.json").unlink(),
    "receipts without their head": lambda p: (p / "receipts.head").unlink(),
    "a further home's marker": lambda p: put(
        p / "home.json", json.dumps({"simulated": False, "version": 1, "site": {"home": "/x", "key": "00"}})
    ),
    "another key": lambda p: (p / "signing.key").write_bytes(bytes(32)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_backup_with_something_else_in_it_is_refused(home, tmp_path, change):
    file = forged(home, tmp_path, CHANGES[change])
    with pytest.raises((DataError, LedgerError)):
        restore(file, home.root, KEY)
    assert not home.root.exists()
    assert not list(tmp_path.glob(".home.*"))


def test_a_backup_that_somebody_else_signed_is_refused(home, tmp_path):
    file = forged(home, tmp_path, lambda _p: None, signer=SigningKey.from_bytes(bytes(32)))
    with pytest.raises(DataError, match="own key signed"):
        restore(file, home.root, KEY)


@pytest.mark.parametrize("facts", [{"kind": "share"}, {"first": False}, {"simulated": True}, {"made": 3}])
def test_facts_that_are_not_the_homes_are_refused(home, tmp_path, facts):
    file = forged(home, tmp_path, lambda _p: None, **facts)
    with pytest.raises(DataError):
        restore(file, home.root, KEY)


# -------------------------------------------------------------------------------- nothing is released twice


def test_a_restored_ledger_is_refused_until_it_is_recovered_with_the_coordinators_head(
    home, tmp_path, capsys
):
    back_up(home, tmp_path / "b", KEY.public_bytes)
    head, reserved = spent(home, OPEN, 3)  # after the backup, and the coordinator has seen it
    shutil.rmtree(home.root)
    found = restore(tmp_path / "b", home.root, KEY)
    again = SiteHome.open(home.root)
    with pytest.raises(LedgerError, match="fedimg ledger recover"):
        ledger_of(again)
    assert main(["ledger", "show", str(home.root)]) == 3
    assert "the older one of a restored home" in capsys.readouterr().err
    # nor is another one opened beside it
    assert main(["site", "init", str(home.root), "--patients", "250"]) == 4
    with pytest.raises(LedgerError, match="fedimg ledger recover"):
        Ledger.create(again.ledger, again.signing_key, LedgerTerms(10.0, 1e-5, 8))
    command = ["ledger", "recover", str(home.root), "--backup", str(found.ledger), "--head", head.name]
    assert main([*command, "--reserved", str(reserved)]) == 0
    statement = ledger_of(again).statement
    # all that was reserved counts as spent: ten releases and two retries
    assert statement.runs[OPEN].charged == {"train": 12}
    assert statement.runs[OPEN].closed
    assert statement.head.sequence > head.sequence


def test_a_recovery_with_a_head_of_another_history_is_refused(home, tmp_path):
    back_up(home, tmp_path / "b", KEY.public_bytes)
    shutil.rmtree(home.root)
    found = restore(tmp_path / "b", home.root, KEY)
    command = ["ledger", "recover", str(home.root), "--backup", str(found.ledger), "--head", f"1-{'00' * 32}"]
    assert main(command) == 3
    with pytest.raises(LedgerError, match="fedimg ledger recover"):
        ledger_of(SiteHome.open(home.root))


def test_every_run_that_was_open_is_closed_for_the_restored_home(lost, home):
    found = restore(lost, home.root, KEY, now=NOW)
    assert found.closed == (OPEN,)
    for run in (OPEN, ENDED, "20990101-000000", "run-1"):
        with pytest.raises(PolicyRefused, match="after this home was restored"):
            check_run(home.root, run)
    check_run(home.root, LATER)


def test_a_run_that_was_begun_between_backup_and_loss_is_closed_too(lost, home):
    """The backup does not know it; its name says that it is older than the restoring."""
    restore(lost, home.root, KEY, now=NOW)
    for seconds, refused in (
        (-86400, True),
        (0, True),
        (CLOCKS_APART.seconds, True),
        (CLOCKS_APART.seconds + 2, False),
    ):
        run = f"{NOW + timedelta(seconds=seconds):%Y%m%d-%H%M%S}-12ab"
        assert Restored.read(home.root).is_over(run) is refused


def test_a_home_that_is_restored_twice_forgets_no_closed_run(home, tmp_path):
    back_up(home, tmp_path / "one", KEY.public_bytes)
    shutil.rmtree(home.root)
    restore(tmp_path / "one", home.root, KEY)
    for folder in ("runs", "sums", "outbox", "plans"):
        shutil.rmtree(home.root / folder)
    back_up(
        SiteHome.open(home.root), tmp_path / "two", KEY.public_bytes
    )  # of a home that is not recovered yet
    shutil.rmtree(home.root)
    assert restore(tmp_path / "two", home.root, KEY).closed == (OPEN,)
    with pytest.raises(LedgerError, match="fedimg ledger recover"):
        ledger_of(SiteHome.open(home.root))


def test_a_note_that_does_not_parse_refuses_every_run(lost, home):
    restore(lost, home.root, KEY)
    (home.root / "restored.json").write_text("{}")
    with pytest.raises(DataError, match="restored home"):
        check_run(home.root, LATER)


def test_receipts_go_on_from_the_backup_although_this_machine_has_seen_more(home, tmp_path):
    assert history(home) == history(home)
    back_up(home, tmp_path / "b", KEY.public_bytes)
    home.anchor.parent.mkdir(parents=True, exist_ok=True)
    home.anchor.write_text(json.dumps({"lines": 5, "last": "00" * 32}))
    shutil.rmtree(home.root)
    restore(tmp_path / "b", home.root, KEY)
    assert admission(SiteHome.open(home.root)).records == ()


def test_this_machine_knows_the_home_at_its_new_place(lost, home, tmp_path):
    restore(lost, tmp_path / "elsewhere", KEY)
    (known,) = shared_site.first_homes(shared_site.state_folder())
    assert known.home == str((tmp_path / "elsewhere").resolve())


# ------------------------------------------------------------------------------------------- a further home


def test_a_further_homes_backup_has_its_own_part_only(home, tmp_path, capsys):
    further = tmp_path / "study"
    assert main(["site", "init", str(further), "--patients", "100", "--site", str(home.root)]) == 0
    capsys.readouterr()
    (tmp_path / "k.pub").write_text(f"x25519:{KEY.public_bytes.hex()}\n")
    assert main(["site", "backup", str(further), str(tmp_path / "b"), "--for", str(tmp_path / "k.pub")]) == 0
    assert f"the first home's, {home.root}" in capsys.readouterr().err
    shutil.rmtree(further)
    found = restore(tmp_path / "b", further, KEY)
    assert not {"site.key", "signing.key", LEDGER, "ledger.sqlite"} & set(tree(further))
    assert found.ledger is None
    again = SiteHome.open(further)
    assert again.first == home.root
    ledger_of(again).disconnect()  # the site's, which was not lost
    with pytest.raises(PolicyRefused):
        check_run(further, OPEN)
    shutil.rmtree(further)
    home.root.rename(tmp_path / "gone")
    with pytest.raises(DataError, match="first home"):
        restore(tmp_path / "b", further, KEY)


# ------------------------------------------------------------------------------------------------------ kills

CHILD = """
import sys
from pathlib import Path
from fedimg.crypto.sealing import SealingKey
from fedimg.home import SiteHome
from sites.backup import back_up
from sites.restoring import restore
step, file, root = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
key = SealingKey.from_bytes(bytes([1]) * 32)
print("ready", flush=True)
if step == "backup":
    back_up(SiteHome.open(root), file, key.public_bytes, released=True)
else:
    restore(file, root, key)
"""


@pytest.mark.parametrize("step", ["backup", "restore"])
@pytest.mark.parametrize("delay", [0.0, 0.01, 0.03, 0.06, 0.1, 0.2, 0.4])
def test_a_kill_leaves_all_or_nothing(home, tmp_path, step, delay):
    for number in range(300):
        put(home.root / "released" / "FI00" / f"{number}.dcm", "x" * 100_000)
    file = tmp_path / "home.sealed"
    if step == "restore":
        back_up(home, file, KEY.public_bytes, released=True)
        shutil.rmtree(home.root)
    command = [sys.executable, "-c", CHILD, step, str(file), str(home.root)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    child.stdout.readline()
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    result = file if step == "backup" else home.root
    if not result.exists():
        # whatever is left has another name, and the next try clears it
        if step == "backup":
            back_up(SiteHome.open(home.root), file, KEY.public_bytes, released=True)
        else:
            restore(file, home.root, KEY)
    if step == "backup":
        shutil.rmtree(home.root)
        restore(file, home.root, KEY)
    assert len(list((home.root / "released").rglob("*.dcm"))) == 301
    assert not list(tmp_path.glob(".home*"))
    assert not list(home.root.glob(".backup-*"))


# ---------------------------------------------------------------------------------------------- command line


def test_the_verbs_say_what_to_do_next(home, tmp_path, capsys):
    assert main(["share", "keygen", str(tmp_path / "k"), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (
        main(["site", "backup", str(home.root), str(tmp_path / "b"), "--for", made["public_file"], "--json"])
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["code"] == made["code"]
    shutil.rmtree(home.root)
    command = ["site", "restore", str(tmp_path / "b"), str(home.root), "--key", str(tmp_path / "k")]
    assert main([*command, "--from", home.signing_key.public_bytes.hex()]) == 0
    shown = capsys.readouterr().out
    assert f"fedimg ledger recover {home.root} --backup {home.root / LEDGER} --head NUMBER-DIGEST" in shown
    assert told["ledger_head"] in shown
    assert OPEN in shown
    assert main(command) == 4


def test_what_belongs_into_a_backup_is_a_closed_list():
    assert all(belongs(name) for name in ("site.key", LEDGER, "runs/x/offer.json", "released/FI0/x.dcm"))
    foreign = (
        "ledger.sqlite",
        "cache/x",
        "quarantine/x",
        "x",
        "attend.lock",
        "site.key/x",
        "report.html",
        "federation",
    )
    assert not any(belongs(name) for name in foreign)
    assert backing.PURPOSE != "fedimg share 1"
