"""Requests, the list of members, and codes: what is well-formed is read back, and nothing else is believed."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg import canonical
from fedimg.crypto.authority import Authority
from fedimg.crypto.certificates import fingerprint
from fedimg.crypto.keys import SigningKey, framed
from fedimg.crypto.link_keys import NodeKey
from fedimg.errors import ConfigError, DataError
from fedimg.federation import Manifest, Member, SignedManifest, SiteRequest, same_code, spoken_code
from fedimg.federation.manifest import split_address

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
NAMES = ("north", "south", "east")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("papers")


@pytest.fixture(scope="module")
def keys(folder):
    """name → (identity, node key)."""
    return {
        name: (SigningKey.from_bytes(bytes([i + 1]) * 32), NodeKey.create(folder / f"{name}.key"))
        for i, name in enumerate(NAMES)
    }


@pytest.fixture(scope="module")
def authority(folder):
    return Authority.create(folder / "authority.key", None, NOW)


@pytest.fixture(scope="module")
def other(folder):
    return Authority.create(folder / "other.key", None, NOW)


@pytest.fixture(scope="module")
def manifest(keys, authority):
    members = {}
    for name, (identity, node) in keys.items():
        request = SiteRequest.read(SiteRequest.signed(name, 100, identity, node, NOW))
        members[name] = Member(request.identity, request.weight, authority.certify_node(request.csr, NOW))
    return Manifest("0" * 31 + "1", "net", 3, NOW, "fl.example.org:443", authority.certificate, "", members)


# ------------------------------------------------------------------------------------------------ codes


def test_a_code_is_five_groups_that_people_can_read_out():
    code = spoken_code("domain", b"one", b"two")
    assert [len(group) for group in code.split("-")] == [5] * 5
    assert not set(code) & set("ILOU")
    assert same_code(code.lower().replace("-", " "), code)
    assert same_code(code.replace("0", "O").replace("1", "l"), code)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_other_parts_have_another_code(one, other):
    assert same_code(spoken_code("d", *one), spoken_code("d", *other)) == (one == other)
    assert not same_code(spoken_code("d", *one), spoken_code("e", *one))


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 24), st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=1, max_size=1))
def test_a_code_with_another_letter_is_another(place, letter):
    letters = spoken_code("d", b"part").replace("-", "")
    changed = letters[:place] + letter + letters[place + 1 :]
    assert same_code(changed, letters) == (changed == letters)


# --------------------------------------------------------------------------------------------- requests


def test_a_request_is_read_as_it_was_made(keys):
    identity, node = keys["north"]
    data = SiteRequest.signed("north", 120, identity, node, NOW)
    request = SiteRequest.read(data)
    assert (request.name, request.weight, request.made) == ("north", 120, NOW)
    assert request.identity == identity.public_bytes
    later = SiteRequest.read(SiteRequest.signed("north", 120, identity, node, NOW + timedelta(seconds=1)))
    assert request.code != later.code


def read_as(read, document, place, bit):
    """What a document with one bit flipped is read as; None where it is refused."""
    changed = bytearray(document)
    changed[place % len(document)] ^= 1 << bit
    try:
        return read(bytes(changed))
    except DataError:
        return None


places = given(st.integers(0, 10**6), st.integers(0, 7))


@settings(deadline=None, max_examples=200)
@places
def test_no_bit_of_a_request_can_be_changed(keys, place, bit):
    """But in the case of a signature's digits."""
    document = SiteRequest.signed("north", 120, *keys["north"], NOW)
    assert read_as(SiteRequest.read, document, place, bit) in (None, SiteRequest.read(document))


def encodes(body):
    """Half of a surrogate pair does not: nobody can sign it, and still it can be sent."""
    try:
        canonical.encode(body)
    except UnicodeEncodeError:
        return False
    return True


def signed_anew(document, identity, changes):
    """A request of other content under a good signature."""
    body = canonical.decode(document, "request")["request"] | changes
    if not encodes(body):
        return json.dumps({"request": body, "signature": ""}).encode()
    return canonical.encode(
        {"request": body, "signature": canonical.sign(body, identity, "fedimg site request")}
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "west"},
        {"name": "../north"},
        {"name": ""},
        {"weight": 0},
        {"weight": True},
        {"weight": 1.5},
        {"weight": 10**9},
        {"made": "2026-02-31T00:00:00Z"},
        {"made": 0},
        {"csr": "none"},
        {"csr": None},
        {"version": 2},
        {"version": True},
        {"version": 1.0},
        {"format": "another"},
        {"csr": "\ud800"},
        {"made": "٢٠٢٦-01-01T00:00:00Z"},
        {"identity": "01" + "00" * 31},
        {"more": 1},
    ],
    ids=str,
)
def test_a_request_that_says_something_else_is_refused_though_it_is_signed(keys, changes):
    identity, node = keys["north"]
    document = SiteRequest.signed("north", 120, identity, node, NOW)
    assert SiteRequest.read(signed_anew(document, identity, {})).name == "north"
    with pytest.raises(DataError):
        SiteRequest.read(signed_anew(document, identity, changes))


def test_nobody_asks_with_a_key_that_is_anothers(keys):
    """North's identity over south's node key, and south's request under north's signature."""
    (north, _), (south, south_node) = keys["north"], keys["south"]
    document = SiteRequest.signed("north", 1, south, south_node, NOW)
    stolen = signed_anew(document, north, {"identity": north.public_bytes.hex()})
    with pytest.raises(DataError, match="one name and identity"):
        SiteRequest.read(stolen)


@pytest.mark.parametrize("name", ["", "-north", "a" * 33, "north/..", "nörd", "a b"])
def test_a_name_is_of_letters_that_do_nothing(keys, name):
    with pytest.raises(ConfigError):
        SiteRequest.signed(name, 1, *keys["north"], NOW)


# ---------------------------------------------------------------------------------------------- members


def test_a_bundle_is_read_as_it_was_made(manifest, authority):
    data = SignedManifest.made(manifest, [authority]).to_bytes()
    found = SignedManifest.read(data, NOW)
    assert found.manifest == manifest
    assert {name: c.name for name, c in found.manifest.certificates().items()} == {n: n for n in NAMES}


@settings(deadline=None, max_examples=200)
@places
def test_no_bit_of_a_bundle_can_be_changed(manifest, authority, place, bit):
    document = SignedManifest.made(manifest, [authority]).to_bytes()
    found = read_as(lambda data: SignedManifest.read(data, NOW), document, place, bit)
    assert found in (None, SignedManifest.read(document, NOW))


def changed_body(manifest, authority, changes):
    """A bundle of another content that the authority did sign."""
    body = manifest.body() | changes
    if not encodes(body):
        return json.dumps({"manifest": body, "signatures": {}}).encode()
    signature = authority.sign(framed([b"fedimg federation", canonical.encode(body)])).hex()
    return canonical.encode(
        {"manifest": body, "signatures": {fingerprint(authority.certificate).hex(): signature}}
    )


def swapped(manifest):
    """Two members' certificates change places."""
    members = manifest.body()["members"]
    one, other = (members[name]["certificate"] for name in ("north", "south"))
    members["north"] = members["north"] | {"certificate": other}
    members["south"] = members["south"] | {"certificate": one}
    return members


@pytest.mark.parametrize(
    "changes",
    [
        lambda m: {"number": 0},
        lambda m: {"number": True},
        lambda m: {"id": "x"},
        lambda m: {"address": "fl.example.org"},
        lambda m: {"address": "fl example:1"},
        lambda m: {"address": "fl.example.org:0"},
        lambda m: {"issued": "tomorrow"},
        lambda m: {"issued": "2027-11-22T12:00:00Z"},
        lambda m: {"members": swapped(m)},
        lambda m: {"members": {"NORTH": m.body()["members"]["north"]} | m.body()["members"]},
        lambda m: {"members": {"west": m.body()["members"]["north"]}},
        lambda m: {"members": {"north": m.body()["members"]["north"] | {"weight": -1}}},
        lambda m: {"members": {"north": m.body()["members"]["north"] | {"more": 1}}},
        lambda m: {"members": []},
        lambda m: {"revoked": {"gone": m.members["north"].identity.hex()}},
        lambda m: {"revoked": {"gone": "00"}},
        lambda m: {"authority": m.members["north"].certificate},
        lambda m: {"former": m.members["north"].certificate},
        lambda m: {"version": 2},
        lambda m: {"version": True},
        lambda m: {"issued": "2026-1-1T0:0:0Z"},
        lambda m: {"name": "a\nb"},
        lambda m: {"name": "\ud800"},
        lambda m: {"address": "[::1%x]:1"},
        lambda m: {"authority": m.authority + m.authority},
        lambda m: {"authority": "none" + m.authority},
        lambda m: {"former": m.authority + "x"},
        lambda m: {"revoked": {"NORTH": "ab" * 32}},
        lambda m: {
            "members": m.body()["members"] | {"west": m.body()["members"]["north"] | {"identity": "00" * 32}}
        },
    ],
)
def test_a_bundle_that_cannot_be_right_is_refused_though_it_is_signed(manifest, authority, changes):
    assert SignedManifest.read(changed_body(manifest, authority, {}), NOW).manifest == manifest
    with pytest.raises(DataError):
        SignedManifest.read(changed_body(manifest, authority, changes(manifest)), NOW)


def test_members_of_another_authority_are_none(manifest, other):
    signed = SignedManifest.made(replace(manifest, authority=other.certificate), [other])
    with pytest.raises(DataError, match="that the federation's authority signed"):
        SignedManifest.read(signed.to_bytes(), NOW)


def test_an_authority_signs_for_the_one_that_takes_over(manifest, authority, other, folder):
    members = {
        name: replace(member, certificate=other.certify_node(csr_of(name, member, folder), NOW))
        for name, member in manifest.members.items()
    }
    taken = replace(manifest, authority=other.certificate, former=authority.certificate, members=members)
    signed = SignedManifest.read(SignedManifest.made(taken, [other, authority]).to_bytes(), NOW)
    assert signed.signed_by(authority.certificate)
    with pytest.raises(DataError, match="former authority signed too"):
        SignedManifest.read(SignedManifest.made(taken, [other]).to_bytes(), NOW)
    without = replace(taken, former="")
    with pytest.raises(DataError, match="another form"):  # a signature that says nothing
        SignedManifest.read(SignedManifest.made(without, [other, authority]).to_bytes(), NOW)
    with pytest.raises(DataError, match="that its authority signed"):
        SignedManifest.read(SignedManifest.made(taken, [authority]).to_bytes(), NOW)


def csr_of(name, member, folder):
    return NodeKey.create(folder / f"{name}-{time.monotonic_ns()}.key").request(name, member.identity)


def test_the_code_of_all_members_is_theirs_and_not_their_certificates(manifest, authority, other, folder):
    code = manifest.roster_code
    north = manifest.members["north"]
    renewed = replace(north, certificate=authority.certify_node(csr_of("north", north, folder), NOW))
    later = replace(
        manifest, number=9, address="x.example.org:1", members=manifest.members | {"north": renewed}
    )
    assert later.roster_code == code
    fewer = {name: member for name, member in manifest.members.items() if name != "east"}
    for changed in (
        replace(manifest, id="f" * 32),
        replace(manifest, authority=other.certificate),
        replace(manifest, members=fewer),
        replace(manifest, members=fewer | {"West": manifest.members["east"]}),
        replace(manifest, members=manifest.members | {"north": replace(north, weight=101)}),
        replace(manifest, members=manifest.members | {"north": replace(north, identity=bytes(32))}),
    ):
        assert changed.roster_code != code


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("FL.example.org:443", ("fl.example.org", 443)),
        ("[::1]:80", ("::1", 80)),
        ("10.0.0.1:9", ("10.0.0.1", 9)),
    ],
)
def test_an_address_is_a_host_and_a_port(address, found):
    assert split_address(address) == found


@pytest.mark.parametrize(
    "address", ["", "host", ":443", "::1:443", "host:65536", "host:x", "-a:1", "a_b:1", "host:١"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ConfigError):
        split_address(address)
