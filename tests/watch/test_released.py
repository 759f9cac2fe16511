"""How the models that work here stand with their coordinator: by a list that is checked, and never an older one."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedimg.crypto.keys import SigningKey
from fedimg.errors import DataError
from fedimg.federation.released import Listed, ReleasedModels
from sites.watch.released import FILE, check
from sites.watch.store.models import Registered

KEY = SigningKey.from_bytes(bytes(range(32)))
NOW = datetime(2026, 2, 1, 12, 0, 0, tzinfo=UTC)
SINCE = "2026-01-31T09:00:00Z"


def running(name, version, digest, role="active"):
    return Registered(digest, name, version, "tumour", Path("/none"), role, {})


WORKING = [
    running("heart", "1", "33" * 32),
    running("nodule", "1", "11" * 32),
    running("nodule", "2", "22" * 32, "shadow"),
    running("own", "1", "44" * 32),
]


def listed(at=NOW, two="released"):
    models = (
        Listed("nodule", "1", "11" * 32, "withdrawn", SINCE, "misses small ones"),
        Listed("nodule", "2", "22" * 32, two, SINCE, ""),
        Listed("heart", "1", "33" * 32, "superseded", SINCE, "version 2 was released"),
        Listed("own", "1", "55" * 32, "withdrawn", SINCE, "another bundle of this name"),
    )
    return ReleasedModels("ab" * 16, at, {one.digest: one for one in models})


@pytest.fixture
def file(tmp_path):
    found = tmp_path / "list.json"
    found.write_bytes(listed().signed(KEY))
    return found


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_each_working_model_stands_somewhere_the_withdrawn_ones_first(home, file):
    found = check(home, file, KEY.public_bytes, WORKING, NOW)
    assert [(one.name, one.version, one.role, one.standing, one.why) for one in found] == [
        ("nodule", "1", "active", "withdrawn", "misses small ones"),
        ("heart", "1", "active", "superseded", "version 2 was released"),
        ("nodule", "2", "shadow", "released", ""),
        ("own", "1", "active", "not listed", ""),  # a name may be anybody's: the digest is another
    ]
    assert (home / FILE).read_bytes() == file.read_bytes()
    assert (home / FILE).stat().st_mode & 0o077 == 0


def test_an_older_list_is_refused_and_the_later_one_kept(home, file):
    later = home.parent / "later.json"
    later.write_bytes(listed(NOW + timedelta(hours=1)).signed(KEY))
    check(home, later, KEY.public_bytes, WORKING, NOW + timedelta(hours=2))
    with pytest.raises(DataError, match="an earlier one"):
        check(home, file, KEY.public_bytes, WORKING, NOW + timedelta(hours=2))
    assert (home / FILE).read_bytes() == later.read_bytes()
    check(home, later, KEY.public_bytes, WORKING, NOW + timedelta(hours=2))  # the same again


def test_a_withdrawal_is_not_taken_back(home, file):
    check(home, file, KEY.public_bytes, WORKING, NOW)
    own = listed(NOW + timedelta(hours=1))
    back = replace(own, models={k: replace(one, standing="released") for k, one in own.models.items()})
    file.write_bytes(back.signed(KEY))
    with pytest.raises(DataError, match="takes a withdrawal back"):
        check(home, file, KEY.public_bytes, WORKING, NOW + timedelta(hours=2))


def test_what_the_pinned_key_has_not_signed_is_refused_and_not_kept(home, file):
    stranger = SigningKey.from_bytes(os.urandom(32))
    file.write_bytes(listed().signed(stranger))
    with pytest.raises(DataError, match="the pinned key"):
        check(home, file, KEY.public_bytes, WORKING, NOW)
    file.write_bytes(listed().signed(KEY).replace(b"superseded", b"released"))
    with pytest.raises(DataError, match="as the coordinator signed it"):
        check(home, file, KEY.public_bytes, WORKING, NOW)
    file.unlink()
    with pytest.raises(DataError, match="a readable list"):
        check(home, file, KEY.public_bytes, WORKING, NOW)
    assert not (home / FILE).exists()


def test_a_list_that_was_kept_and_changed_by_somebody_is_not_passed_over(home, file):
    (home / FILE).write_bytes(b"{}")
    with pytest.raises(DataError, match="a list of released models"):
        check(home, file, KEY.public_bytes, WORKING, NOW)


def test_another_pinned_key_does_not_forget_what_was_accepted(home, file):
    check(home, file, KEY.public_bytes, WORKING, NOW)
    new = SigningKey.from_bytes(os.urandom(32))
    file.write_bytes(listed(NOW + timedelta(hours=1)).signed(new))
    with pytest.raises(DataError, match=r"move released-models\.json of the watcher's home away"):
        check(home, file, new.public_bytes, WORKING, NOW + timedelta(hours=2))
