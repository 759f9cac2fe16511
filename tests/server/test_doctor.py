"""`fedimg doctor` at a coordinator: each check on what is sound, and on what was really broken."""

import json
import shutil
import socket
import stat
import threading
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from loopback_federation import free_port

from fedimg import checkup
from fedimg.cli import main
from fedimg.crypto.keys import SigningKey
from fedimg.dicom.authoring import write_image
from fedimg.durable import alone
from fedimg.errors import DataError
from fedimg.home import SiteHome
from fedimg.intake import run_intake
from fedimg.process_log import logger
from fedimg.values import SourceItem
from server.membership import Federation
from server.registry import FILE, Registry, ShownRegistry, Stage
from server.serving import Coordinator
from tests.sites.conftest import NOW, joined, site

CHECKS = ("installation", "program", "permissions", "folder", "disk", "bundle", "tls", "authority", "members")
SOUND = dict.fromkeys((*CHECKS, "port", "registry", "public set"), "ok") | dict.fromkeys(
    ("runs", "ends"), "skipped"
)


def made(root, now=NOW, address=None):
    """A federation with two members, whose sites have homes beside it."""
    net = Federation.create(root, "net", address or f"127.0.0.1:{free_port()}", now=now)
    for name in ("north", "south"):
        joined(net, site(root.parent / name), name, now)
    net.bundle(now)
    return net


@pytest.fixture
def net(tmp_path):
    return made(tmp_path / "net")


@pytest.fixture
def look(capsys):
    """check → state of a folder; the whole rows are in `look.rows`."""

    def states(net):
        capsys.readouterr()
        ended = main(["doctor", str(net.root), "--json"])
        states.rows = {row["check"]: row for row in json.loads(capsys.readouterr().out)}
        found = {check: row["state"] for check, row in states.rows.items()}
        assert ended == (1 if "fail" in found.values() else 0)
        assert all(row["remedy"] for row in states.rows.values() if row["state"] in ("warn", "fail"))
        return found

    return states


def tree(root):
    return {p: (stat.S_IMODE(p.lstat().st_mode), p.is_file() and p.read_bytes()) for p in root.rglob("*")}


def test_a_sound_coordinator_is_sound_and_nothing_is_changed(net, look):
    before = tree(net.root)
    assert look(net) == SOUND
    assert tree(net.root) == before


def test_a_coordinator_dials_nobody(net, capsys):
    assert main(["doctor", str(net.root), "--dial"]) == 2
    assert "--dial at a site" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["authority-1.key", "tls-1.key", "coordinator.key", FILE])
def test_secrets_that_others_may_read(net, look, name):
    SigningKey.create(net.root / "coordinator.key")
    Registry(net.root).close()
    sound = SOUND | {"runs": "ok", "ends": "ok"}
    assert look(net) == sound
    (net.root / name).chmod(0o640)
    assert look(net) == sound | {"permissions": "fail"}
    assert stat.S_IMODE((net.root / name).stat().st_mode) == 0o640


def test_a_folder_that_others_may_read(net, look):
    net.root.chmod(0o750)
    skipped = dict.fromkeys(("bundle", "tls", "authority", "members", "port"), "skipped")
    assert look(net) == SOUND | {"permissions": "fail", "folder": "fail"} | skipped


@pytest.mark.parametrize(
    ("free", "state"), [(checkup.LITTLE_BYTES - 1, "warn"), (checkup.LEAST_BYTES - 1, "fail")]
)
def test_space(net, look, monkeypatch, free, state):
    monkeypatch.setattr(checkup.shutil, "disk_usage", lambda _path: SimpleNamespace(free=free))
    assert look(net) == SOUND | {"disk": state}


# ---------------------------------------------------------------------------------------------------- certificates


def test_a_bundle_that_is_not_there_or_is_none(net, look):
    file = net.root / "federation.bundle"
    file.write_bytes(b"{}")
    assert look(net) == SOUND | {"bundle": "fail", "members": "skipped"}
    file.unlink()
    assert look(net) == SOUND | {"bundle": "fail", "members": "skipped"}


def test_a_bundle_from_before_the_last_change(net, look):
    net.revoke("south")
    assert look(net) == SOUND | {"bundle": "warn"}
    net.bundle()
    assert look(net) == SOUND
    net.renew()
    assert look(net) == SOUND | {"bundle": "warn"}


def test_a_federation_without_members(tmp_path, look):
    net = Federation.create(tmp_path / "empty", "net", f"127.0.0.1:{free_port()}")
    net.bundle()
    assert look(net) == SOUND | {"members": "warn"}


@pytest.mark.parametrize(
    ("days", "tls", "members", "authority"),
    [
        (397 - 61, "ok", "ok", "ok"),
        (397 - 59, "warn", "ok", "ok"),
        (398, "fail", "ok", "ok"),
        (730 - 59, "fail", "warn", "ok"),
        (731, "fail", "fail", "ok"),
        (3650 - 59, "fail", "fail", "warn"),
        (3651, "fail", "fail", "fail"),
    ],
)
def test_certificates_end(tmp_path, look, days, tls, members, authority):
    """A server's after 397 days, a node's after 730, an authority's after 3650."""
    net = made(tmp_path / "net", NOW - timedelta(days=days))
    assert look(net) == SOUND | {"tls": tls, "members": members, "authority": authority}
    if members != "ok":
        assert "north" in look.rows["members"]["found"]


def test_a_tls_pair_that_is_none(net, look):
    (net.root / "tls-1.pem").write_text(net.certificate)
    assert look(net) == SOUND | {"tls": "fail"}
    (net.root / "tls-1.key").unlink()
    assert look(net) == SOUND | {"tls": "fail"}


def test_a_tls_pair_of_another_authority(net, look, tmp_path):
    other = Federation.create(tmp_path / "other", "other", net.state().address)
    for end in ("key", "pem"):
        shutil.copy(other.root / f"tls-1.{end}", net.root / f"tls-1.{end}")
    assert look(net) == SOUND | {"tls": "fail"}
    assert "another authority" in look.rows["tls"]["found"]


def test_a_tls_pair_while_the_authority_changes(net, look):
    net.rotate()
    net.bundle()
    assert look(net) == SOUND | {"tls": "warn"}
    net.renew()
    net.bundle()
    assert look(net) == SOUND
    assert "rotate --finish" in look.rows["folder"]["found"]


# ------------------------------------------------------------------------------------------------- server and runs


def test_a_port_that_another_program_has(net, look):
    _host, _, port = net.state().address.rpartition(":")
    with socket.create_server(("127.0.0.1", int(port))):
        assert look(net) == SOUND | {"port": "fail"}
    assert look(net) == SOUND
    assert "no server runs" in look.rows["port"]["found"]


def test_a_port_that_this_federations_server_has(net, look):
    ending = threading.Event()
    server = threading.Thread(target=lambda: Coordinator(net.root, logger("server")).serve(ending))
    server.start()
    try:
        host, _, port = net.state().address.rpartition(":")
        for _ in range(400):
            try:
                socket.create_connection((host, int(port)), 0.1).close()
                break
            except OSError:
                ending.wait(0.05)
        found = look(net)
        assert found == SOUND | {"runs": "ok", "ends": "ok"}
        assert look.rows["port"]["found"] == "a server runs"
    finally:
        ending.set()
        server.join(20)


def test_a_lock_alone_is_a_server_too(net, look):
    with alone(net.root / "server.lock", "one"):
        assert look(net) == SOUND
        assert look.rows["port"]["found"] == "a server runs"


def test_an_address_of_another_machine(tmp_path, look):
    """192.0.2.0/24 is nobody's (RFC 5737)."""
    net = made(tmp_path / "net", address="192.0.2.1:8443")
    assert look(net) == SOUND | {"port": "warn"}
    assert "--listen" in look.rows["port"]["remedy"]


@pytest.fixture
def registry(net):
    found = Registry(net.root)
    yield found
    found.close()


def test_runs_that_wait_or_have_failed(net, look, registry):
    sound = SOUND | {"runs": "ok", "ends": "ok"}
    for name in ("a", "b"):
        registry.add(name, 3)
    registry.move("a", Stage.RUNNING)
    assert look(net) == sound
    registry.move("a", Stage.WAITING, "for south")
    assert look(net) == sound | {"runs": "warn"}
    assert look.rows["runs"]["found"] == "a waiting: for south"
    registry.move("a", Stage.FINISHED)
    registry.move("b", Stage.FAILED, "too little budget")
    assert look(net) == sound | {"runs": "warn"}
    assert look.rows["runs"]["found"] == "b failed: too little budget"


def test_ends_that_are_owed(net, look, registry):
    registry.add("a", 3)
    registry.owe("a", ("south",))
    registry.move("a", Stage.FINISHED)
    assert look(net) == SOUND | {"runs": "ok", "ends": "warn"}
    assert "south of a" in look.rows["ends"]["found"]
    registry.settle("a", "south")
    assert look(net) == SOUND | {"runs": "ok", "ends": "ok"}


def test_a_registry_that_is_none_or_is_damaged(net, look):
    file = net.root / FILE
    broken = SOUND | {"registry": "fail", "runs": "skipped", "ends": "skipped"}
    registry = Registry(net.root)
    for number in range(200):
        registry.add(f"run-{number}", 3)
    registry.close()
    data = file.read_bytes()
    file.write_bytes(data[:4096] + bytes(4096) + data[8192:])
    assert look(net) == broken
    file.write_bytes(b"none of a database" * 100)
    file.chmod(0o600)
    assert look(net) == broken


def test_a_registry_to_look_at_is_neither_made_nor_changed(net):
    with pytest.raises(DataError, match="a registry of runs"):
        ShownRegistry(net.root)
    assert not (net.root / FILE).exists()
    registry = Registry(net.root)
    registry.add("a", 3)
    registry.close()
    before = tree(net.root)
    shown = ShownRegistry(net.root)
    assert [entry.run for entry in shown.all()] == ["a"]
    with pytest.raises(Exception, match="readonly"):
        shown.add("b", 3)
    shown.close()
    assert tree(net.root) == before


# ------------------------------------------------------------------------------------------------------ public set


def test_a_public_set(net, look, tmp_path):
    root = net.root / "public"
    home = SiteHome.create(root, simulated=True)
    wave = 1000 + 300 * np.sin(np.add.outer(np.arange(32), np.arange(32)) / 5)
    known = {"PatientID": "1", "PatientName": "NOBODY"}
    write_image(tmp_path / "1.dcm", modality="CT", pixels=wave.astype(np.uint16), attributes=known)
    assert len(run_intake([SourceItem(tmp_path / "1.dcm", "dicom", label=0)], home).records) == 1
    sound = SOUND | {"public receipts": "ok", "public data": "ok"}
    assert look(net) == sound
    (file,) = (path for path in home.released.rglob("*") if path.is_file())
    whole = file.read_bytes()
    file.write_bytes(whole + b"\0")
    assert look(net) == sound | {"public receipts": "fail", "public data": "skipped"}
    file.write_bytes(whole)
    (root / "site.key").chmod(0o644)
    skipped = {"public receipts": "skipped", "public data": "skipped"}
    assert look(net) == sound | {"public set": "fail"} | skipped
