"""The scripts that tune and measure private training: their runs are `simulate`'s, their shortcuts agree."""

from __future__ import annotations

import gzip
import hashlib
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedimg
from fedimg.models import build_model

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "data" / "medmnist" / "pneumoniamnist_reconstructed.npz"
LEAST = {8.0: 0.93, 1.0: 0.88, 0.5: 0.8}


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(ROOT / "scripts"))
    names = (
        "generated_studies",
        "photographs",
        "private_runs",
        "tune_private",
        "study_pneumonia",
        "study_shared_noise",
    )
    yield {name: import_module(name) for name in names}
    sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture(scope="module")
def generated(scripts, tmp_path_factory):
    """A small set in the published form: 300 / 40 / 200 generated images."""
    path = tmp_path_factory.mktemp("generated") / "pneumoniamnist.npz"
    arrays = {}
    for seed, (split, count) in enumerate((("train", 300), ("val", 40), ("test", 200))):
        made = scripts["generated_studies"].pictures("opacity", count, seed)
        arrays |= {f"{split}_images": made.images, f"{split}_labels": made.labels[:, None].astype(np.uint8)}
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("sites", [1, 2])
def test_a_study_trains_what_simulate_trains(scripts, generated, sites, tmp_path):
    """Bit by bit, in the test mode in which both draw the same noise."""
    overrides = [
        "rounds=5",
        "model.centring_rounds=2",
        "insecure_test_mode=true",
        f"runs={tmp_path}",
        "compare=false",
        "device=cpu",
    ]
    study = scripts["study_pneumonia"]
    config = study.configured(generated, 3.0, sites, 3, overrides)
    data = study.load(generated, config)
    run = scripts["private_runs"].train(
        config, scripts["private_runs"].divided(data.train, config), data.stated, data.test
    )
    simulated = fedimg.simulate(
        [
            "data=medmnist",
            f"data.path={generated}",
            "experiment=scattering_private",
            "evaluation.bootstrap=0",
            f"sites={sites}",
            "privacy.epsilon=3",
            "seed=3",
            *overrides,
        ]
    )
    assert run.auroc == pytest.approx(simulated.summary["test"]["auroc"], abs=1e-12)


def test_arms_of_the_study_of_shared_noise_differ_by_their_noise_alone(scripts, generated):
    """Eight sites in the test mode: without noise to speak of, pooled data and secure sums learn the same model."""
    study = scripts["study_shared_noise"]
    also = ["rounds=6", "model.centring_rounds=2", "insecure_test_mode=true", "privacy.sampling_rate=1.0"]
    also += ["audit.battery=false"]
    data = scripts["study_pneumonia"].load(generated, study.configured(generated, 8.0, 1, 0, also))
    found = {
        arm: study.runs_of(arm, 80.0, generated, data, [0], "scattering", also)[0].auroc
        for arm in ("pooled", "shared", "missing-2")
    }
    assert found["shared"] == pytest.approx(found["pooled"], abs=0.01)
    assert abs(found["missing-2"] - found["pooled"]) < 0.05
    rows = [
        study.row(arm, 80.0, study.runs_of(arm, 80.0, generated, data, [0], "scattering", also), [])
        for arm in ("pooled",)
    ]
    assert "AUROC" in study.told(rows[0])
    assert (
        study.absent("missing-2", 0)(3) == study.absent("missing-2", 0)(3) != study.absent("missing-2", 0)(4)
    )
    assert len(study.absent("missing-1", 5)(9)) == 1
    assert study.absent("shared", 5)(9) == []


def test_a_search_keeps_the_best_and_tries_nothing_twice(scripts, monkeypatch):
    tune = scripts["tune_private"]
    asked = []

    def pretended(question, recipe, epsilon, seed):
        asked.append((recipe, epsilon, question, seed))
        steps_off = abs(np.log(recipe.learning_rate * recipe.l2_clip_norm * recipe.rounds / 16))
        # an average of 0.99 is lower by less than a tie
        return 1 - 0.1 * steps_off - 0.05 * abs(recipe.momentum - 0.9) - 0.0005 * (recipe.ema == 0.99)

    monkeypatch.setattr(tune, "one_run", pretended)
    search = tune.Search((8.0, 3.0), ["a", "b"], 2)
    chosen = tune.searched(search)
    assert chosen.learning_rate * chosen.l2_clip_norm * chosen.rounds == pytest.approx(16)
    assert (chosen.momentum, chosen.ema) == (0.9, 0.99)
    assert len(set(asked)) == len(asked) == 8 * len(search.tried)


@given(
    scores=st.lists(st.sampled_from([0.1, 0.2, 0.35, 0.5, 0.9]), min_size=1, max_size=12),
    bits=st.integers(0, 4095),
)
@settings(deadline=None)
def test_the_threshold_is_the_best_of_all(scripts, scores, bits):
    labels = np.array([bits >> k & 1 for k in range(len(scores))])
    values = np.array(scores)

    def accuracy(threshold):
        return np.mean((values >= threshold) == (labels == 1))

    best = max(accuracy(threshold) for threshold in (0.0, 0.15, 0.3, 0.4, 0.7, 1.0))
    assert accuracy(scripts["private_runs"].best_threshold(values, labels)) == best


def test_generated_questions_repeat_and_differ(scripts):
    studies = scripts["generated_studies"]
    for question in studies.QUESTIONS:
        first, again, other = (studies.pictures(question, 20, seed) for seed in (1, 1, 2))
        assert np.array_equal(first.images, again.images)
        assert not np.array_equal(first.images, other.images)
        assert first.images.shape == (20, 28, 28)
        assert set(first.labels.tolist()) == {0, 1}


def test_photographs_are_drawn_by_class_and_only_from_the_published_files(scripts, tmp_path, monkeypatch):
    photographs = scripts["photographs"]
    labels = np.repeat(np.arange(10, dtype=np.uint8), 40)
    images = np.repeat(labels, 28 * 28)  # every pixel is the class's number
    contents = {"images": bytes(16) + images.tobytes(), "labels": bytes(8) + labels.tobytes()}
    files = []
    for (name, header, _), whole in zip(photographs._FILES["test"], contents.values(), strict=True):
        (tmp_path / name).write_bytes(gzip.compress(whole))
        files.append((name, header, hashlib.sha256(whole).hexdigest()))
    with pytest.raises(ValueError, match="found other contents"):
        photographs.pictures(tmp_path, "coat-shirt", 20, 0, "test")
    monkeypatch.setitem(photographs._FILES, "test", files)
    drawn = photographs.pictures(tmp_path, "coat-shirt", 50, 0, "test")
    assert len(drawn.labels) == 50
    assert np.mean(drawn.labels) == photographs.POSITIVE
    pixels = drawn.images.reshape(50, -1)
    assert (pixels == np.where(drawn.labels == 1, 6, 4)[:, None]).all()
    most = photographs.pictures(tmp_path, "coat-shirt", 1000, 0, "test")
    assert int(most.labels.sum()) == 40  # all shirts there are, and coats in proportion
    assert len(most.labels) == 54


@pytest.mark.parametrize("epsilon", [8.0, 1.0, 0.5])
def test_the_recipe_learns_under_privacy(scripts, epsilon):
    """A fixed-seed run of the shipped recipe, on a part of the real set where it is present."""
    runs = scripts["private_runs"]
    config = scripts["study_pneumonia"].configured(
        REAL, epsilon, 1, 0, ["insecure_test_mode=true", "rounds=60", "model.centring_rounds=10"]
    )
    network = build_model(config.model, 0)
    if REAL.exists():
        with np.load(REAL, allow_pickle=False) as npz:
            order = np.random.default_rng(0).permutation(len(npz["train_labels"]))[:1200]
            train = npz["train_images"][order], npz["train_labels"].ravel()[order].astype(np.int64)
            held = npz["val_images"], npz["val_labels"].ravel().astype(np.int64)
    else:
        parts = [scripts["generated_studies"].pictures("opacity", n, s) for n, s in ((1200, 1), (500, 2))]
        train, held = ((part.images, part.labels) for part in parts)
    data, public = (runs.examples(*part, config, network) for part in (train, held))
    run = runs.train(config, runs.divided(data, config), len(data.labels), public)
    assert run.epsilon <= epsilon
    assert run.auroc > LEAST[epsilon]
