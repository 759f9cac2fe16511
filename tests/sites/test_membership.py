"""What time, backups and kills do to a federation."""

import itertools
import json
from datetime import timedelta

import pytest

from fedimg.crypto.certificates import read_request
from fedimg.crypto.keys import SigningKey
from fedimg.crypto.link_keys import NodeKey
from fedimg.errors import ConfigError, DataError, FedimgError, PolicyRefused
from fedimg.federation import SiteRequest
from fedimg.secagg.roster import Roster
from server import membership
from server.federation_folder import FederationFolder
from server.membership import Federation
from sites import enrolment
from tests.sites.conftest import NAMES, NOW, accepted, joined, later, site

# ------------------------------------------------------------------------------------ what time and backups bring


def test_a_certificate_that_ended_is_made_anew_with_the_next_bundle(net, sites):
    accepted(net, sites)
    signed = net.bundle(later(800))
    assert signed.manifest.number == 2
    for one in sites.values():
        one.accept(signed.to_bytes(), None, now=later(800))


def test_an_authority_that_ended_can_be_changed_before_and_not_used_after(net, sites):
    accepted(net, sites)
    with pytest.raises(DataError, match="rotate"):
        net.bundle(later(3651))
    net.rotate(later(3652))
    signed = net.bundle(later(3652))
    for one in sites.values():
        one.accept(signed.to_bytes(), signed.manifest.roster_code, now=later(3652))
    net.renew((), later(3653))
    net.finish_rotation()
    last = net.bundle(later(3653))
    for one in sites.values():
        one.accept(last.to_bytes(), None, now=later(3653))


def test_a_clock_that_was_set_back_is_told_and_harms_nothing(net, sites):
    with pytest.raises(DataError):
        net.bundle(NOW - timedelta(hours=1))
    accepted(net, sites)


def test_a_request_of_the_future_is_refused(net, tmp_path):
    one = site(tmp_path / "north")
    with pytest.raises(PolicyRefused, match="clocks"):
        net.sign(*_asked(one, later(9)), NOW)
    joined(net, one, "north")


def _asked(one, at):
    request = one.request("north", at)
    return (one.folder / "request.json").read_bytes(), request.code


def test_a_coordinator_that_was_restored_goes_on_above_what_sites_have_seen(net, sites):
    accepted(net, sites)
    before = {name: (net.root / name).read_bytes() for name in ("federation.json", "federation.bundle")}
    for day in (1, 2, 3):
        net.renew((), later(day))
        seen = accepted(net, sites, later(day))
    for name, data in before.items():
        (net.root / name).write_bytes(data)
    for end in ("key", "pem"):
        (net.root / f"tls-4.{end}").rename(net.root / f"tls-1.{end}")
    restored = Federation(net.root)
    restored.renew((), later(4))
    with pytest.raises(DataError, match="number 4"):
        sites["north"].accept(restored.bundle(later(4)).to_bytes(), None, now=later(4))
    above = restored.bundle(later(4), above=seen.manifest.number)
    assert above.manifest.number == 5
    sites["north"].accept(above.to_bytes(), None, now=later(4))


def test_who_was_revoked_does_not_come_back_with_a_backup(net, sites):
    accepted(net, sites)
    kept = net.member_file("east").read_bytes()
    net.revoke("east")
    fewer = net.bundle(later(1))
    sites["north"].accept(fewer.to_bytes(), fewer.manifest.roster_code, now=later(1))
    net.member_file("east").write_bytes(kept)
    (net.root / "revoked.json").unlink()
    back = net.bundle(later(2))
    assert "east" in back.manifest.members
    with pytest.raises(DataError, match="revoke them again"):
        sites["north"].accept(back.to_bytes(), back.manifest.roster_code, now=later(2))


@pytest.mark.parametrize("name", ["east", "EAST", "East"])
def test_a_revoked_name_is_revoked_in_all_its_capitals(net, sites, tmp_path, name):
    net.revoke("east")
    with pytest.raises(PolicyRefused, match="revoked"):
        joined(net, site(tmp_path / "fresh"), name, later(1))


def test_a_number_far_ahead_is_refused(net, sites):
    accepted(net, sites)
    net.renew((), later(1))
    with pytest.raises(DataError, match="or below"):
        sites["north"].accept(net.bundle(later(1), above=2**40).to_bytes(), None, now=later(1))


def test_a_rotation_ends_only_after_a_bundle_has_told_of_it(net, sites):
    accepted(net, sites)
    net.rotate(later(1))
    net.renew((), later(1))
    with pytest.raises(DataError, match="none yet"):
        net.finish_rotation()


def test_one_node_key_is_one_sites(net, sites, tmp_path):
    """Asked for by the very holder, under a second identity."""
    (key,) = sites["north"].folder.glob("node-*.key")
    twice = SiteRequest.signed("twice", 1, SigningKey.from_bytes(b"8" * 32), NodeKey.load(key), NOW)
    with pytest.raises(PolicyRefused, match="those of north"):
        net.sign(twice, SiteRequest.read(twice).code, NOW)


def test_asking_that_fails_costs_no_key(net, sites):
    accepted(net, sites)
    north = sites["north"]
    north.request("north", later(1))
    asked = (north.folder / "request.json").read_bytes()
    policy = north.home.policy.read_bytes()
    north.home.policy.write_text("declared_patients: none\n")
    with pytest.raises(FedimgError):
        north.request("north", later(2))
    north.home.policy.write_bytes(policy)
    north.request("north", later(3))  # and one that came too late to be handed over
    (north.folder / "node-0000.key").touch(0o600)  # cut short
    net.sign(asked, None, later(3))
    north.accept(net.bundle(later(3)).to_bytes(), None, now=later(3))
    assert NodeKey.load(north.node_key).public_pem == read_request(SiteRequest.read(asked).csr).public_pem


# --------------------------------------------------------------------------------------------------------- kills


class Killed(BaseException):
    pass


WRITES = ("write_durably", "write_state", "sync_folder")


def dying(module, monkeypatch, after):
    """The module's writes, of which the one after so many kills the process before it is made."""
    count = itertools.count(1)

    def counted(made):
        def write(*arguments, **named):
            if next(count) > after:
                raise Killed
            return made(*arguments, **named)

        return write

    for name in WRITES:
        if hasattr(module, name):
            monkeypatch.setattr(module, name, counted(getattr(module, name)))


@pytest.mark.parametrize("after", range(6))
@pytest.mark.parametrize("change", ["bundle", "renew", "revoke", "rotate"])
def test_a_coordinator_that_was_killed_within_a_change_goes_on(net, sites, monkeypatch, change, after):
    accepted(net, sites)
    with monkeypatch.context() as patch:
        dying(membership, patch, after)
        try:
            getattr(net, change)(*{"revoke": ("east",), "renew": ((), later(1))}.get(change, (later(1),)))
        except Killed:
            pass
        else:
            assert after >= 1 or change == "bundle"  # nothing was new
    again = Federation(net.root)
    if "east" in again.members() and change == "revoke":
        again.revoke("east")
    signed = again.bundle(later(2))
    left = [name for name in NAMES if name in again.members()]
    for name in left:
        found = sites[name].accept(signed.to_bytes(), signed.manifest.roster_code, now=later(2))
        assert found.manifest.number == again.state().number
    assert again.tls[0].exists()
    assert again.tls[1].exists()
    again.renew((), later(3))
    again.bundle(later(3))


@pytest.mark.parametrize("after", range(4))
def test_a_site_that_was_killed_while_it_accepted_accepts_again(net, sites, monkeypatch, after):
    signed = net.bundle(NOW)
    code, north = signed.manifest.roster_code, sites["north"]
    with monkeypatch.context() as patch:
        dying(enrolment, patch, after)
        try:
            north.accept(signed.to_bytes(), code, now=NOW)
        except Killed:
            pass
        else:
            assert after >= 2
    north.accept(signed.to_bytes(), code, now=NOW)
    assert north.pinned() == signed
    assert len(Roster.load(north.home.roster).identities) == 3


# -------------------------------------------------------------------------------------------------------- folders


def test_a_folder_that_is_no_federation_is_refused(net, tmp_path):
    with pytest.raises(DataError, match="provision init"):
        FederationFolder(tmp_path)
    with pytest.raises(DataError, match="empty folder"):
        Federation.create(net.root, "net", "fl.example.org:8443")
    net.root.chmod(0o755)
    with pytest.raises(DataError, match="mode 0700"):
        FederationFolder(net.root)
    net.root.chmod(0o700)
    state = json.loads((net.root / "federation.json").read_text())
    for other in (state | {"version": 2}, state | {"more": 1}, []):
        (net.root / "federation.json").write_text(json.dumps(other))
        with pytest.raises(DataError):
            FederationFolder(net.root)


def test_an_authority_behind_a_passphrase_signs_with_it_only(tmp_path):
    made = Federation.create(
        tmp_path / "net", "net", "fl.example.org:8443", passphrase=b"correct horse", now=NOW
    )
    joined(made, site(tmp_path / "north"), "north")
    with pytest.raises(DataError, match="opens"):
        Federation(made.root).bundle(NOW)
    assert Federation(made.root, b"correct horse").bundle(NOW).manifest.number == 1
    assert FederationFolder(made.root).members() == ("north",)  # reading needs none


@pytest.mark.parametrize("name", ["", "a" * 65, "a\nb"])
def test_a_federations_name_is_of_one_line(tmp_path, name):
    with pytest.raises(ConfigError):
        Federation.create(tmp_path / "net", name, "fl.example.org:8443")
