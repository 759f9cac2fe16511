"""The images that weights are made of: generated, or declared public; anything else is refused before it is read.

Files go the way of a site's: through the identity boundary into a home of their own, and from there through the same
preprocessing. What is held back there is in no weights.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from fedimg import intake, site_data, sources, taking_in
from fedimg.config import Config
from fedimg.errors import ConfigError, DataError, PolicyRefused
from fedimg.home import SiteHome
from fedimg.imaging import loading, patients
from fedimg.imaging.cache import VolumeCache
from fedimg.intake.released import decoder
from fedimg.models import Network
from fedimg.models.origin import DECLARED_PUBLIC, GENERATED
from fedimg.sources import PUBLIC, SourceManifest
from fedimg.sources.paths import data_folder, regular_files
from fedimg.values import SiteDataset, SourceItem

Progress = Callable[[str, int, int], None]
HELD_OUT = 0.1
_KINDS: dict[str, tuple[Literal["dicom", "nifti", "image"], tuple[str, ...]]] = {
    "images": ("image", (".png", ".jpg", ".jpeg")),
    "nifti": ("nifti", (".nii", ".nii.gz")),
    "dicom": ("dicom", ()),
}
_LARGEST_INFLATED = 4 << 30
_ARRAYS = ("images", "train_images")


@dataclass(frozen=True)
class Pictures:
    """Prepared images, split by unit, and what may be said of them.

    `data`: as `Origin.data`. digest: SHA-256, hex, over all of them.
    """

    train: SiteDataset
    held_out: SiteDataset
    data: str
    digest: str


def check_allowed(config: Config, method: str) -> None:
    """Raises PolicyRefused for data that may be patients', ConfigError for what a method cannot use."""
    data = config.data
    if method == "generated" and data.name != "cohort":
        raise ConfigError(
            "data=cohort with --method generated", f"data={data.name}", "or --method self_supervised"
        )
    if data.name in ("cohort", "medmnist"):
        return
    if data.name not in _KINDS:
        expected = f"data=cohort, medmnist, {', '.join(_KINDS)} to make weights of"
        raise ConfigError(expected, f"data={data.name}", "choose one of these")
    if not data.declared_public:
        raise PolicyRefused(
            "images that are generated, or declared public by you (data.declared_public=true), to make weights of",
            f"data={data.name} without it",
            "weights that were trained on patients without privacy are a release that no ledger knows of: learn of "
            "patients in a federation, with fedimg simulate or train",
        )


def labelled(config: Config, network: Network, work: Path, progress: Progress) -> Pictures:
    """Generated hospitals with the labels that the network's task takes."""
    profile = config.deid.profile
    parts = [
        site_data.load(home, config.imaging, network, profile=profile, validation_fraction=0.0).train
        for home in _homes(_manifests(config, work), config, work, progress)
    ]
    return _divided(patients.joined(parts), GENERATED, config.seed)


def unlabelled(config: Config, work: Path, progress: Progress) -> Pictures:
    """Images of any allowed source; what is known of them is not looked at."""
    data, arrays = (GENERATED if config.data.name == "cohort" else DECLARED_PUBLIC), _arrays(config, work)
    if arrays is None:
        homes = _homes(_manifests(config, work), config, work, progress)
        return _divided(patients.joined([_images_in(home, config) for home in homes]), data, config.seed)
    units = [f"image-{number:08d}" for number in range(len(arrays))]
    none = np.zeros(len(arrays), np.int64)
    return _divided(patients.dataset_from_arrays(arrays, none, units, config.imaging), data, config.seed)


def _divided(found: SiteDataset, data: str, seed: int) -> Pictures:
    """A tenth of the units held out, at least one. What comes of it follows from images and seed alone."""
    ordered, digest = by_content(found)
    units = ordered.number_of_patients
    held = max(1, round(units * HELD_OUT))
    if units < 2:
        raise DataError("two usable images or more, of different patients", f"{units}", "name more images")
    order = torch.randperm(units, generator=torch.Generator().manual_seed(seed)).numpy()
    return Pictures(ordered.of_patients(order[held:]), ordered.of_patients(order[:held]), data, digest)


def by_content(found: SiteDataset) -> tuple[SiteDataset, str]:
    """The same in an order that follows from images and labels, whatever names they had; and SHA-256 over all images."""
    parts = zip(found.images, found.labels, strict=True)
    each = [(_digest(image), _digest(label)) for image, label in parts]
    own = [sorted(found.images_of(u).tolist(), key=each.__getitem__) for u in range(found.number_of_patients)]
    own.sort(key=lambda images: [each[i] for i in images])
    index = torch.tensor([i for images in own for i in images], dtype=torch.int64)
    first = np.cumsum([0, *map(len, own)]).astype(np.int64)
    names = tuple(f"unit-{number:08d}" for number in range(len(own)))
    together = hashlib.sha256(b"fedimg-images-1" + b"".join(sorted(image for image, _ in each))).hexdigest()
    return SiteDataset(found.images[index], found.labels[index], names, first), together


def _digest(values: torch.Tensor) -> bytes:
    return hashlib.sha256(values.contiguous().numpy().tobytes()).digest()


def _manifests(config: Config, work: Path) -> list[SourceManifest]:
    """Generated hospitals other than those that a run of the same seed trains on; else every file of the folder."""
    if config.data.name == "cohort":
        digest = hashlib.sha256(f"pre-training {config.seed}".encode()).digest()
        found = sources.load(config.data, work, config.sites, int.from_bytes(digest[:4], "big") >> 1)
        return [found[name] for name in sorted(found) if name != PUBLIC]
    kind, suffixes = _KINDS[config.data.name]
    files = regular_files(data_folder(config.data.path), suffixes)
    if not files:
        raise DataError("images in the folder at data.path", "none", "name another folder")
    items = tuple(
        SourceItem(path, kind, None if kind == "dicom" else f"image-{number:08d}", label=0)
        for number, path in enumerate(files)
    )
    return [SourceManifest(items, True, None, "declared public images", ("", "any"), "patient")]


def _homes(
    manifests: Sequence[SourceManifest], config: Config, work: Path, progress: Progress
) -> list[SiteHome]:
    """A home a hospital, filled."""
    homes = []
    for number, manifest in enumerate(manifests):
        name = f"part-{number:04d}"
        home = SiteHome.create(work / name, simulated=True)
        taking_in.take_in(
            home, manifest, config.deid, name, partial(progress, f"reading images, part {number + 1}")
        )
        homes.append(home)
    return homes


def _images_in(home: SiteHome, config: Config) -> SiteDataset:
    cache = VolumeCache(home.cache, home.site_key.derive("cache", project="fedimg"))
    admitted = intake.admitted(home, config.deid.profile)
    return loading.load_dataset(admitted, decoder(home), cache, config.imaging).dataset


def _arrays(config: Config, work: Path) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32] | None:
    """(N, C, *spatial) of a MedMNIST set or a file of arrays, and then of training images alone; None: files."""
    if config.data.name == "medmnist":
        spread = replace(config.data, partition="iid")
        manifests = sources.load(spread, work, 1, config.seed)
        found = next(m.arrays for name, m in manifests.items() if name != PUBLIC)
        return None if found is None else found.images
    path = Path(config.data.path or "").expanduser()
    if config.data.name != "images" or path.suffix != ".npz" or not path.is_file():
        return None
    return _channels_first(read_arrays(path), len(config.imaging.image_size))


def read_arrays(path: Path) -> npt.NDArray[np.generic]:
    """`images`, or `train_images`, of an npz file. Nothing is unpickled. Raises DataError."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {Path(member.filename).stem for member in archive.infolist()}
            name = next((n for n in _ARRAYS if n in names), None)
            sizes = sum(member.file_size for member in archive.infolist())
        if name is None or sizes > _LARGEST_INFLATED:
            raise _no_arrays("others, or too large")
        with np.load(path, allow_pickle=False) as npz:
            found: npt.NDArray[np.generic] = npz[name]
    except (OSError, ValueError, RuntimeError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        raise _no_arrays("something that does not read as one") from None
    return found


def _channels_first(
    found: npt.NDArray[np.generic], axes: int
) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
    colour = found.ndim == axes + 2 and found.shape[-1] == 3
    if found.dtype.kind == "f":
        found = found.astype(np.float32)
        if not (
            np.isfinite(found).all() and float(found.min(initial=0)) >= 0 and float(found.max(initial=0)) <= 1
        ):
            raise _no_arrays("numbers outside of [0, 1]")
    if found.dtype not in (np.uint8, np.float32) or (found.ndim != axes + 1 and not colour):
        raise _no_arrays(f"{found.dtype} of {found.ndim} axes")
    moved = np.moveaxis(found, -1, 1) if colour else found[:, None]
    return np.ascontiguousarray(moved)


def _no_arrays(found: str) -> DataError:
    return DataError(
        f"an npz file with an array {' or '.join(_ARRAYS)}: uint8, or numbers in [0, 1], (N, *spatial) or (N, *spatial, 3)",
        found,
        "write it with numpy.savez, or name a folder of images",
    )
