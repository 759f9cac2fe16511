"""`fedimg doctor` at a site: each check on what is sound, and on what was really broken."""

import json
import shutil
import sqlite3
import stat
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from fedimg import checkup, declared_public
from fedimg.checkup import Seen
from fedimg.cli import doctor as verb
from fedimg.cli import main
from fedimg.crypto.link_keys import NodeKey
from fedimg.dicom.authoring import write_image
from fedimg.dicom.refusal import Quarantined
from fedimg.durable import alone
from fedimg.home import SiteHome
from fedimg.imaging.config import ImagingConfig
from fedimg.intake import run_intake
from fedimg.models import ModelConfig
from fedimg.privacy import noise
from fedimg.privacy.ledger import Allowance, Ledger, LedgerTerms
from fedimg.privacy.request import PrivacyRequest
from fedimg.record import code
from fedimg.terms import Terms
from fedimg.training import LocalTraining
from fedimg.values import Quarantine, SourceItem
from server.membership import Federation
from sites import doctor
from sites.enrolment import Enrolment
from sites.offers import Offers

NOW = datetime.now(UTC).replace(microsecond=0)
PATIENT = "QUIRRELL^ANNABETH"
CHECKS = (
    "installation",
    "program",
    "permissions",
    "home",
    "disk",
    "policy",
    "ledger",
    "budget",
    "receipts",
    "data",
    "rehearsal",
    "mechanism",
    "process",
    "approvals",
    "federation",
)
MEMBERS = ("certificate", "node key", "authority")
SOUND = dict.fromkeys((*CHECKS, *MEMBERS), "ok")


def policy(**changes):
    return yaml.safe_dump({"declared_patients": 100, "min_colluders": 50} | changes)


def new_home(root):
    home = SiteHome.create(root, simulated=False)
    home.policy.write_text(policy())
    Ledger.create(home.ledger, home.signing_key, LedgerTerms(10.0, 1e-5, 8)).disconnect()
    return home


def filled(home, folder):
    """Three slices of a patient, taken in."""
    folder.mkdir()
    items = []
    for seed in range(3):
        known = {"PatientID": "MRN5550123", "PatientName": PATIENT, "StudyDate": "20120309"}
        wave = 1000 + 300 * np.sin(np.add.outer(np.arange(32), np.arange(32)) / 5)
        values = (wave + np.random.default_rng(seed).normal(0, 5, wave.shape)).astype(np.uint16)
        path = folder / f"quirrell-{seed}.dcm"
        write_image(path, modality="CT", pixels=values, attributes=known)
        items.append(SourceItem(path, "dicom", label=seed % 2))
    assert len(run_intake(items, home).records) == 3


def member(home, net, name="north", now=NOW):
    """Made a member of a federation, whose bundle is pinned."""
    enrolment = Enrolment(home)
    request = enrolment.request(name, now)
    net.sign((enrolment.folder / "request.json").read_bytes(), request.code, now)
    signed = net.bundle(now)
    enrolment.accept(signed.to_bytes(), signed.manifest.roster_code, now=now)
    return enrolment


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doctor")
    home = new_home(folder / "north")
    filled(home, folder / "source")
    member(home, Federation.create(folder / "net", "net", "fl.example.org:8443", now=NOW))
    return folder


@dataclass
class Site:
    """A copy of the filled home, and how it is looked at."""

    root: object
    settings: object
    capsys: object

    def states(self, *options, path=None, rc=None):
        """check → state; the whole rows are kept in `rows`."""
        self.capsys.readouterr()
        ended = main(["doctor", str(path or self.settings), "--json", *options])
        text = self.capsys.readouterr().out
        released = {p.name for p in (self.root / "released").rglob("*") if p.is_file()}
        for word in ("quirrell", "annabeth", "5550123", *released):
            assert word.lower() not in text.lower()
        self.rows = {row["check"]: row for row in json.loads(text)}
        assert all(set(row) == {"check", "state", "found", "remedy"} for row in self.rows.values())
        found = {check: row["state"] for check, row in self.rows.items()}
        assert ended == (1 if "fail" in found.values() else 0)
        # what is to be mended says how
        assert all(row["remedy"] for row in self.rows.values() if row["state"] in ("warn", "fail"))
        found.pop("settings", None)
        return found

    @property
    def home(self):
        return SiteHome.open(self.root)

    def said(self, check):
        return self.rows[check]["found"]


@pytest.fixture
def quick(monkeypatch):
    """Without the checks that train, which have tests of their own."""
    monkeypatch.setattr(doctor, "rehearsed", lambda _device, _threads: Seen("passes"))
    monkeypatch.setattr(doctor, "exact", lambda: Seen("passes"))


@pytest.fixture
def slow(base, tmp_path, capsys):
    shutil.copytree(base / "north", tmp_path / "north")
    settings = tmp_path / "north.yaml"
    settings.write_text(yaml.safe_dump({"home": "north", "device": "cpu"}))
    return Site(tmp_path / "north", settings, capsys)


@pytest.fixture
def site(slow, quick):
    return slow


@pytest.fixture
def fresh(tmp_path, capsys, quick):
    """A home in which nothing was done yet."""
    new_home(tmp_path / "new")
    return Site(tmp_path / "new", tmp_path / "new", capsys)


def tree(root):
    return {p: (stat.S_IMODE(p.lstat().st_mode), p.is_file() and p.read_bytes()) for p in root.rglob("*")}


def test_a_sound_site_is_sound_and_nothing_is_changed(slow):
    before = tree(slow.root)
    assert slow.states() == SOUND
    assert slow.rows["settings"]["state"] == "ok"
    assert slow.states(path=slow.root) == SOUND
    assert "settings" not in slow.rows
    assert tree(slow.root) == before
    assert code.installed()["digest"] in slow.said("program")


def test_the_table_names_what_fails(site, capsys):
    site.home.ledger.chmod(0o644)
    capsys.readouterr()
    assert main(["doctor", str(site.root)]) == 1
    lines = {tuple(line.split()[:2]) for line in capsys.readouterr().out.splitlines()}
    assert {("state", "check"), ("ok", "home"), ("FAIL", "ledger"), ("skipped", "budget")} <= lines


def test_a_path_at_which_nothing_is(tmp_path, capsys):
    assert main(["doctor", str(tmp_path / "none")]) == 4
    assert "found none there" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["home: [", "homes: north", "threads: 2", "home: north\nthreads: 0"])
def test_settings_that_do_not_parse(site, text):
    site.settings.write_text(text)
    found = site.states()
    assert site.rows["settings"]["state"] == "fail"
    sound = ("installation", "program", "mechanism")
    assert found == dict.fromkeys(SOUND, "skipped") | dict.fromkeys(sound, "ok")


def test_a_folder_that_is_no_home(site):
    (site.root / "home.json").unlink()
    needs = dict.fromkeys(SOUND, "skipped") | {"home": "fail"}
    sound = ("installation", "program", "permissions", "rehearsal", "mechanism")
    assert site.states() == needs | dict.fromkeys(sound, "ok")


def test_settings_of_a_home_that_is_not_there(site):
    site.settings.write_text(yaml.safe_dump({"home": "elsewhere", "device": "cpu"}))
    needs = dict.fromkeys(SOUND, "skipped") | {"home": "fail"}
    sound = ("installation", "program", "rehearsal", "mechanism")
    assert site.states() == needs | dict.fromkeys(sound, "ok")
    assert not site.root.with_name("elsewhere").exists()


def test_a_virtual_sites_home_is_told(tmp_path, fresh):
    SiteHome.create(tmp_path / "virtual", simulated=True)
    found = fresh.states(path=tmp_path / "virtual")
    assert (found["home"], found["policy"], found["ledger"]) == ("warn", "fail", "fail")


# --------------------------------------------------------------------------------------------------- what is secret


@pytest.mark.parametrize("name", ["site.key", "signing.key", "."])
def test_keys_that_others_may_read(site, name):
    (site.root / name).chmod(0o640)
    found = site.states()
    assert (found["permissions"], found["home"], found["ledger"]) == ("fail", "fail", "skipped")
    assert "mode 0640" in site.said("permissions")


@pytest.mark.parametrize(
    ("name", "also"),
    [
        ("ledger.sqlite", {"ledger": "fail", "budget": "skipped"}),
        ("federation/node.key", {"node key": "fail"}),
        ("federation", {}),
        ("ledger-keys.jsonl", {}),
    ],
)
def test_secrets_that_others_may_read(site, name, also):
    path = site.root / name
    path.chmod(0o755 if path.is_dir() else 0o644)
    assert site.states() == SOUND | {"permissions": "fail"} | also


def test_a_ledger_that_is_a_link(site):
    (site.root / "ledger.sqlite").rename(site.root / "elsewhere")
    (site.root / "ledger.sqlite").symlink_to(site.root / "elsewhere")
    assert site.states() == SOUND | {"permissions": "fail", "ledger": "fail", "budget": "skipped"}


def test_the_first_home_of_a_further_one_is_looked_at_too(tmp_path, fresh, capsys):
    further = tmp_path / "further"
    assert main(["site", "init", str(further), "--patients", "100", "--site", str(fresh.root)]) == 0
    found = fresh.states(path=further)
    assert (found["permissions"], found["home"], found["ledger"]) == ("ok", "ok", "ok")
    (fresh.root / "ledger.sqlite").chmod(0o604)
    found = fresh.states(path=further)
    assert (found["permissions"], found["home"], found["ledger"]) == ("fail", "ok", "fail")


# ------------------------------------------------------------------------------------------- machine and program


@pytest.mark.parametrize(
    ("free", "state"),
    [(checkup.LITTLE_BYTES, "ok"), (checkup.LITTLE_BYTES - 1, "warn"), (checkup.LEAST_BYTES - 1, "fail")],
)
def test_space(site, monkeypatch, free, state):
    monkeypatch.setattr(checkup.shutil, "disk_usage", lambda _path: SimpleNamespace(free=free))
    assert site.states() == SOUND | {"disk": state}


def test_a_version_that_is_not_the_installed_one(site, monkeypatch):
    monkeypatch.setattr(verb, "__version__", "9.9.9")
    assert site.states() == SOUND | {"program": "warn"}


def test_no_configuration_beside_the_program(site, monkeypatch, tmp_path):
    monkeypatch.setattr(checkup.keys, "__file__", str(tmp_path / "a" / "b" / "keys.py"))
    assert site.states() == SOUND | {"program": "fail"}


def looked_at_from(folder, path):
    command = [sys.executable, "-m", "fedimg.cli", "doctor", str(path), "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, {row["check"]: row for row in json.loads(done.stdout)}


@pytest.mark.parametrize("name", ["sites", "server"])
def test_a_folder_that_is_taken_for_a_part_of_the_program(base, tmp_path, name):
    """As where a coordinator's own folder `server` lies in the folder in which the command is typed."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    found, rows = looked_at_from(tmp_path, base / "net")
    assert (found, rows["installation"]["state"]) == (1, "fail")
    assert name in rows["installation"]["found"]
    if name == "server":
        assert rows["everything else"]["state"] == "fail"
    else:
        assert rows["folder"]["state"] == "ok"


def test_a_fault_that_nobody_expected_stops_nothing_and_says_nothing(site, monkeypatch):
    def broken(*_):
        raise RuntimeError(PATIENT)

    monkeypatch.setattr(doctor, "statement_of", broken)
    assert site.states() == SOUND | {"ledger": "fail", "budget": "skipped"}
    assert site.said("ledger") == "an unexpected RuntimeError"


# ------------------------------------------------------------------------------------------------ policy and ledger


@pytest.mark.parametrize(
    ("text", "approvals"),
    [("declared_patients: [", "skipped"), ("max_epsilon: 3", "skipped"), (policy(min_patients=101), "ok")],
)
def test_a_policy_that_refuses_everything(site, text, approvals):
    site.home.policy.write_text(text)
    assert site.states() == SOUND | {"policy": "fail", "approvals": approvals}


def test_a_profile_that_the_policy_does_not_allow(site):
    site.home.policy.write_text(policy(deid_profiles=["ps315-basic"]))
    assert site.states() == SOUND | {"receipts": "fail", "data": "skipped"}


def test_a_ledger_of_which_an_entry_was_changed(site):
    with sqlite3.connect(site.home.ledger) as connection:
        connection.executescript("DROP TRIGGER no_update; UPDATE entries SET body = X'7B7D';")
    connection.close()
    assert site.states() == SOUND | {"ledger": "fail", "budget": "skipped"}


def test_a_ledger_that_is_gone(site):
    site.home.ledger.unlink()
    assert site.states() == SOUND | {"ledger": "fail", "budget": "skipped"}
    assert not site.home.ledger.exists()


class Plan:
    """One release whose cost is near a share of what is left."""

    digest = "00" * 32

    def __init__(self, terms, share):
        def cost(sigma):
            return Allowance("train", sigma, 1.0, 1, 0).rho(terms.order, 1)

        low, high = 0.1, 100.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if cost(middle) > share * terms.budget else (low, middle)
        self.allowances = (Allowance("train", high, 1.0, 1, 0),)


@pytest.mark.parametrize(("share", "state"), [(0.5, "ok"), (0.9, "warn"), (1.0, "fail")])
def test_a_budget(site, share, state):
    home = site.home
    ledger = Ledger.open(home.ledger, home.signing_key)
    ledger.reserve("run", Plan(ledger.terms, share))
    ledger.disconnect()
    assert site.states() == SOUND | {"budget": state}


# ------------------------------------------------------------------------------------------------------------- data


def test_nothing_was_taken_in(fresh):
    expected = SOUND | {"receipts": "warn", "data": "skipped", "federation": "warn"}
    assert fresh.states() == expected | dict.fromkeys(MEMBERS, "skipped")


def test_a_receipt_of_which_one_byte_was_changed(site):
    data = bytearray(site.home.receipts.read_bytes())
    data[len(data) // 2] ^= 1
    site.home.receipts.write_bytes(data)
    assert site.states() == SOUND | {"receipts": "fail", "data": "skipped"}


def test_released_files_that_were_changed(site):
    files = [path for path in sorted(site.home.released.rglob("*")) if path.is_file()]
    files[0].write_bytes(files[0].read_bytes() + b"\0")
    assert site.states() == SOUND | {"receipts": "warn"}
    for path in files:
        path.write_bytes(b"")
    assert site.states() == SOUND | {"receipts": "fail", "data": "skipped"}


def test_a_released_file_that_does_not_decode(site, monkeypatch):
    def undecodable(*_args, **_options):
        raise Quarantined(Quarantine.PIXELS_UNDECODABLE, PATIENT)

    monkeypatch.setattr(checkup.pixels, "decode_dataset", undecodable)
    assert site.states() == SOUND | {"data": "fail"}
    assert "pixels undecodable" in site.said("data")


def test_arrays_that_were_declared_public(fresh):
    home = fresh.home
    arrays = declared_public.PublicArrays(np.zeros((2, 1, 8, 8), np.uint8), np.zeros(2, np.int64), ["a", "b"])
    declared_public.admit_arrays(home.root, arrays, "nobody's", home.signing_key)
    found = fresh.states()
    assert (found["receipts"], found["data"]) == ("ok", "ok")
    file = home.root / "declared_public.npz"
    file.write_bytes(file.read_bytes() + b"\0")
    found = fresh.states()
    assert (found["receipts"], found["data"]) == ("fail", "skipped")


def test_arrays_beside_released_files_that_were_changed(site):
    (site.root / "declared_public.npz").write_bytes(b"")
    assert site.states() == SOUND | {"data": "fail"}


# --------------------------------------------------------------------------------------------------------- training


def test_a_device_that_is_not_here(slow, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    monkeypatch.setattr(doctor, "exact", lambda: Seen("passes"))
    slow.settings.write_text(yaml.safe_dump({"home": "north", "device": "cuda"}))
    assert slow.states() == SOUND | {"rehearsal": "fail"}


def test_noise_that_is_less_than_it_claims(slow, monkeypatch):
    whole = noise._blocks
    monkeypatch.setattr(noise, "_blocks", lambda size, std, entropy: whole(size, 0.5 * std, entropy))
    monkeypatch.setattr(doctor, "rehearsed", lambda _device, _threads: Seen("passes"))
    assert slow.states() == SOUND | {"mechanism": "fail"}
    assert "noise." in slow.said("mechanism")


# ------------------------------------------------------------------------------------------------------ taking part


def test_a_process_that_takes_part_already(site):
    assert "does not run" in (site.states() and site.said("process"))
    with alone(site.root / "attend.lock", "one"):
        assert site.states() == SOUND
        assert site.said("process") == "runs"
    assert site.states() == SOUND
    assert "does not run" in site.said("process")


def test_runs_that_wait_for_a_person(site):
    offers = Offers(site.home)
    request = PrivacyRequest(epsilon=3.0)
    terms = Terms(
        "heart-study", 2, ModelConfig("cnn"), LocalTraining(), ImagingConfig(), request, "train", 0.2, 10, 0
    )
    offers.keep("heart-study", terms)
    assert site.states() == SOUND | {"approvals": "warn"}
    assert "heart-study" in site.said("approvals")
    offers.approve("heart-study", "another program")
    assert site.states() == SOUND | {"approvals": "warn"}
    offers.approve("heart-study", code.installed()["digest"])
    assert site.states() == SOUND
    (site.root / "runs" / "heart-study" / "approved.json").unlink()
    site.home.policy.write_text(policy(preapproved_epsilon=3.0))
    assert site.states() == SOUND


def test_a_site_that_asked_and_is_no_member_yet(fresh):
    Enrolment(fresh.home).request("north")
    found = fresh.states()
    assert (found["federation"], found["certificate"]) == ("warn", "skipped")
    assert "accepted no bundle" in fresh.said("federation")


def pinned_file(site, data):
    (site.root / "federation" / "pinned.bundle").write_bytes(data)


def test_a_pinned_bundle_that_was_changed(site):
    pinned_file(site, b"{}")
    assert site.states() == SOUND | {"federation": "fail"} | dict.fromkeys(MEMBERS, "skipped")


def test_a_pinned_bundle_without_this_site(site, base, tmp_path):
    shutil.copytree(base / "net", tmp_path / "net")
    net = Federation(tmp_path / "net")
    net.revoke("north")
    pinned_file(site, net.bundle().to_bytes())
    assert site.states() == SOUND | {"federation": "fail"} | dict.fromkeys(MEMBERS, "skipped")


@pytest.mark.parametrize("name", ["federation/roots.pem", "roster.json"])
def test_an_accepting_that_was_cut_short(site, name):
    (site.root / name).write_text("{}")
    assert site.states() == SOUND | {"federation": "fail"}
    (site.root / name).unlink()
    assert site.states() == SOUND | {"federation": "fail"}


def test_another_node_key_than_the_certificates(site):
    key = site.root / "federation" / "node.key"
    key.unlink()
    assert site.states() == SOUND | {"node key": "fail"}
    NodeKey.create(key)
    assert site.states() == SOUND | {"node key": "fail"}


@pytest.mark.parametrize(
    ("days", "certificate", "authority"),
    [
        (730 - 61, "ok", "ok"),
        (730 - 59, "warn", "ok"),
        (731, "fail", "ok"),
        (3650 - 59, "fail", "warn"),
        (3651, "fail", "fail"),
    ],
)
def test_certificates_end(fresh, tmp_path, days, certificate, authority):
    """A node's after 730 days, an authority's after 3650."""
    past = NOW - timedelta(days=days)
    member(fresh.home, Federation.create(tmp_path / "net", "net", "fl.example.org:8443", now=past), now=past)
    found = fresh.states()
    assert (found["certificate"], found["authority"]) == (certificate, authority)
    assert (found["federation"], found["node key"]) == ("ok", "ok")
