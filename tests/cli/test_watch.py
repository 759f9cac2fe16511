"""`fedimg watch` beside a watcher: its token, where things stand, which models speak, whether the trail is whole."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from known_studies import outlining_bundle

from fedimg.cli import main
from fedimg.crypto.keys import SigningKey
from fedimg.federation.released import Listed, ReleasedModels
from sites.watch import bundles
from sites.watch.counts import Counts
from sites.watch.dicomweb_poll_memory import Key, Memory, State
from sites.watch.kept_counts import KeptCounts
from sites.watch.settings import WatchSettings
from sites.watch.store import audit
from sites.watch.store.database import Database
from sites.watch.store.models import Models

KEY = SigningKey.from_bytes(bytes(range(32)))


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    return [outlining_bundle(root / version, KEY, version=version) for version in ("1.0.0", "2.0.0")]


@pytest.fixture
def settings(tmp_path, releases):
    """Of a watcher that has been started once."""
    file = tmp_path / "watch.yaml"
    said = {
        "home": "home",
        "bundles": [str(releases[0])],
        "trusted_keys": [f"ed25519:{KEY.public_bytes.hex()}"],
    }
    file.write_text(yaml.safe_dump(said))
    (tmp_path / "home").mkdir()
    database = Database(tmp_path / "home")
    one, _ = bundles.verified(releases[0], bundles.trusted_keys(WatchSettings.load(file)))
    Models(database).add(one, "settings", 1.0)
    database.close()
    return file


def said(capsys):
    return capsys.readouterr().out


def test_models_are_added_made_to_speak_and_taken_back(settings, releases, capsys):
    assert main(["watch", "models", str(settings), "--add", str(releases[1]), "--json"]) == 0
    rows = {row["version"]: row for row in json.loads(said(capsys))}
    assert {version: row["role"] for version, row in rows.items()} == {"1.0.0": "active", "2.0.0": "shadow"}
    begin = rows["2.0.0"]["digest"][:12]
    assert main(["watch", "models", str(settings), "--active", begin, "--json"]) == 0
    rows = {row["version"]: row["role"] for row in json.loads(said(capsys))}
    assert rows == {"1.0.0": "shadow", "2.0.0": "active"}
    assert main(["watch", "models", str(settings), "--retired", begin]) == 0
    assert "retired" in said(capsys)
    assert main(["watch", "models", str(settings), "--active", "zz"]) == 4
    assert "0 models" in capsys.readouterr().err


def test_a_digest_of_no_model_or_of_several_changes_nothing(settings, releases, capsys):
    assert main(["watch", "models", str(settings), "--add", str(releases[1]), "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    for begin in ("z", ""):
        assert main(["watch", "models", str(settings), "--active", begin]) == 4
    said = capsys.readouterr().err
    assert "those of 0 models" in said
    assert "SETTINGS` lists them" in said
    assert main(["watch", "models", str(settings), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == before


def test_a_bundle_of_another_key_is_not_added(settings, tmp_path, capsys):
    foreign = outlining_bundle(tmp_path / "foreign", SigningKey.from_bytes(b"x" * 32), version="3.0.0")
    assert main(["watch", "models", str(settings), "--add", str(foreign)]) == 4
    assert "trusted here" in capsys.readouterr().err


def test_the_token_is_made_once_and_anew_when_asked(settings, capsys):
    assert main(["watch", "token", str(settings)]) == 0
    first = said(capsys)
    assert main(["watch", "token", str(settings)]) == 0
    assert said(capsys) == first
    assert main(["watch", "token", str(settings), "--new"]) == 0
    assert said(capsys) != first


def test_status_and_audit_read_a_store(settings, capsys):
    assert main(["watch", "status", str(settings), "--json"]) == 0
    names = ("studies", "jobs", "alerts", "pictures", "deliveries", "refused")
    assert json.loads(said(capsys)) == {name: {} for name in names}
    assert main(["watch", "audit", str(settings)]) == 0
    assert said(capsys).startswith("1 entries, none changed; head ")
    store = settings.parent / "home" / "watch.sqlite"
    database = Database(store.parent)
    audit.note(database, "console", "view", "study", 2.0)
    database.close()
    connection = sqlite3.connect(store)
    connection.executescript("DROP TRIGGER audit_is_not_changed")
    connection.execute("UPDATE audit SET who = 'nobody' WHERE sequence = 1")
    connection.commit()
    connection.close()
    assert main(["watch", "audit", str(settings)]) == 4
    assert "from entry 1 on" in capsys.readouterr().err


def test_status_says_what_was_polled(settings, capsys):
    assert main(["watch", "status", str(settings), "--json"]) == 0
    assert "polled" not in json.loads(said(capsys))
    (settings.parent / "home" / "spool").mkdir()
    memory = Memory(settings.parent / "home" / "spool")
    memory.settle(Key(b"a", "instance", 1), State.TAKEN)
    memory.charge(Key(b"b", "instance", 1), 0.0)
    memory.trouble("denied")
    memory.close()
    assert main(["watch", "status", str(settings), "--json"]) == 0
    assert json.loads(said(capsys))["polled"] == {"taken": 1, "failing": 1, "trouble: denied": 1}
    assert main(["watch", "status", str(settings)]) == 0
    assert "trouble: denied" in said(capsys)


def test_status_says_what_was_refused_and_why_over_all_starts(settings, capsys):
    database = Database(settings.parent / "home")
    for count in (3, 2):  # two starts
        counts = Counts()
        kept = KeptCounts(counts, database)
        counts.add("refused.unsafe_structure", count)
        counts.add("received", 100)
        kept.tick(1.0)
        kept.tick(2.0)
        counts.add("full")
        kept.tick(3.0)
    database.close()
    assert main(["watch", "status", str(settings), "--json"]) == 0
    assert json.loads(said(capsys))["refused"] == {"full": 2, "unsafe_structure": 5}
    assert main(["watch", "status", str(settings)]) == 0
    assert "unsafe_structure" in said(capsys)


def test_a_watched_folder_that_is_missing_is_named_at_the_start(settings, tmp_path, capsys):
    there = yaml.safe_load(settings.read_text())
    missing = str(tmp_path / "not-mounted")
    settings.write_text(yaml.safe_dump(there | {"folder": {"path": missing}}))
    assert main(["watch", "start", str(settings)]) == 2
    found = capsys.readouterr().err
    assert "folder.path" in found
    assert missing in found


def test_before_the_first_start_there_is_nothing_to_read(tmp_path, capsys):
    file = tmp_path / "watch.yaml"
    file.write_text(yaml.safe_dump({"home": "home", "bundles": ["b"], "trusted_keys": ["k"]}))
    assert main(["watch", "status", str(file)]) == 4
    assert "start the watcher once" in capsys.readouterr().err


def test_models_are_checked_against_their_coordinators_list(settings, releases, tmp_path, capsys):
    main(["watch", "models", str(settings), "--add", str(releases[1]), "--json"])
    first, second = (row["digest"] for row in json.loads(said(capsys)))
    file, verb = (
        tmp_path / "list.json",
        ["watch", "models", str(settings), "--check", str(tmp_path / "list.json")],
    )

    def listed(standing, minutes=0):
        at = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=minutes)
        since = "2026-01-31T09:00:00Z"
        one = Listed("other words", "1.0.0", first, standing, since, "its words are not for a name")
        file.write_bytes(ReleasedModels("ab" * 16, at, {first: one}).signed(KEY))

    listed("released")
    assert main(verb) == 2  # no key is pinned
    assert "coordinator_key in the settings" in capsys.readouterr().err
    pinned = yaml.safe_load(settings.read_text()) | {"coordinator_key": "coordinator.key.pub"}
    settings.write_text(yaml.safe_dump(pinned))
    (tmp_path / "coordinator.key.pub").write_text(f"ed25519:{KEY.public_bytes.hex()}\n")
    assert main([*verb, "--json"]) == 0
    found = {row["digest"]: row["standing"] for row in json.loads(said(capsys))}
    assert found == {first: "released", second: "not listed"}
    listed("withdrawn", 1)
    assert main(verb) == 1
    shown = capsys.readouterr()
    assert "withdrawn" in shown.out
    assert "1 of the models that work here withdrawn" in shown.err
    listed("released")
    assert main(verb) == 4  # an earlier one
    assert "an earlier one" in capsys.readouterr().err
    listed("withdrawn", 2)
    assert main([*verb, "--retired", first]) == 0  # it works no longer
    assert "withdrawn" not in said(capsys)
