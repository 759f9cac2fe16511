"""From an empty folder to pinned members, and what either side refuses on the way."""

import json
import stat
from dataclasses import replace

import pytest
import yaml

from fedimg.crypto.certificates import issued_by, public_pem_of
from fedimg.crypto.keys import SigningKey
from fedimg.crypto.link_keys import NodeKey
from fedimg.errors import ConfigError, DataError, PolicyRefused
from fedimg.federation import SignedManifest, SiteRequest
from fedimg.secagg.roster import Roster
from server import membership
from server.membership import Federation
from tests.sites.conftest import NOW, accepted, joined, later, site


def test_three_sites_pin_each_other(net, sites):
    signed = accepted(net, sites)
    for name, one in sites.items():
        roster = Roster.load(one.home.roster)
        assert roster.identities == {n: s.home.signing_key.public_bytes for n, s in sites.items()}
        assert set(roster.weights.values()) == {100.0}
        assert one.pinned().manifest == signed.manifest
        assert one.roots.read_text() == net.certificate
        assert NodeKey.load(one.node_key).public_pem == public_pem_of(
            signed.manifest.members[name].certificate
        )
        assert [path.name for path in one.folder.glob("*.key")] == ["node.key"]
    assert net.last() == signed


def test_no_private_key_leaves_its_folder(net, sites, tmp_path):
    accepted(net, sites)
    secrets = {
        path: path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file() and (path.suffix == ".key" or b"PRIVATE KEY" in path.read_bytes())
    }
    assert {path.name for path in secrets} == {
        "site.key",
        "signing.key",
        "node.key",
        "authority-1.key",
        "tls-1.key",
    }
    papers = [path for path in tmp_path.rglob("*") if path.is_file() and path not in secrets]
    for path, secret in secrets.items():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        body = secret if b"-----" not in secret else b"".join(secret.splitlines()[1:-1])[40:100]
        assert len(body) >= 32
        for paper in papers:
            assert body not in paper.read_bytes()
            assert b"PRIVATE" not in paper.read_bytes()


# ------------------------------------------------------------------------------------- what a coordinator refuses


@pytest.mark.parametrize("code", [None, "", "AAAAA-AAAAA-AAAAA-AAAAA-AAAAA"])
def test_a_site_is_no_member_without_its_code(net, tmp_path, code):
    one = site(tmp_path / "north")
    one.request("north", NOW)
    with pytest.raises(PolicyRefused, match="operator") as caught:
        net.sign((one.folder / "request.json").read_bytes(), code, NOW)
    assert one.request("north", NOW).code not in str(caught.value)
    assert net.members() == ()


@pytest.mark.parametrize("name", ["north", "North", "NORTH"])
def test_a_name_is_one_sites(net, sites, tmp_path, name):
    with pytest.raises(PolicyRefused, match="those of north"):
        joined(net, site(tmp_path / "another"), name)


def test_an_identity_is_one_member(net, sites):
    home = sites["north"].home
    (key,) = sites["north"].folder.glob("node-*.key")
    request = SiteRequest.signed("again", 100, home.signing_key, NodeKey.load(key), NOW)
    with pytest.raises(PolicyRefused, match="those of north"):
        net.sign(request, SiteRequest.read(request).code, NOW)


def test_a_site_that_was_revoked_does_not_come_back(net, sites, tmp_path):
    accepted(net, sites)
    net.revoke("east")
    assert net.members() == ("north", "south")
    with pytest.raises(PolicyRefused, match="revoked"):
        joined(net, sites["east"], "east", later(1))
    with pytest.raises(PolicyRefused, match="revoked"):
        joined(net, site(tmp_path / "fresh"), "east", later(1))
    signed = net.bundle(later(1))
    assert set(signed.manifest.members) == {"north", "south"}
    assert set(signed.manifest.revoked) == {"east"}
    with pytest.raises(DataError, match="this site is a member"):
        sites["east"].accept(signed.to_bytes(), signed.manifest.roster_code, now=later(1))
    with pytest.raises(DataError, match="the members: north, south"):
        net.revoke("east")


# --------------------------------------------------------------------------------------------- what a site refuses


@pytest.mark.parametrize("code", [None, "AAAAA-AAAAA-AAAAA-AAAAA-AAAAA"])
def test_members_are_pinned_with_their_code_only(net, sites, code):
    with pytest.raises(PolicyRefused, match="as they say it"):
        sites["north"].accept(net.bundle(NOW).to_bytes(), code, now=NOW)
    assert sites["north"].pinned() is None
    assert not sites["north"].home.roster.exists()


def test_other_members_need_the_code_again_and_renewals_do_not(net, sites, tmp_path):
    accepted(net, sites)
    assert net.renew(["north"], later(1)) == ("north",)
    renewed = net.bundle(later(1))
    assert renewed.manifest.number == 2
    found = sites["south"].accept(renewed.to_bytes(), None, now=later(1))
    assert (found.came, found.went, found.new) == ((), (), True)
    west = site(tmp_path / "west")
    joined(net, west, "west", later(2))
    more = net.bundle(later(2))
    with pytest.raises(PolicyRefused, match="as they say it"):
        sites["south"].accept(more.to_bytes(), None, now=later(2))
    found = sites["south"].accept(more.to_bytes(), more.manifest.roster_code, now=later(2))
    assert (found.came, found.went) == (("west",), ())
    net.revoke("north")
    fewer = net.bundle(later(3))
    with pytest.raises(PolicyRefused, match="as they say it"):
        sites["south"].accept(fewer.to_bytes(), None, now=later(3))
    found = sites["south"].accept(fewer.to_bytes(), fewer.manifest.roster_code, now=later(3))
    assert (found.came, found.went) == ((), ("north",))
    assert set(Roster.load(sites["south"].home.roster).identities) == {"south", "east", "west"}


def test_an_older_bundle_is_refused_and_the_same_one_changes_nothing(net, sites):
    first = accepted(net, sites)
    assert net.bundle(later(1)) == first
    net.renew((), later(1))
    second = accepted(net, sites, later(1))
    with pytest.raises(DataError, match="number 2 or above"):
        sites["north"].accept(first.to_bytes(), first.manifest.roster_code, now=later(1))
    assert not sites["north"].accept(second.to_bytes(), None, now=later(2)).new
    assert sites["north"].pinned().manifest.number == 2


def test_a_coordinator_that_lost_its_number_is_found_out(net, sites):
    """Restored from a backup it would give a number twice."""
    accepted(net, sites)
    before = (net.root / "federation.json").read_bytes()
    net.renew((), later(1))
    accepted(net, sites, later(1))
    (net.root / "federation.json").write_bytes(before)
    (net.root / "federation.bundle").unlink()
    again = Federation(net.root).bundle(later(2))
    assert again.manifest.number == 2
    with pytest.raises(DataError, match="another of number 2"):
        sites["north"].accept(again.to_bytes(), again.manifest.roster_code, now=later(2))


def test_another_federation_with_this_sites_papers_is_another(net, sites, tmp_path):
    accepted(net, sites)
    other = Federation.create(tmp_path / "other", "net", "fl.example.org:8443", now=NOW)
    for one in sites.values():
        data = (one.folder / "request.json").read_bytes()
        other.sign(data, SiteRequest.read(data).code, NOW)
    signed = other.bundle(NOW)
    with pytest.raises(DataError, match="another one's"):
        sites["north"].accept(signed.to_bytes(), signed.manifest.roster_code, now=NOW)


def test_an_authority_that_only_claims_to_follow_is_refused(net, sites, tmp_path):
    """With the federation's own id, a higher number and all members' papers."""
    accepted(net, sites)
    other = Federation.create(tmp_path / "other", "net", "fl.example.org:8443", now=NOW)
    state = json.loads((other.root / "federation.json").read_text())
    own = json.loads((net.root / "federation.json").read_text())
    (other.root / "federation.json").write_text(json.dumps(state | {"id": own["id"], "number": 7}))
    for one in sites.values():
        data = (one.folder / "request.json").read_bytes()
        other.sign(data, SiteRequest.read(data).code, NOW)
    signed = other.bundle(NOW)
    with pytest.raises(DataError, match="vouches for"):
        sites["north"].accept(signed.to_bytes(), signed.manifest.roster_code, now=NOW)


def test_a_member_of_another_size_under_this_sites_name_is_refused(net, sites, monkeypatch):
    """A coordinator that gives a site less weight than it declared."""
    made = SignedManifest.made

    def lighter(manifest, authorities):
        north = replace(manifest.members["north"], weight=1)
        return made(replace(manifest, members=manifest.members | {"north": north}), authorities)

    monkeypatch.setattr(membership.SignedManifest, "made", staticmethod(lighter))
    signed = net.bundle(NOW)
    with pytest.raises(DataError, match="as this site declared it"):
        sites["north"].accept(signed.to_bytes(), signed.manifest.roster_code, now=NOW)


def test_a_site_that_has_not_asked_accepts_nothing(net, sites, tmp_path):
    with pytest.raises(DataError, match="provision csr"):
        site(tmp_path / "west").accept(net.bundle(NOW).to_bytes(), None, now=NOW)


def test_a_member_has_one_name(net, sites):
    with pytest.raises(ConfigError):
        sites["north"].request("../x", NOW)
    accepted(net, sites)
    with pytest.raises(DataError, match="name it north"):
        sites["north"].request("south", NOW)


def test_before_it_is_a_member_a_site_may_ask_under_another_name(net, tmp_path):
    one = site(tmp_path / "site")
    one.request("nroth", NOW)
    joined(net, one, "north", later(1))
    signed = net.bundle(later(1))
    one.accept(signed.to_bytes(), signed.manifest.roster_code, now=later(1))


# ------------------------------------------------------------------------------------ members that somebody made up


def strict(one, colluders):
    one.home.policy.write_text(yaml.safe_dump({"declared_patients": 100, "min_colluders": colluders}))


def test_members_that_nobody_heard_are_at_most_as_many_as_may_collude(net, sites):
    north, signed = sites["north"], net.bundle(NOW)
    strict(north, 1)
    code = signed.manifest.roster_code
    with pytest.raises(PolicyRefused, match="2: east, south"):
        north.accept(signed.to_bytes(), code, now=NOW)
    with pytest.raises(PolicyRefused, match="names of members"):
        north.accept(signed.to_bytes(), code, ["west"], NOW)
    with pytest.raises(PolicyRefused, match="2: east, south"):
        north.accept(signed.to_bytes(), code, ["north"], NOW)  # itself says nothing about the others
    assert not north.home.roster.exists()
    north.accept(signed.to_bytes(), code, ["south"], NOW)
    assert north.unheard(signed.manifest) == ("east",)


def test_a_coordinator_that_shows_two_halves_two_lists_is_found_out(tmp_path):
    """Six hospitals; each half is shown the other half's names over identities that the coordinator has."""
    halves = (("a", "b", "c"), ("d", "e", "f"))
    real = {name: site(tmp_path / name) for half in halves for name in half}
    for k, half in enumerate(halves):
        net = Federation.create(tmp_path / f"net-{k}", "net", "fl.example.org:8443", now=NOW)
        for name in sorted(real):
            joined(net, real[name] if name in half else site(tmp_path / f"made-up-{k}-{name}"), name)
        signed = net.bundle(NOW)
        code = signed.manifest.roster_code
        for name in half:
            strict(real[name], 1)
            others = [other for other in half if other != name]  # these do say the code
            with pytest.raises(PolicyRefused, match="3: "):
                real[name].accept(signed.to_bytes(), code, others, NOW)


def test_who_was_heard_need_not_be_again_unless_under_another_identity(net, sites, tmp_path):
    north, first = sites["north"], net.bundle(NOW)
    strict(north, 1)
    north.accept(first.to_bytes(), first.manifest.roster_code, ["south", "east"], NOW)
    west = site(tmp_path / "west")
    joined(net, west, "west", later(1))
    second = net.bundle(later(1))
    north.accept(second.to_bytes(), second.manifest.roster_code, now=later(1))
    assert north.unheard(second.manifest) == ("west",)
    made_up = replace(
        second.manifest.members["south"], identity=SigningKey.from_bytes(b"7" * 32).public_bytes
    )
    other = replace(second.manifest, members=second.manifest.members | {"south": made_up})
    assert north.unheard(other) == ("south", "west")


# ----------------------------------------------------------------------------------------------- renewal, rotation


def test_a_new_node_key_comes_into_use_with_the_bundle_that_has_it(net, sites):
    accepted(net, sites)
    north = sites["north"]
    old, request = north.node_key.read_bytes(), north.request("north", later(1))
    assert north.node_key.read_bytes() == old
    data = (north.folder / "request.json").read_bytes()
    assert net.sign(data, None, later(1)) == request
    signed = net.bundle(later(1))
    north.accept(signed.to_bytes(), None, now=later(1))
    assert north.node_key.read_bytes() != old
    assert NodeKey.load(north.node_key).public_pem == public_pem_of(
        signed.manifest.members["north"].certificate
    )
    with pytest.raises(PolicyRefused, match="an earlier one"):
        net.sign(data, None, later(2))


def test_another_size_needs_the_sites_code(net, sites):
    accepted(net, sites)
    north = sites["north"]
    north.home.policy.write_text(yaml.safe_dump({"declared_patients": 200, "min_colluders": 50}))
    request = north.request("north", later(1))
    data = (north.folder / "request.json").read_bytes()
    with pytest.raises(PolicyRefused, match="operator"):
        net.sign(data, None, later(1))
    net.sign(data, request.code, later(1))
    assert net.bundle(later(1)).manifest.members["north"].weight == 200


def test_an_authority_is_changed_without_losing_a_site(net, sites):
    before = accepted(net, sites)
    net.rotate(later(1))
    with pytest.raises(DataError, match="--finish"):
        net.rotate(later(1))
    between = net.bundle(later(1))
    with pytest.raises(DataError, match="the former one's"):
        net.finish_rotation()
    assert issued_by(net.tls_certificate, before.manifest.authority)  # sites without the bundle still connect
    for name in ("north", "south"):
        with pytest.raises(PolicyRefused, match="as they say it"):
            sites[name].accept(between.to_bytes(), None, now=later(1))
        sites[name].accept(between.to_bytes(), between.manifest.roster_code, now=later(1))
        assert sites[name].roots.read_text() == net.certificate + before.manifest.authority
    net.renew((), later(2))
    assert issued_by(net.tls_certificate, net.certificate)
    # a site that was away is still vouched to, until the end
    late = net.bundle(later(2))
    sites["east"].accept(late.to_bytes(), late.manifest.roster_code, now=later(2))
    net.finish_rotation()
    after = net.bundle(later(3))
    for one in sites.values():
        one.accept(after.to_bytes(), None, now=later(3))
        assert one.roots.read_text() == net.certificate
    assert [path.name for path in sorted(net.root.glob("authority-*"))] == [
        "authority-2.key",
        "authority-2.pem",
    ]
    with pytest.raises(DataError, match="begin one"):
        net.finish_rotation()


def test_a_site_that_slept_through_a_rotation_has_to_compare_again_in_a_new_home(net, sites):
    accepted(net, sites)
    net.rotate(later(1))
    net.bundle(later(1))
    net.renew((), later(1))
    net.finish_rotation()
    signed = net.bundle(later(1))
    with pytest.raises(DataError, match="vouches for"):
        sites["north"].accept(signed.to_bytes(), signed.manifest.roster_code, now=later(1))
