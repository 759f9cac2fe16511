"""Volumes are learnt by the shipped experiments, and the study trains what `simulate` trains."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import fedimg

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "data" / "medmnist" / "adrenalmnist3d.npz"


@pytest.fixture(scope="module")
def study():
    return import_module("study_adrenal")


def _bodies(count, seed):
    """(N, 28, 28, 28) uint8 plates and (N, 1) labels: class 1 is thick, of the same volume, turned at random."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    images = np.zeros((count, 28, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        size = rng.permutation((4, 8, 8) if label else (2, 8, 16))
        start = [rng.integers(3, 25 - side) for side in size]
        image[tuple(slice(s, s + side) for s, side in zip(start, size, strict=True))] = 255
    return images, labels[:, None].astype(np.uint8)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A small set in the published form: 120 / 20 / 60 volumes."""
    path = tmp_path_factory.mktemp("generated") / "adrenalmnist3d.npz"
    arrays = {}
    for seed, (split, count) in enumerate((("train", 120), ("val", 20), ("test", 60))):
        images, labels = _bodies(count, seed)
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("private", [True, False])
def test_a_study_trains_what_simulate_trains(study, generated, private, tmp_path):
    """Bit by bit where there is noise, in the test mode in which both draw the same."""
    arm = study.Arm(1, 8.0 if private else None)
    overrides = [
        "rounds=6",
        "insecure_test_mode=true",
        f"runs={tmp_path}",
        "device=cpu",
        "audit.battery=false",
    ]
    overrides += ["model.centring_rounds=2"] if private else ["model.classical.projected=16"]
    config = study.configured(generated, arm, 3, overrides)
    found = study.one_run(config, study.load(generated, config))
    simulated = fedimg.simulate(
        [
            "data=medmnist",
            f"data.path={generated}",
            "data.dataset=adrenalmnist3d",
            *arm.overrides(),
            "sites=1",
            "seed=3",
            "compare=false",
            "evaluation.bootstrap=0",
            *overrides,
        ]
    )
    assert found.auroc == pytest.approx(simulated.summary["test"]["auroc"], abs=1e-12)


def test_thick_bodies_are_told_from_thin_ones_without_privacy(study, generated):
    config = study.configured(generated, study.Arm(3, None), 0, ["rounds=6"])
    assert study.one_run(config, study.load(generated, config)).auroc > 0.95


def test_an_arm_says_who_trains_under_what(study):
    assert study.configured(Path("x.npz"), study.Arm(8, 8.0), 0).privacy.mode == "distributed"
    pooled = study.configured(Path("x.npz"), study.Arm(1, 1.0), 0)
    assert (pooled.privacy.mode, pooled.privacy.epsilon, pooled.model.centring_rounds) == (
        "per_site",
        1.0,
        20,
    )
    assert study.configured(Path("x.npz"), study.Arm(1, None), 0).privacy.mode == "none"


@pytest.mark.skipif(not REAL.exists(), reason="needs shared/data/medmnist/adrenalmnist3d.npz")
def test_glands_are_learnt_under_privacy(study):
    """A fixed-seed run on a third of the training split, held against the validation split and chance."""
    runs = import_module("private_runs")
    overrides = ["insecure_test_mode=true", "rounds=60"]
    config = study.configured(REAL, study.Arm(1, 8.0), 0, overrides)
    network = study.build_model(config.model, 0)
    with np.load(REAL, allow_pickle=False) as npz:
        order = np.random.default_rng(0).permutation(len(npz["train_labels"]))[:400]
        train = npz["train_images"][order], npz["train_labels"].ravel()[order].astype(np.int64)
        held = npz["val_images"], npz["val_labels"].ravel().astype(np.int64)
    data, public = (runs.examples(*part, config, network) for part in (train, held))
    run = runs.train(config, runs.divided(data, config), len(data.labels), public)
    assert run.epsilon <= 8.0
    # 22 of 98 volumes: by chance 0.5 ± 0.07
    assert run.auroc > 0.75
