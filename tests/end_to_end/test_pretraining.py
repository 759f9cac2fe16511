"""A run that begins with weights from a file: what is said of them, everywhere, and what is not."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
from safetensors.torch import load_file, save_file

from fedimg import record
from fedimg.config import compose
from fedimg.models import build_model
from fedimg.models.origin import Origin
from fedimg.pretraining import Fitting, Plan, make
from fedimg.record.card import card_of
from fedimg.report import render_card_markdown
from tests.end_to_end.conftest import SMALL

NAME = 'chests <img src=x onerror="alert(1)"> & [more](http://x) | <script>'


@pytest.fixture
def weights(tmp_path):
    """Of the small runs' network, made as a user would."""
    config = compose([*SMALL, "sites=1", "data.cohort.patients_per_hospital=8"])
    make(Plan(config, "self_supervised", Fitting(4, 8), NAME), tmp_path / "secret-place")
    return tmp_path / "secret-place" / "weights.safetensors"


def test_a_run_says_where_its_weights_began_and_shows_no_markup_of_others(small_run, weights):
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    run = small_run(f"model.weights={weights}", "rounds=1")
    start = run.summary["start"]
    assert (start["file"], start["data"], start["method"], start["source"]) == (
        digest,
        "generated",
        "rotations",
        NAME,
    )
    document = json.loads((run.path / "record.json").read_text())
    assert document["record"]["model"]["start"] == start
    verified = record.verify((run.path / "record.json").read_bytes(), record.Evidence())
    assert [check.name for check in verified.checks if not check.passed] == []
    markdown = render_card_markdown(card_of(record.read((run.path / "record.json").read_bytes())))
    assert r"\<script\>" in markdown
    pages = [(run.path / name).read_text() for name in ("report.html", "privacy-card.html")]
    for page in pages:
        assert "Where the weights began" in page
        assert digest in page
        assert "nobody whose images that file may have been made of" in page
        assert "<script" not in page
        assert "<img src=x" not in page
        assert "chests &lt;img" in page
    for text in (*pages, markdown, json.dumps(document), json.dumps(run.summary)):
        assert "secret-place" not in text


def test_what_a_run_began_with_stays_said_though_the_file_is_another_one_later(
    small_run, config, weights, tmp_path
):
    """Stopped after a round; the file is replaced by one of unknown origin; the run goes on."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()

    def stop(stage, done, _total):
        if stage == "rounds" and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        small_run(f"model.weights={weights}", "rounds=2", progress=stop)
    save_file(load_file(weights), weights)  # the same numbers, and nothing said of them
    assert hashlib.sha256(weights.read_bytes()).hexdigest() != digest
    folder = stopped.value.run_path
    from fedimg.simulation import simulate

    run = simulate(compose([f"resume={folder}"]))
    assert run.summary["start"]["file"] == digest
    assert run.summary["start"]["data"] == "generated"


def test_a_file_that_says_nothing_is_of_unknown_origin_and_training_begins_with_it(small_run, tmp_path):
    """Almost no step is made: what is released is the file's, and not the seed's."""
    network = build_model(compose(SMALL).model, 0)
    other = network.state_dict(network.initial + 1.0)
    save_file(other, tmp_path / "w.safetensors", {"note": "from <b>nowhere</b>"})
    own = ("rounds=1", "training.private_learning_rate=1e-9", "aggregation=fedavg")
    run = small_run(f"model.weights={tmp_path / 'w.safetensors'}", *own)
    digest = hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    assert run.summary["start"] == Origin(digest).as_json()
    page = re.sub(r"\s+", " ", (run.path / "report.html").read_text())
    assert "Unknown origin: the file does not say how it was made." in page
    assert "nowhere" not in page
    released = load_file(run.path / "model.safetensors")
    assert all((released[name] - tensor).abs().max() < 1e-3 for name, tensor in other.items())


@pytest.mark.parametrize(
    ("experiment", "privacy", "weights"),
    [("segmentation", "per_site", "[1.0,3.0]"), ("detection", "none", "null")],
)
def test_tasks_of_voxels_run_with_copies_that_move(small_run, experiment, privacy, weights):
    run = small_run(
        f"experiment={experiment}",
        "model=segresnet",
        f"model.task={experiment}",
        "data.voxels=masks",
        "model.width=8",
        f"training.class_weights={weights}",
        "imaging.augmentation.copies=2",
        "imaging.augmentation.rotation_degrees=10",
        "imaging.augmentation.flip=true",
        "rounds=1",
        f"privacy={privacy}",
        "privacy.engine=vmap",
        "data.cohort.patients_per_hospital=8",
        "data.cohort.phantom_public_patients=4",
        "data.cohort.modalities=[CT]",
        "privacy.expected_batch_size=3",
    )
    assert run.summary["test"]
    assert run.summary["start"] is None
    assert json.loads((run.path / "record.json").read_text())["record"]["model"]["start"] is None
    shown = (run.path / "report.html").read_text()
    assert "Where the weights began" not in shown
    assert "augmented copies of an image" in shown
    assert ("class weights" in shown) == (weights != "null")
