"""A site's folder: made once, ours alone, reopened with the same keys."""

from __future__ import annotations

import stat

import pytest

from fedimg.errors import DataError
from fedimg.home import SiteHome


def test_a_home_is_ours_alone_and_reopens_with_its_keys(tmp_path):
    made = SiteHome.create(tmp_path / "home", simulated=True)
    opened = SiteHome.open(tmp_path / "home")
    assert opened.simulated is True
    assert opened.signing_key.public_bytes == made.signing_key.public_bytes
    assert opened.site_key.derive("uid", project="p") == made.site_key.derive("uid", project="p")
    for path in (made.root, made.released, made.quarantine, made.cache):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path.name
    for file in made.root.iterdir():
        assert file.is_dir() or stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


def test_two_homes_share_no_key(tmp_path):
    first, second = (SiteHome.create(tmp_path / name, simulated=True) for name in "ab")
    assert first.site_key.derive("uid", project="p") != second.site_key.derive("uid", project="p")
    assert first.signing_key.public_bytes != second.signing_key.public_bytes


def test_a_home_is_not_made_over_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="expected an empty folder for a new home"):
        SiteHome.create(tmp_path, simulated=False)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("left", [(), ("site.key",), ("site.key", "signing.key")])
def test_a_making_that_was_killed_is_taken_up_with_its_keys(tmp_path, left):
    whole = SiteHome.create(tmp_path / "home", simulated=False)
    keys = {name: (whole.root / name).read_bytes() for name in left}
    for name in {"home.json", "site.key", "signing.key"} - set(left):
        (whole.root / name).unlink()
    made = SiteHome.create(whole.root, simulated=False)
    assert {name: (made.root / name).read_bytes() for name in left} == keys
    assert SiteHome.open(made.root).signing_key.public_bytes == made.signing_key.public_bytes


def test_a_home_that_lost_its_marker_is_not_made_anew(tmp_path):
    home = SiteHome.create(tmp_path / "home", simulated=False)
    (home.root / "home.json").unlink()
    (home.released / "file.dcm").write_bytes(b"x")
    with pytest.raises(DataError, match="expected an empty folder"):
        SiteHome.create(home.root, simulated=False)


@pytest.mark.parametrize("missing", ["home.json", "site.key", "signing.key"])
def test_an_unfinished_home_is_not_opened(missing, tmp_path):
    SiteHome.create(tmp_path / "home", simulated=False)
    (tmp_path / "home" / missing).unlink()
    with pytest.raises(DataError):
        SiteHome.open(tmp_path / "home")


def test_a_home_that_others_may_enter_is_refused(tmp_path):
    SiteHome.create(tmp_path / "home", simulated=False)
    (tmp_path / "home").chmod(0o750)
    with pytest.raises(DataError, match="expected a home folder of mode 0700; found mode 0750"):
        SiteHome.open(tmp_path / "home")


def test_an_unknown_version_is_refused(tmp_path):
    home = SiteHome.create(tmp_path / "home", simulated=False)
    (home.root / "home.json").write_text('{"version": 2, "simulated": false}')
    with pytest.raises(DataError, match="a home of version 1"):
        SiteHome.open(home.root)


def test_the_text_of_a_home_shows_no_secret(tmp_path):
    home = SiteHome.create(tmp_path / "home", simulated=True)
    assert (home.root / "site.key").read_bytes().hex() not in repr(home)
    assert "<SiteKey>" in repr(home)
