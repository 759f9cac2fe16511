"""A bundle is refused before it is parsed, whatever was done to it."""

import json
import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedimg import canonical
from fedimg.bundle import MANIFEST, SIGNATURE, open_sealed, seal
from fedimg.bundle import manifest as station
from fedimg.bundle.contents import contents
from fedimg.crypto.keys import SigningKey, framed
from fedimg.errors import DataError

FILES = {"configs/metadata.json": b'{"a": 1}', "models/model.pt": b"\x00" * 100, "docs/README.md": b"# x\n"}


@pytest.fixture
def sealed(tmp_path, key):
    seal(tmp_path / "b", FILES, key)
    return tmp_path / "b"


@pytest.fixture
def parsed(monkeypatch):
    """What was parsed as JSON."""
    seen = []
    plain = canonical.decode

    def decode(data, what):
        seen.append(bytes(data))
        return plain(data, what)

    monkeypatch.setattr(canonical, "decode", decode)
    return seen


def test_what_was_sealed_is_what_is_opened(sealed, key):
    found = open_sealed(sealed, [key.public_bytes])
    assert dict(found.files) == FILES
    assert found.signer == key.public_bytes
    assert found.json("configs/metadata.json") == {"a": 1}
    assert found.digest == open_sealed(sealed, [os.urandom(32), key.public_bytes]).digest


def test_a_made_bundle_is_readable_whole(tmp_path, made, key):
    files = contents(made)
    seal(tmp_path / "b", files, key)
    assert dict(open_sealed(tmp_path / "b", [key.public_bytes]).files) == files


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_anywhere_is_refused(sealed, key, tmp_path, data):
    own = tmp_path / "flipped"
    shutil.rmtree(own, ignore_errors=True)
    shutil.copytree(sealed, own)
    file = data.draw(st.sampled_from([*FILES, MANIFEST, SIGNATURE]))
    content = bytearray((own / file).read_bytes())
    at = data.draw(st.integers(0, 8 * len(content) - 1))
    content[at // 8] ^= 1 << (at % 8)
    (own / file).write_bytes(content)
    with pytest.raises(DataError):
        open_sealed(own, [key.public_bytes])


@pytest.mark.parametrize("file", [MANIFEST, SIGNATURE])
def test_nothing_is_parsed_before_the_signature_holds(sealed, key, parsed, file):
    content = bytearray((sealed / file).read_bytes())
    content[-1] ^= 1
    (sealed / file).write_bytes(content)
    with pytest.raises(DataError):
        open_sealed(sealed, [key.public_bytes])
    assert parsed == []


def test_of_other_files_not_even_a_byte_is_parsed(sealed, key, parsed):
    (sealed / "configs/metadata.json").write_bytes(b'{"a": 2}')
    with pytest.raises(DataError, match="every file as it was signed"):
        open_sealed(sealed, [key.public_bytes])
    assert parsed == [(sealed / MANIFEST).read_bytes()]


def test_an_unknown_signer_is_refused_and_named(sealed, key, parsed):
    with pytest.raises(DataError, match=key.public_bytes.hex()[:16]):
        open_sealed(sealed, [SigningKey.from_bytes(os.urandom(32)).public_bytes])
    assert parsed == []


def test_a_manifest_signed_by_somebody_else_is_refused(sealed, key):
    other = SigningKey.from_bytes(os.urandom(32))
    forged = key.public_bytes + other.sign(framed([b"fedimg bundle 1", (sealed / MANIFEST).read_bytes()]))
    (sealed / SIGNATURE).write_bytes(forged)
    with pytest.raises(DataError, match="a manifest as it was signed"):
        open_sealed(sealed, [key.public_bytes])


def test_a_key_of_small_order_signs_for_nobody(sealed):
    weak = bytes(32)
    (sealed / SIGNATURE).write_bytes(weak + bytes(64))
    with pytest.raises(DataError, match="trusted here"):
        open_sealed(sealed, [weak])


def _more(folder):
    (folder / "scripts").mkdir()
    (folder / "scripts" / "evil.py").write_text("raise SystemExit")


def _less(folder):
    (folder / "docs/README.md").unlink()


def _link(folder):
    (folder / "docs/README.md").unlink()
    (folder / "docs/README.md").symlink_to("/etc/hostname")


def _linked_folder(folder):
    (folder / "docs").rename(folder.parent / "elsewhere")
    (folder / "docs").symlink_to(folder.parent / "elsewhere")


def _pipe(folder):
    os.mkfifo(folder / "docs" / "pipe")


def _longer(folder):
    with (folder / "models/model.pt").open("ab") as file:
        file.write(b"\x00")


@pytest.mark.parametrize("change", [_more, _less, _link, _linked_folder, _pipe, _longer])
def test_other_files_than_were_listed_are_refused(sealed, key, change):
    change(sealed)
    with pytest.raises(DataError):
        open_sealed(sealed, [key.public_bytes])


@pytest.mark.parametrize(
    "files",
    [
        {"../x": {"sha256": "0" * 64, "bytes": 1}},
        {"/etc/passwd": {"sha256": "0" * 64, "bytes": 1}},
        {"a": {"sha256": "0" * 64, "bytes": -1}},
        {"a": {"sha256": "0" * 64, "bytes": True}},
        {"a": {"sha256": 3, "bytes": 1}},
        {"a": 3},
        {f"f{k}": {"sha256": "0" * 64, "bytes": 1} for k in range(station.MOST_FILES + 1)},
        {"a": {"sha256": "0" * 64, "bytes": station.MOST_BYTES + 1}},
        [],
    ],
)
def test_a_signed_manifest_is_not_believed_blindly(sealed, key, files):
    """A signer may be careless, or broken into: names and sizes are judged still."""
    manifest = canonical.encode({"format": "fedimg-bundle-1", "files": files})
    (sealed / MANIFEST).write_bytes(manifest)
    (sealed / SIGNATURE).write_bytes(key.public_bytes + key.sign(framed([b"fedimg bundle 1", manifest])))
    with pytest.raises(DataError):
        open_sealed(sealed, [key.public_bytes])


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a//b", ".hidden", "a b", MANIFEST, "ü", "", "a/" * 200 + "b"]
)
def test_names_that_no_bundle_has_are_not_sealed(tmp_path, key, name):
    with pytest.raises(DataError):
        seal(tmp_path / "b", {name: b""}, key)
    assert not (tmp_path / "b").exists()


def test_nothing_is_overwritten(sealed, key):
    with pytest.raises(DataError, match="a new folder"):
        seal(sealed, FILES, key)


def test_a_file_exchanged_after_the_check_changes_nothing(sealed, key):
    found = open_sealed(sealed, [key.public_bytes])
    (sealed / "configs/metadata.json").write_bytes(json.dumps({"a": "other"}).encode())
    assert found.json("configs/metadata.json") == {"a": 1}
