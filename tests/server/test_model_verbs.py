"""`fedimg server models`: a bundle is taken in, released, withdrawn, and told to the sites, as it is typed."""

import json
import re

import pytest

from fedimg.cli import main
from fedimg.federation.released import ReleasedModels
from server.model_registry import ModelRegistry
from tests.server.conftest import FINISHED
from tests.server.releasing import COORDINATOR, RELEASE_KEY


@pytest.fixture
def root(made, run_once):
    run_once.put_into(made.root)
    return made.root


@pytest.fixture
def key(tmp_path):
    file = tmp_path / "release.key.pub"
    file.write_text(f"ed25519:{RELEASE_KEY.public_bytes.hex()}\n")
    return str(file)


def said(capsys):
    return json.loads(capsys.readouterr().out)


def test_a_model_lives_from_its_bundle_to_the_list_of_the_sites(root, run_once, key, tmp_path, capsys):
    first = run_once.bundle(tmp_path / "1.0.0")
    second = run_once.bundle(tmp_path / "1.1.0", version="1.1.0", carried=b"")
    verb = ["server", "models"]
    assert main([*verb, "add", str(root), str(first), "--key", key, "--who", "ada"]) == 0
    shown = capsys.readouterr()
    assert re.fullmatch(r"nodule 1\.0\.0: candidate\nsha256 [0-9a-f]{64}\n", shown.out)
    assert shown.err == ""
    assert main([*verb, "add", str(root), str(second), "--key", key, "--who", "ada", "--json"]) == 0
    shown = capsys.readouterr()
    assert "note: the bundle carries no release record" in shown.err
    assert json.loads(shown.out)["state"] == "candidate"
    assert main([*verb, "release", str(root), "nodule", "1.0.0", "--why", "good"]) == 0
    assert main([*verb, "release", str(root), "nodule", "1.1.0"]) == 0
    assert (
        main([*verb, "withdraw", str(root), "nodule", "1.0.0", "--why", "too many calls", "--who", "eve"])
        == 0
    )
    capsys.readouterr()
    assert main([*verb, "list", str(root)]) == 0
    assert "too many calls" in capsys.readouterr().out
    assert main([*verb, "list", str(root), "--json"]) == 0
    rows = said(capsys)
    assert [(row["version"], row["state"], row["run"]) for row in rows] == [
        ("1.1.0", "released", FINISHED),
        ("1.0.0", "withdrawn", FINISHED),
    ]
    assert [one["state"] for one in rows[1]["history"]] == [
        "candidate",
        "released",
        "superseded",
        "withdrawn",
    ]
    assert rows[1]["history"][3]["who"] == "eve"
    assert rows[0]["epsilon"] > 0
    file = tmp_path / "list.json"
    assert main([*verb, "export", str(root), str(file), "--json"]) == 0
    assert said(capsys)["signer"] == f"ed25519:{COORDINATOR.public_bytes.hex()}"
    found = ReleasedModels.read(file.read_bytes(), COORDINATOR.public_bytes, None)
    assert {one.version: one.standing for one in found.models.values()} == {
        "1.0.0": "withdrawn",
        "1.1.0": "released",
    }


def test_another_bundle_under_a_known_version_is_refused(root, run_once, key, tmp_path, capsys):
    for number, (least, code) in enumerate(((2, 0), (3, 4))):
        bundle = run_once.bundle(tmp_path / str(number), least_images=least)
        assert main(["server", "models", "add", str(root), str(bundle), "--key", key]) == code
    assert "a name and version that no other bundle has" in capsys.readouterr().err


def test_what_is_refused_leaves_nothing(root, run_once, tmp_path, capsys):
    """Another signer, no key at all, an unknown run: each with its own code and words."""
    bundle = run_once.bundle(tmp_path / "b")
    other = "ed25519:" + COORDINATOR.public_bytes.hex()
    assert main(["server", "models", "add", str(root), str(bundle), "--key", other]) == 4
    assert "trusted here" in capsys.readouterr().err
    assert main(["server", "models", "add", str(root), str(bundle)]) == 2
    assert main(["server", "models", "add", str(root), str(bundle), "--key", "no-such-key"]) == 2
    unknown = run_once.bundle(tmp_path / "c", run="20990101-000000-ffff")
    mine = f"ed25519:{RELEASE_KEY.public_bytes.hex()}"
    assert main(["server", "models", "add", str(root), str(unknown), "--key", mine]) == 4
    assert "a run of this federation" in capsys.readouterr().err
    with ModelRegistry(root) as registry:
        assert registry.all() == ()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["release", "FOLDER", "nodule", "9"], 4, "a model of this federation"),
        (["withdraw", "FOLDER", "nodule", "9"], 2, "--why"),
        (["withdraw", "FOLDER", "nodule", "9", "--why", "x"], 4, "a model of this federation"),
        (["list", "/nowhere"], 4, "a federation's folder"),
        (["list"], 2, "folder"),
        ([], 2, "add|list|release|withdraw|export"),
    ],
)
def test_what_is_typed_wrongly_says_so(made, arguments, code, words, capsys):
    typed = [str(made.root) if one == "FOLDER" else one for one in arguments]
    assert main(["server", "models", *typed]) == code
    assert words in capsys.readouterr().err


def test_an_add_that_was_killed_is_done_again(root, run_once, key, tmp_path, capsys, monkeypatch):
    """Between what was verified and what was written: nothing is there, and the same command goes through."""
    bundle = run_once.bundle(tmp_path / "b")
    arguments = ["server", "models", "add", str(root), str(bundle), "--key", key]
    plain = ModelRegistry._enter

    def killed(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(ModelRegistry, "_enter", killed)
    assert main(arguments) == 130
    monkeypatch.setattr(ModelRegistry, "_enter", plain)
    with ModelRegistry(root) as registry:
        assert registry.all() == ()
        assert registry._connection.execute("SELECT COUNT(*) FROM model").fetchone() == (0,)
    assert main(arguments) == 0
    assert main(arguments) == 0  # and once more changes nothing
    with ModelRegistry(root) as registry:
        assert len(registry.all()) == 1
    capsys.readouterr()
