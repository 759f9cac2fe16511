"""From a run to a signed bundle by the verbs alone: what it says, what it promises, and what is refused."""

import json

import pytest
import torch

from fedimg.bundle import open_sealed
from fedimg.bundle.running import network_of
from fedimg.cli import main
from fedimg.config import load
from fedimg.config.keys import conf_folder
from fedimg.coordination.terms import own_network, terms_of
from fedimg.crypto.keys import SigningKey
from fedimg.record.model import weights_of_file

MORE = (
    "data.cohort.patients_per_hospital=200",
    "data.cohort.modalities=[CR]",
    "evaluation.validation_fraction=0.5",
    "rounds=2",
)


@pytest.fixture
def key(tmp_path, capsys):
    assert main(["bundle", "keygen", str(tmp_path / "release.key")]) == 0
    assert (tmp_path / "release.key").stat().st_mode & 0o777 == 0o600
    capsys.readouterr()
    return tmp_path / "release.key"


def make(run, out, key, *more):
    names = ["--name", "nodule", "--modality", "CT", "--body-part", "CHEST"]
    return main(["bundle", "make", str(run), str(out), "--key", str(key), *names, *more])


def test_a_run_becomes_a_bundle_that_gives_its_floats(small_run, tmp_path, key, capsys):
    run = small_run(*MORE, "privacy=none")
    assert make(run.path, tmp_path / "b", key, "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert main(["bundle", "verify", str(tmp_path / "b"), "--key", f"{key}.pub", "--json"]) == 0
    verified = json.loads(capsys.readouterr().out)
    assert (verified["verdict"], verified["digest"]) == ("pass", made["digest"])
    assert (verified["modalities"], verified["body_parts"]) == (["CT"], ["CHEST"])
    # some 200 patients held out: a threshold is promised, and a temperature fitted, from the sites' tables
    assert 0 <= verified["threshold"] <= 1
    assert verified["temperature"] != 1
    assert "no differential privacy" in made["guarantees"][0]
    assert "a sensitivity of 95%" in made["guarantees"][1]
    point = json.loads((tmp_path / "b/configs/metadata.json").read_text())["fedimg"]["operating_point"]
    called = f"{1 - point['specificity']['value']:.0%} of those without the finding are called"
    assert called in made["guarantees"][1]  # what the promise costs
    network = own_network(terms_of(load(run.path / "config.yaml"), run.path.name))
    tensors, _ = weights_of_file(run.path / "model.safetensors")
    said, logits = network_of(open_sealed(tmp_path / "b", [SigningKey.load(key).public_bytes]))
    images = torch.randn(3, *network.image_shape)
    wanted = network.apply(network.layout.flatten(tensors), network.features(images))
    assert torch.allclose(logits(images), wanted, atol=1e-6)
    assert said.imaging["image_size"] == [32, 32]


def test_groups_beside_it_change_the_noise_and_not_the_counts(small_run, tmp_path, key, capsys):
    run = small_run(*MORE, "privacy=none", "evaluation.subgroups=[sex]")
    assert make(run.path, tmp_path / "b", key, "--json") == 0
    assert json.loads(capsys.readouterr().out)["threshold"] is not None
    point = json.loads((tmp_path / "b/configs/metadata.json").read_text())["fedimg"]["operating_point"]
    assert 150 < point["positives"] + point["negatives"] < 250


def test_a_findings_own_promise_stands_where_no_other_is_asked_for(small_run, tmp_path, key, capsys):
    run = small_run(*MORE, "privacy=none")
    mine = tmp_path / "mine.yaml"
    shipped = (conf_folder() / "findings/lesion.yaml").read_text()
    asked = ["bundle", "make", str(run.path), "", "--key", str(key), "--finding", str(mine), "--json"]
    for number, (promised, more, wanted) in enumerate(
        [(0.9, [], "90%"), (0.9, ["--sensitivity", "0.8"], "80%"), (None, [], "95%")]
    ):
        mine.write_text(shipped + (f"sensitivity: {promised}\n" if promised else ""))
        asked[3] = str(tmp_path / f"made-{number}")
        assert main([*asked, *more]) == 0
        assert f"a sensitivity of {wanted}" in json.loads(capsys.readouterr().out)["guarantees"][1]
    mine.write_text(shipped + "sensitivity: 90\n")
    asked[3] = str(tmp_path / "refused")
    assert main(asked) == 2
    assert "--sensitivity" in capsys.readouterr().err


def test_a_private_run_says_its_epsilon_and_a_noised_table_promises_little(small_run, tmp_path, key, capsys):
    run = small_run("rounds=2")
    assert make(run.path, tmp_path / "b", key, "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert "ε = " in made["guarantees"][0]
    assert made["threshold"] is None  # sixteen patients, through the noise
    assert "no sensitivity is promised" in made["guarantees"][1]
    assert (tmp_path / "b/docs/record.json").read_bytes() == (run.path / "record.json").read_bytes()


def test_what_does_not_hold_together_is_not_released(small_run, tmp_path, key, capsys):
    run = small_run("rounds=1", "privacy=none")
    assert make(run.path, tmp_path / "b", key) == 0
    assert make(run.path, tmp_path / "b", key) == 4
    assert "a new folder" in capsys.readouterr().err
    other = small_run("rounds=1", "privacy=none", "seed=7")
    for word in (
        ["--modality", "ct"],
        ["--body-part", "Left Chest!"],
        ["--release", "1\n2"],
        ["--sensitivity", "95"],
    ):
        assert make(run.path, tmp_path / "d", key, *word) == 2
        assert not (tmp_path / "d").exists()
    renamed = run.path.rename(run.path.with_name("another-name"))
    capsys.readouterr()
    assert make(renamed, tmp_path / "c", key) == 4
    assert "its name again" in capsys.readouterr().err
    renamed.rename(run.path)
    (run.path / "model.safetensors").write_bytes((other.path / "model.safetensors").read_bytes())
    assert make(run.path, tmp_path / "c", key) == 4
    assert not (tmp_path / "c").exists()
    assert main(["bundle", "verify", str(tmp_path / "b"), "--key", "ed25519:" + "0" * 64]) == 4
    assert main(["bundle", "verify", str(tmp_path / "b"), "--key", "nonsense"]) == 2
    (tmp_path / "b/configs/train.json").write_text("{\"network_def\": \"$__import__('os').system('true')\"}")
    assert main(["bundle", "verify", str(tmp_path / "b"), "--key", f"{key}.pub"]) == 4


def test_outputs_that_are_no_classes_say_what_they_are(small_run, tmp_path, key, capsys):
    run = small_run(
        "rounds=1",
        "privacy=none",
        "model=scattering",
        "model.task=regression",
        "data.value=lesion_diameter_mm",
        "model.target_range=[0,80]",
        "data.cohort.modalities=[CR]",
    )
    assert make(run.path, tmp_path / "b", key) == 0
    (found,) = json.loads((tmp_path / "b/configs/metadata.json").read_text())["fedimg"]["outputs"]
    assert found == {"task": "regression", "from": 0, "to": 1, "shape": [1], "target_range": [0.0, 80.0]}
    capsys.readouterr()


def test_sites_with_models_of_their_own_have_none_to_release(small_run, tmp_path, key, capsys):
    run = small_run("training=fedbn", "rounds=2")
    assert make(run.path, tmp_path / "b", key) == 2
    assert "one model for all" in capsys.readouterr().err
