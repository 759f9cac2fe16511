"""Weights from images that are nobody's secret, and from no others."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fedimg.cli import main
from fedimg.config import compose
from fedimg.errors import ConfigError, DataError, PolicyRefused
from fedimg.models import build_model
from fedimg.models.origin import read
from fedimg.pretraining import Fitting, Plan, make

CNN = ("model=cnn", "model.width=4", "imaging.image_size=[16,16]", "deid.workers=0")
COHORT = (
    "sites=1",
    "data.cohort.patients_per_hospital=8",
    "data.cohort.modalities=[CR]",
    "data.cohort.image_size=64",
)
QUICK = Fitting(epochs=1)


def bars(count, side=16, seed=0):
    """uint8 images that have an up and a down: a bright upper half, and noise."""
    chance = np.random.default_rng(seed)
    images = chance.integers(0, 80, (count, side, side))
    images[:, : side // 2] += 120
    return images.astype(np.uint8)


@pytest.fixture
def npz(tmp_path):
    path = tmp_path / "secret-folder.npz"
    np.savez(path, images=bars(60))
    return path


def public(path, *others):
    return compose([*CNN, "data=images", f"data.path={path}", "data.declared_public=true", *others])


def test_a_file_says_what_it_was_made_of_and_fits_the_network(tmp_path, npz):
    config = public(npz)
    made = make(Plan(config, "self_supervised", Fitting(8, 8, 0.01), "bars <b>of</b> mine"), tmp_path / "w")
    file = tmp_path / "w" / "weights.safetensors"
    assert read(file.read_bytes(), safetensors=True) == made.origin
    with safe_open(file, "pt") as opened:  # by another reader
        said = json.loads(opened.metadata()["fedimg"])
    assert (said["source"], said["data"]) == ("bars <b>of</b> mine", "declared_public")
    about = json.loads((tmp_path / "w" / "weights.json").read_text())
    assert about["file"] == made.origin.file
    assert about["images"] + about["held_out_images"] == 60
    assert about["held_out_loss"]["after"] < 0.7 * about["held_out_loss"]["before"]
    for text in (file.read_bytes(), (tmp_path / "w" / "weights.json").read_bytes()):
        assert b"secret-folder" not in text
    fresh, begun = (build_model(c.model, 0) for c in (config, public(npz, f"model.weights={file}")))
    assert begun.origin == made.origin
    assert fresh.origin is None
    kept = load_file(file)
    for name, tensor in begun.state_dict(begun.initial).items():
        assert (name in begun.head) == (name not in kept)
        expected = fresh.state_dict(fresh.initial)[name] if name in begun.head else kept[name]
        assert torch.equal(tensor, expected)
    assert not np.array_equal(fresh.initial, begun.initial)


def test_the_same_images_and_seed_give_the_same_weights_whatever_the_file_is_called(tmp_path, npz):
    other = tmp_path / "other.npz"
    np.savez(other, train_images=bars(60), test_images=bars(9, seed=5))
    made = [make(Plan(public(p), "self_supervised", QUICK), tmp_path / p.stem).origin for p in (npz, other)]
    assert made[0] == made[1]
    seeded = make(Plan(public(npz, "seed=1"), "self_supervised", QUICK), tmp_path / "seeded").origin
    assert seeded.file != made[0].file
    assert seeded.source_digest == made[0].source_digest
    np.savez(other, images=bars(60, seed=1))
    assert (
        make(Plan(public(other), "self_supervised", QUICK), tmp_path / "n").origin.source_digest
        != made[0].source_digest
    )


def test_a_folder_of_pictures_goes_through_the_identity_boundary(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, image in enumerate(bars(24, side=64)):
        Image.fromarray(image).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.png").write_bytes(b"\x89PNG nothing")
    config = compose(
        [
            *CNN,
            "data=images",
            f"data.path={folder}",
            "data.declared_public=true",
            "deid.allow_secondary_capture=true",
        ]
    )
    made = make(Plan(config, "self_supervised", QUICK), tmp_path / "w")
    assert made.about["images"] + made.about["held_out_images"] == 24


def test_generated_hospitals_train_the_network_s_own_task_alike_each_time(tmp_path):
    config = compose([*CNN, *COHORT])
    made = [make(Plan(config, "generated", QUICK), tmp_path / name) for name in ("a", "b")]
    assert made[0].origin == made[1].origin
    assert made[0].origin.data == "generated"
    assert made[0].origin.method == "supervised"
    unlabelled = make(Plan(config, "self_supervised", QUICK), tmp_path / "c").origin
    assert (unlabelled.data, unlabelled.method) == ("generated", "rotations")


@pytest.mark.parametrize("method", ["generated", "self_supervised"])
def test_a_network_of_voxels(tmp_path, method):
    voxels = (
        "experiment=segmentation",
        "model=basic_unet",
        "model.width=4",
        "imaging.image_size=[32,32]",
        "deid.workers=0",
    )
    config = compose([*voxels, *COHORT[:2], "data.cohort.modalities=[CT]", "imaging.augmentation.flip=true"])
    made = make(Plan(config, method, QUICK), tmp_path / "w")
    assert made.origin.method == ("supervised" if method == "generated" else "inpainting")
    assert made.about["held_out_loss"]["after"] < made.about["held_out_loss"]["before"]


@pytest.mark.parametrize(
    "model",
    [["model=cnn"], ["model=segresnet", "model.task=segmentation", "data.voxels=masks"]],
    ids=" ".join,
)
def test_volumes(tmp_path, model):
    np.savez(
        tmp_path / "v.npz",
        images=np.stack([bars(8, side=16, seed=k) for k in range(12)]).astype(np.float32) / 255,
    )
    size = ["imaging.dimensions=3", "imaging.image_size=[8,16,16]", "model.width=8"]
    data = ["data=images", f"data.path={tmp_path / 'v.npz'}", "data.declared_public=true"]
    made = make(Plan(compose([*model, *size, *data]), "self_supervised", QUICK), tmp_path / "w")
    assert made.origin.method == ("rotations" if model == ["model=cnn"] else "inpainting")


def test_images_that_nobody_declares_public_are_refused_before_they_are_read(tmp_path):
    for source in ("images", "nifti", "dicom"):
        config = compose([*CNN, f"data={source}", f"data.path={tmp_path / 'none'}"])
        with pytest.raises(PolicyRefused, match="a release that no ledger knows of"):
            make(Plan(config, "self_supervised", QUICK), tmp_path / "w")
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("overrides", "method", "words"),
    [
        ([*CNN, "data=images", "data.path=/none", "data.declared_public=true"], "generated", "data=cohort with --method generated"),
        (["model=scattering"], "generated", "learns more than its last layer"),
        (["experiment=logistic"], "generated", "learns more than its last layer"),
        (["experiment=several", "model=basic_unet"], "generated", "a network of one task"),
        (["experiment=several", "model=basic_unet"], "self_supervised", "a network of one task"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused_with_the_reason(tmp_path, overrides, method, words):
    with pytest.raises(ConfigError, match=words):
        make(Plan(compose(overrides), method, QUICK), tmp_path / "w")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arrays",
    [
        {"pictures": bars(9)},
        {"images": bars(9)[0]},
        {"images": bars(9).astype(np.int64)},
        {"images": np.full((9, 16, 16), np.nan, np.float32)},
        {"images": np.full((9, 16, 16), 2.0, np.float32)},
        {"images": np.array([{"code": 1}] * 9, dtype=object)},
        {"images": bars(1)},
        {"images": bars(0)},
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError):
        make(Plan(public(tmp_path / "a.npz"), "self_supervised", QUICK), tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_a_loss_that_is_no_number_leaves_no_file(tmp_path, npz):
    with pytest.raises(ConfigError, match="a loss that stays a number"):
        make(Plan(public(npz), "self_supervised", Fitting(3, 8, 1e30)), tmp_path / "w")
    assert not (tmp_path / "w").exists()
    for wrong in ({"epochs": 0}, {"batch_size": 0}, {"learning_rate": float("nan")}):
        with pytest.raises(ConfigError, match="--epochs and --batch-size from 1"):
            Fitting(**wrong)


def test_the_verb(tmp_path, npz, capsys):
    asked = [
        "pretrain",
        str(tmp_path / "w"),
        *CNN,
        "data=images",
        f"data.path={npz}",
        "--method",
        "self_supervised",
    ]
    assert main([*asked, "--epochs", "1"]) == 3
    assert "data.declared_public=true" in capsys.readouterr().err
    assert main([*asked, "data.declared_public=true", "--epochs", "1", "--json", "--source", "bars"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["data"], told["source"]) == ("declared_public", "bars")
    assert main([*asked, "data.declared_public=true", "--epochs", "1"]) == 4  # never over what is there
    assert main([*asked, "data.declared_public=true", "--source", "x" * 201]) == 2


def test_a_file_of_another_network_is_named_before_training(tmp_path, npz):
    save_file({"other": torch.zeros(1)}, tmp_path / "o.safetensors")
    with pytest.raises(ConfigError, match=r"model\.weights"):
        Plan(public(npz, f"model.weights={tmp_path / 'o.safetensors'}"), "self_supervised", QUICK)


def test_a_published_set_needs_no_declaration_and_has_its_name(tmp_path):
    """Its training images alone: others in the two other splits change nothing."""
    digests = []
    for seed in (0, 1):
        arrays = {f"{split}_images": bars(12, 28, seed) for split in ("val", "test")} | {
            "train_images": bars(30, 28)
        }
        labels = {
            f"{split}_labels": np.zeros((len(arrays[f"{split}_images"]), 1), np.uint8)
            for split in ("train", "val", "test")
        }
        path = tmp_path / f"pneumoniamnist-{seed}.npz"
        np.savez(path, **arrays, **labels)
        data = ("data=medmnist", f"data.path={path}", "data.partition=iid")
        made = make(Plan(compose([*CNN, *data]), "self_supervised", QUICK), tmp_path / f"w{seed}")
        assert made.origin.source == "pneumoniamnist"
        digests.append(made.origin.source_digest)
    assert digests[0] == digests[1]
