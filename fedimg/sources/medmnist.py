"""MedMNIST v2: arrays of 28-pixel images, declared public, with nothing known of patients.

There is no file, header or name to de-identify, so these arrays pass no intake; the unit that
privacy protects is the image, and manifest and card say so.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedimg.errors import ConfigError, DataError
from fedimg.imaging import partition
from fedimg.sources.config import DataConfig
from fedimg.sources.fetch import fetch, md5_of
from fedimg.sources.manifest import PUBLIC, PublicArrays, SourceManifest, declared
from fedimg.sources.medmnist_sets import SETS, PublishedSet, address

_LARGEST_DOWNLOAD = 1 << 30
_LARGEST_INFLATED = 4 << 30
_SPLITS = ("train", "val", "test")


def load(config: DataConfig, workdir: Path, sites: int, seed: int) -> Mapping[str, SourceManifest]:
    """Train (and, if asked, validation) images to the sites, shuffled by `seed`; test is the public set.

    A file at `data.path` is used as it is, and the card shows its MD5 and whether it is the published
    one; without a path the published file is fetched below `workdir` and checked.
    Raises ConfigError: an unknown set, a partition by manifest. DataError: a file that is not such a set.
    """
    if config.partition == "manifest":
        remedy = "set data.partition=iid or dirichlet"
        raise ConfigError("a way to divide the images among sites", "data.partition=manifest", remedy)
    if config.path is not None and not Path(config.path).expanduser().is_file():
        raise DataError(
            "an npz file at data.path", "none", "correct data.path, or set it to null to fetch it"
        )
    name = set_name(config)
    published = SETS[name]
    if config.path is None:
        path = fetch(address(name), workdir / "medmnist" / f"{name}.npz", published.md5, _LARGEST_DOWNLOAD)
    else:
        path = Path(config.path).expanduser()
    arrays = read_npz(path, published)
    card = _card(name, published, md5_of(path), {split: len(arrays[split].labels) for split in _SPLITS})
    own = arrays["train"]
    stated = published.counts[0]
    if config.use_validation == "sites":
        own, stated = _joined(own, arrays["val"]), stated + published.counts[1]
    site_of_image = partition.assign_units(own.labels, config.partition, sites, config.alpha, seed)
    manifests = {PUBLIC: _manifest(arrays["test"], card, published, None)}
    for k, site in enumerate(partition.site_names(sites)):
        share = _chosen(own, np.flatnonzero(site_of_image == k))
        manifests[site] = _manifest(share, card, published, {site: declared(stated / sites)})
    return manifests


def set_name(config: DataConfig) -> str:
    """`data.dataset`, else what the file's name begins with, else pneumoniamnist. Raises ConfigError."""
    named = config.dataset
    if named is None and config.path is None:
        return "pneumoniamnist"
    if named is None:
        stem = Path(config.path or "").stem.lower()
        named = next((name for name in SETS if stem.startswith(name)), "a file name that begins with none")
    if named not in SETS:
        raise ConfigError(f"data.dataset to be one of {', '.join(SETS)}", named, "set data.dataset")
    return named


def read_npz(path: Path, published: PublishedSet) -> dict[str, PublicArrays]:
    """The three splits, images (N, C, *spatial) uint8.

    Nothing is unpickled, and sizes are looked at before anything is inflated.
    Raises DataError: not a zip of arrays, too large, a split missing, other shapes, types or classes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _LARGEST_INFLATED:
                raise _refuse(f"at most {_LARGEST_INFLATED} bytes once inflated", "more")
        with np.load(path, allow_pickle=False) as npz:
            raw = {s: (npz[f"{s}_images"], npz[f"{s}_labels"]) for s in _SPLITS}
    # RuntimeError and its NotImplementedError: an encrypted member, a compression that zipfile lacks.
    except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error):
        raise _refuse("an npz file of plain arrays", "something that does not read as one") from None
    except KeyError:
        raise _refuse("images and labels of train, val and test", "one of them missing") from None
    return {split: _checked(split, images, labels, published) for split, (images, labels) in raw.items()}


def _checked(
    split: str, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], published: PublishedSet
) -> PublicArrays:
    axes = published.dimensions
    colour = axes == 2 and images.ndim == 4 and images.shape[-1] == 3
    if images.dtype != np.uint8 or (images.ndim != axes + 1 and not colour):
        raise _refuse(f"uint8 images of {axes} axes", f"{images.dtype} of shape {images.shape}")
    if labels.shape not in ((len(images), 1), (len(images),)) or labels.dtype.kind not in "ui":
        raise _refuse("one label an image", f"labels of shape {labels.shape}, {labels.dtype}")
    flat = labels.reshape(-1).astype(np.int64)
    if len(flat) and not 0 <= flat.min() <= flat.max() < len(published.classes):
        raise _refuse(f"labels 0 … {len(published.classes) - 1}", "others")
    channels_first = np.moveaxis(images, -1, 1) if colour else images[:, None]
    keys = tuple(f"{split}-image-{i:06d}" for i in range(len(images)))
    return PublicArrays(channels_first, flat, keys)


def _joined(first: PublicArrays, second: PublicArrays) -> PublicArrays:
    return PublicArrays(
        np.concatenate([first.images, second.images]),
        np.concatenate([first.labels, second.labels]),
        first.patient_keys + second.patient_keys,
    )


def _chosen(arrays: PublicArrays, index: npt.NDArray[np.int64]) -> PublicArrays:
    keys = tuple(arrays.patient_keys[i] for i in index)
    return PublicArrays(arrays.images[index], arrays.labels[index], keys)


def _manifest(
    arrays: PublicArrays, card: str, published: PublishedSet, stated: Mapping[str, int] | None
) -> SourceManifest:
    return SourceManifest(
        items=(),
        public_data=True,
        declared_patients=stated,
        card=card,
        classes=published.classes,
        unit="image",
        arrays=arrays,
    )


def _card(name: str, published: PublishedSet, md5: str, counts: Mapping[str, int]) -> str:
    same = "the published file" if md5 == published.md5 else f"not the published file (MD5 {published.md5})"
    sizes = " / ".join(str(counts[split]) for split in _SPLITS)
    as_stated = (
        "as published" if tuple(counts[s] for s in _SPLITS) == published.counts else "not as published"
    )
    return (
        f"MedMNIST v2 {name} ({published.licence}), declared public data that pass no intake; "
        f"{sizes} images for training, validation and test, {as_stated}; MD5 {md5}, {same}. "
        "It has no patient numbers: the privacy unit is the image, not the patient"
    )


def _refuse(expected: str, found: str) -> DataError:
    return DataError(f"a MedMNIST file with {expected}", found, "download the file again")
