import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import ConfigError, DataError
from fedimg.sources import DataConfig, declared, load
from fedimg.sources.fetch import md5_of
from fedimg.sources.medmnist import read_npz, set_name
from fedimg.sources.medmnist_sets import SETS, address

REAL = Path(__file__).parents[3] / "shared/data/medmnist"


def real(name):
    if not (REAL / name).is_file():
        pytest.skip(f"../shared/data/medmnist/{name} is absent")
    return REAL / name


@pytest.fixture
def small(tmp_path):
    """A file of the published form: train sorted by class, as some copies are."""

    def write(name="pneumoniamnist_small.npz", **changes):
        rng = np.random.default_rng(0)
        arrays = {}
        for split, count in (("train", 40), ("val", 10), ("test", 12)):
            arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            arrays[f"{split}_labels"] = np.repeat([0, 1], [count // 4, count - count // 4])[:, None].astype(
                np.uint8
            )
        path = tmp_path / name
        np.savez(path, **(arrays | changes))
        return path

    return write


def config(path, **changes):
    return DataConfig(**({"name": "medmnist", "path": str(path), "partition": "iid"} | changes))


@pytest.mark.parametrize("validation", ["aside", "sites"])
@pytest.mark.parametrize("partition", ["iid", "dirichlet"])
def test_every_training_image_is_at_one_site_and_test_is_public(small, tmp_path, validation, partition):
    path = small()
    manifests = load(config(path, use_validation=validation, partition=partition), tmp_path, 3, 0)
    assert set(manifests) == {"public", "site-1", "site-2", "site-3"}
    with np.load(path) as npz:
        truth = {
            f"{split}-image-{i:06d}": (npz[f"{split}_images"][i], int(npz[f"{split}_labels"][i, 0]))
            for split in ("train", "val", "test")
            for i in range(len(npz[f"{split}_labels"]))
        }
    seen = []
    for site, manifest in manifests.items():
        assert manifest.items == ()
        assert manifest.unit == "image"
        assert manifest.public_data
        for image, label, key in zip(
            manifest.arrays.images, manifest.arrays.labels, manifest.arrays.patient_keys, strict=True
        ):
            np.testing.assert_array_equal(image[0], truth[key][0])
            assert label == truth[key][1]
            assert key.startswith("test-") == (site == "public")
            seen.append(key)
    wanted = ("train", "test") if validation == "aside" else ("train", "val", "test")
    assert sorted(seen) == sorted(k for k in truth if k.split("-")[0] in wanted)


def test_a_file_sorted_by_class_gives_mixed_sites(tmp_path):
    path = real("pneumoniamnist_reconstructed.npz")
    manifests = load(config(path), tmp_path, 8, 0)
    sites = {s: m for s, m in manifests.items() if s != "public"}
    with np.load(path) as npz:
        labels = npz["train_labels"].ravel()
    share = labels.mean()
    assert np.count_nonzero(np.diff(labels.astype(int))) < 10  # sorted indeed
    for manifest in sites.values():
        # Binomial s.d. of a share of 588: √(p(1−p)/588) = 0.018.
        assert abs(manifest.arrays.labels.mean() - share) < 5 * 0.018
    assert manifests["public"].arrays.images.shape == (624, 1, 28, 28)
    assert sum(len(m.arrays.labels) for m in sites.values()) == 4708
    assert sites["site-1"].declared_patients == {"site-1": 590}  # 4708 ÷ 8 = 588.5, of the published count
    assert manifests["public"].declared_patients is None


def test_the_card_says_what_the_file_is(tmp_path):
    rebuilt = load(config(real("pneumoniamnist_reconstructed.npz")), tmp_path, 2, 0)["site-1"].card
    assert "MD5 05c5b701061cc0b6e5199c92ea6a3ec6, not the published file" in rebuilt
    assert "4708 / 524 / 624 images for training, validation and test, as published" in rebuilt
    assert "the privacy unit is the image, not the patient" in rebuilt


def test_volumes_are_read_as_volumes_and_the_official_file_is_known(tmp_path):
    path = real("adrenalmnist3d.npz")
    assert md5_of(path) == SETS["adrenalmnist3d"].md5  # an independent check of one row of the table
    manifests = load(config(path), tmp_path, 2, 0)
    assert manifests["public"].arrays.images.shape == (298, 1, 28, 28, 28)
    assert manifests["public"].classes == ("normal", "hyperplasia")
    assert ", the published file." in manifests["public"].card


def test_colour_images_have_their_channels_first(small, tmp_path):
    shape = {"train": 40, "val": 10, "test": 12}
    colour = {f"{s}_images": np.zeros((n, 28, 28, 3), np.uint8) for s, n in shape.items()}
    colour["test_images"][0, 5, 6] = (1, 2, 3)
    manifests = load(config(small("breastmnist.npz", **colour)), tmp_path, 2, 0)
    assert manifests["public"].arrays.images.shape == (12, 3, 28, 28)
    assert manifests["public"].arrays.images[0, :, 5, 6].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_labels": np.zeros((40, 14), np.uint8)},
            r"one label an image; found labels of shape \(40, 14\)",
        ),
        ({"train_labels": np.full((40, 1), 2, np.uint8)}, r"labels 0 … 1; found others"),
        ({"train_labels": np.zeros(39, np.uint8)}, "one label an image"),
        ({"train_labels": np.zeros(40)}, "float64"),
        ({"val_images": np.zeros((10, 28, 28))}, r"uint8 images of 2 axes; found float64"),
        ({"val_images": np.zeros((10, 28, 28, 28), np.uint8)}, "uint8 images of 2 axes"),
        ({"train_images": np.array([{}], dtype=object)}, "an npz file of plain arrays"),
    ],
)
def test_files_that_are_no_such_set_are_refused(small, tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        load(config(small(**changes)), tmp_path, 2, 0)


def test_broken_and_foreign_files_are_refused(small, tmp_path):
    whole = small().read_bytes()
    cut = tmp_path / "pneumoniamnist_cut.npz"
    cut.write_bytes(whole[: len(whole) // 2])
    spoilt = tmp_path / "pneumoniamnist_spoilt.npz"
    spoilt.write_bytes(whole[:2000] + b"\xff" * 50 + whole[2050:])
    other = tmp_path / "pneumoniamnist_other.npz"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "hello")
    for path in (cut, spoilt, other):
        with pytest.raises(DataError, match="a MedMNIST file with"):
            load(config(path), tmp_path, 2, 0)
    with pytest.raises(DataError, match=r"an npz file at data\.path; found none"):
        load(config(tmp_path / "pneumoniamnist_absent.npz"), tmp_path, 2, 0)


def test_a_zip_bomb_is_refused_before_it_is_inflated(tmp_path, monkeypatch):
    monkeypatch.setattr("fedimg.sources.medmnist._LARGEST_INFLATED", 1 << 20)
    bomb = tmp_path / "pneumoniamnist.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_images.npy", bytes(2 << 20))
    with pytest.raises(DataError, match="at most 1048576 bytes once inflated; found more"):
        read_npz(bomb, SETS["pneumoniamnist"])


def test_the_set_is_named_or_read_off_the_file_name():
    assert set_name(DataConfig(name="medmnist", partition="iid")) == "pneumoniamnist"
    assert set_name(config("x/adrenalmnist3d_28.npz")) == "adrenalmnist3d"
    assert set_name(config("x/any.npz", dataset="bloodmnist")) == "bloodmnist"
    for wrong in (config("x/any.npz"), config("x/any.npz", dataset="chestmnist")):
        with pytest.raises(ConfigError, match=r"data\.dataset to be one of pathmnist, "):
            set_name(wrong)
    with pytest.raises(
        ConfigError, match=r"found data\.partition=manifest; set data\.partition=iid or dirichlet"
    ):
        load(config("x/pneumoniamnist.npz", partition="manifest"), Path(), 2, 0)


def test_the_table_is_well_formed():
    assert len(SETS) == 17  # 12 flat and 6 deep sets, less ChestMNIST
    assert len({s.md5 for s in SETS.values()}) == 17
    for name, published in SETS.items():
        assert len(published.md5) == 32
        assert int(published.md5, 16) > 0
        assert (published.dimensions == 3) == name.endswith("3d")
        assert address(name).startswith("https://zenodo.org/records/10519652/files/")


@given(st.integers(1, 10**7))
def test_a_declared_number_has_two_digits_and_is_near(count):
    stated = declared(count)
    assert len(str(stated).rstrip("0")) <= 2
    assert abs(stated - count) <= 0.05 * count
    assert declared(stated) == stated


def test_a_path_without_a_file_is_said_before_its_name_is_read(tmp_path):
    with pytest.raises(DataError, match=r"an npz file at data\.path"):
        load(config(tmp_path / "nope.npz"), tmp_path, 2, 0)
