"""From a run to a prediction by the verbs; and what is predicted of a file is what training's evaluation has of it."""

from __future__ import annotations

import csv
import hashlib
import json

import numpy as np
import pytest
import yaml
from scipy.special import expit, logit

from fedimg import intake
from fedimg.cli import main
from fedimg.config import load as load_config
from fedimg.coordination.terms import own_network, terms_of
from fedimg.crypto.keys import SigningKey
from fedimg.dicom.original import open_original
from fedimg.dicom.refusal import Quarantined
from fedimg.home import SiteHome
from fedimg.imaging.cache import VolumeCache
from fedimg.imaging.loading import grouped, load_dataset
from fedimg.intake.released import decoder
from fedimg.prediction.loading import load
from fedimg.prediction.predicting import predict
from fedimg.record.model import weights_of_file


@pytest.fixture
def key(tmp_path, capsys):
    assert main(["bundle", "keygen", str(tmp_path / "release.key")]) == 0
    capsys.readouterr()
    return tmp_path / "release.key"


def make(run, out, key, *more):
    return main(["bundle", "make", str(run), str(out), "--key", str(key), *more])


def originals_by_pixels(run):
    """SHA-256 of the pixels in units → original file."""
    found = {}
    for path in sorted((run / "source").rglob("*.dcm")):
        try:
            found[hashlib.sha256(open_original(path).image.pixels_DHW.tobytes()).hexdigest()] = path
        except Quarantined:
            continue
    return found


@pytest.mark.parametrize(
    "more",
    [
        ("data.cohort.modalities=[CR,CT]",),
        ("imaging=volume", "imaging.image_size=[8,16,16]", "data.cohort.modalities=[CT]"),
    ],
    ids=["images", "volumes"],
)
def test_an_original_has_the_score_of_its_released_file(small_run, tmp_path, key, capsys, more):
    run = small_run("rounds=1", "privacy=none", "data.cohort.patients_per_hospital=10", *more)
    assert make(run.path, tmp_path / "b", key, "--name", "x") == 0
    model = load(tmp_path / "b", [SigningKey.load(key).public_bytes])
    config = load_config(run.path / "config.yaml")
    network = own_network(terms_of(config, run.path.name))
    tensors, _ = weights_of_file(run.path / "model.safetensors")
    vector = network.layout.flatten(tensors).double().numpy()
    originals = originals_by_pixels(run.path)
    home = SiteHome.open(next(path for path in sorted((run.path / "sites").iterdir()) if path.is_dir()))
    cache = VolumeCache(home.cache, home.site_key.derive("cache", project="fedimg"))
    decode = decoder(home)
    compared = 0
    for group in grouped(intake.admitted(home, config.deid.profile), config.imaging.unit)[:24]:
        files = [
            originals[hashlib.sha256(decode(record).pixels_DHW.tobytes()).hexdigest()] for record in group
        ]
        data = load_dataset(group, decode, cache, config.imaging).dataset
        if not len(data.images):
            continue
        wanted = network.outputs(vector, network.features(data.images))[:, 1].max()
        wanted = expit(logit(wanted) / model.metadata.temperature)
        found = predict(model, files).prediction
        assert found.score == pytest.approx(wanted, abs=1e-6)
        compared += 1
    assert compared >= 8


FINDING = {
    "name": "Generated lesion",
    "description": "For a test.",
    "kind": "tumour",
    "modalities": ["CT"],
    "body_parts": ["CHEST"],
    "least_images": 2,
    "findings": [{"class": "lesion", "code": ["52988006", "SCT", "Lesion"]}],
}


def test_a_class_among_several_heads_has_a_threshold_and_studies_are_looked_at(
    small_run, tmp_path, key, capsys
):
    run = small_run(
        "experiment=several",
        "model=filter_bank",
        "imaging.image_size=[24,24]",
        "training.local_epochs=1",
        "data.cohort.patients_per_hospital=24",
        "data.cohort.modalities=[CT]",
        "data.cohort.max_studies=1",
        "evaluation.validation_fraction=0.5",
        "rounds=2",
    )
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(FINDING))
    promise = ("--sensitivity", "0.5", "--confidence", "0.6")  # it takes two positives, which every draw has
    assert (
        make(run.path, tmp_path / "b", key, "--finding", str(tmp_path / "mine.yaml"), *promise, "--json") == 0
    )
    made = json.loads(capsys.readouterr().out)
    assert 0 <= made["threshold"] <= 1
    assert "a sensitivity of 50%" in made["guarantees"][1]
    said = load(tmp_path / "b", [SigningKey.load(key).public_bytes]).metadata
    assert (said.kind, said.least_images, said.modalities) == ("tumour", 2, ("CT",))
    assert said.classes == ("no lesion", "lesion")
    assert said.operating_point.threshold == said.threshold
    assert said.operating_point.sensitivity.value >= 0.5
    assert [one.task for one in said.outputs] == ["classification", "regression", "segmentation"]

    hospital = min((run.path / "source").glob("*/hospital-1"))
    done = main(
        [
            "predict",
            str(tmp_path / "b"),
            str(hospital),
            str(tmp_path / "out"),
            "--key",
            f"{key}.pub",
            "--json",
        ]
    )
    assert done == 0
    found = json.loads(capsys.readouterr().out)
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found["rows"])
    analysed = [row for row in rows if row["state"] == "analysed"]
    assert found["analysed"] == len(analysed) >= 20
    # two rounds teach little, but the threshold was set so that 80 % of patients with a lesion are called
    manifest = csv.DictReader((hospital / "manifest.csv").read_text().splitlines())
    sick = {hospital / row["path"] for row in manifest if row["label"] == "1"}
    series = {open_original(path).series_uid for path in sorted(sick)}
    own = [row for row in analysed if row["series_uid"] in series]
    assert np.mean([row["called"] == "1" for row in own]) > 0.6
    assert {row["reason"] for row in rows if row["state"] != "analysed"} >= {
        "not images as a modality acquires them"  # the masks
    }


def test_a_finding_is_of_the_models_classes_and_options_count_more(small_run, tmp_path, key, capsys):
    run = small_run("rounds=1", "privacy=none")
    asked = ("--modality", "CR", "--name", "Mine", "--kind", "other", "--least-images", "3")
    assert make(run.path, tmp_path / "b", key, "--finding", "lesion", *asked) == 0
    said = load(tmp_path / "b", [SigningKey.load(key).public_bytes]).metadata
    assert (said.name, said.kind, said.modalities, said.least_images) == ("Mine", "other", ("CR",), 3)
    assert said.body_parts == ("CHEST",)
    assert said.findings[0].code.meaning == "Lesion"
    capsys.readouterr()
    for number, (change, words) in enumerate(
        [
            ({"findings": [{"class": "nodule", "code": ["1", "SCT", "x"]}]}, "(no lesion, lesion)"),
            ({"findings": [{"class": "lesion", "code": ["1", "SCT"]}]}, "findings[0].code"),
            ({"findings": [{"class": "lesion", "code": ["1", "SCT", "a\\b"]}]}, "findings[].code"),
            ({"kinds": "tumour"}, "did you mean kind?"),
            ({"kind": "cancer"}, "one of tumour, cardiac, stroke, other"),
            ({"least_images": 0}, "least images"),
            ({"modalities": ["ct"]}, "in capitals"),
        ]
    ):
        (tmp_path / "f.yaml").write_text(yaml.safe_dump(FINDING | change))
        assert make(run.path, tmp_path / f"no{number}", key, "--finding", str(tmp_path / "f.yaml")) == 2
        assert words in capsys.readouterr().err
        assert not (tmp_path / f"no{number}").exists()
    assert make(run.path, tmp_path / "n", key, "--finding", "nodulle") == 2
    assert "lesion" in capsys.readouterr().err
    assert make(run.path, tmp_path / "n", key) == 2
