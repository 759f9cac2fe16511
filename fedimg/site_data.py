"""What a site trains on: released files with a valid receipt, as tensors, and whose they are.

The last lane of station 3 before the privacy boundary: the records of the ledger are found here, so
that a patient without one, or with nothing left, is in no release.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from fedimg import declared_public, intake
from fedimg.dicom.ledger_keys import LedgerKeys
from fedimg.errors import DataError, FedimgError, LedgerError
from fedimg.home import SiteHome
from fedimg.imaging import findings, loading, patients
from fedimg.imaging.cache import VolumeCache
from fedimg.imaging.config import ImagingConfig
from fedimg.imaging.labels import Kinds, LabelKind
from fedimg.intake.ledger_map import read_ledger_keys
from fedimg.intake.released import decoder
from fedimg.models import Network
from fedimg.operator_log import tell_operator
from fedimg.privacy.calibration import EVALUATE, TRAIN, PrivacyPlan
from fedimg.privacy.enrolment import Roll
from fedimg.privacy.ledger import Ledger
from fedimg.values import Quarantine, SiteDataset

_LABELS: Mapping[str, LabelKind] = {
    "classification": "class",
    "multilabel": "findings",
    "regression": "number",
    "segmentation": "voxels",
    "detection": "places",
}


@dataclass(frozen=True)
class Loaded:
    """A site's examples, split by patient, and what was held back on the way.

    `ledger_keys`: the data sets' patient keys → by what the site's ledger knows the patient.
    """

    train: SiteDataset
    validation: SiteDataset
    held_back: Counter[Quarantine]
    cache_ratio: float
    ledger_keys: Mapping[str, str] = field(default_factory=dict, repr=False)


def load(
    home: SiteHome, imaging: ImagingConfig, network: Network, *, profile: str, validation_fraction: float
) -> Loaded:
    """Released files with a valid receipt under this profile, and nothing else, become tensors."""
    cache = VolumeCache(home.cache, home.site_key.derive("cache", project="fedimg"))
    admitted = intake.admitted(home, profile)
    found = loading.load_dataset(admitted, decoder(home), cache, imaging, labels=_kinds(network))
    dataset, ledger_keys = found.dataset, read_ledger_keys(home.ledger_keys)
    if (public := declared_public.load_arrays(home.root, home.signing_key.public_bytes)) is not None:
        dataset = patients.dataset_from_arrays(public.images, public.labels, public.units, imaging)
        keys = LedgerKeys(home.site_key)  # who admits arrays names their units: there is no patient number
        ledger_keys = {unit: keys.of_unit(unit) for unit in dataset.patient_keys}
    dataset = replace(as_learnt(dataset, network), images=_features(dataset, network))
    key = home.site_key.derive("validation-split", project="fedimg")
    train_part, validation = patients.split(dataset, validation_fraction, key)
    return Loaded(train_part, validation, found.held_back, cache.counts.ratio, ledger_keys)


def _features(dataset: SiteDataset, network: Network) -> torch.Tensor:
    """Frozen features; NaN of a patient whose images make a library fail, since nobody may stop the others."""
    try:
        return network.features(dataset.images)
    except FedimgError:
        raise
    except Exception:  # noqa: BLE001 - whichever library it was: found out patient by patient
        found = torch.full((len(dataset.images), *network.feature_shape), torch.nan)
    for patient in range(dataset.number_of_patients):
        own = torch.from_numpy(dataset.images_of(patient))
        with suppress(Exception):
            found[own] = network.features(dataset.images[own])
    return found


def _kinds(network: Network) -> Kinds:
    return tuple(_LABELS[head.task] for head in network.heads) or _LABELS[network.task]


def as_learnt(dataset: SiteDataset, network: Network) -> SiteDataset:
    """Labels as the network's task takes them: findings one by one, a number as a share of the public range, findings
    drawn over an image as a heat map; of several tasks all of them in one row an image, NaN where one is missing.

    Raises DataError for labels of images where those of voxels are needed.
    """
    labels, shape = dataset.labels, (len(dataset.labels), *network.label_shape)
    if network.heads:
        labels = _row(labels, network)
    if network.task == "multilabel":
        labels = _findings(labels, shape[1])
    if network.task == "regression":
        labels = _share(labels, network.target_range)
    if network.task == "detection" and labels.dim() == 1 + len(network.image_shape[1:]):
        kinds = shape[1] - len(shape[2:])
        maps = [findings.heat_map(one, kinds) for one in labels.numpy()]
        labels = torch.from_numpy(np.stack(maps)) if maps else torch.zeros(shape)
    if labels.shape != shape:
        found = f"labels of shape {tuple(labels.shape[1:])}"
        raise DataError(
            f"labels of shape {shape[1:]} for {network.task}", found, "choose another data source"
        )
    return replace(dataset, labels=labels)


def _findings(sums: torch.Tensor, number: int) -> torch.Tensor:
    return ((sums[:, None] >> torch.arange(number)) & 1).float()


def _share(numbers: torch.Tensor, ends: tuple[float, float]) -> torch.Tensor:
    low, high = ends
    return ((numbers.float() - low) / (high - low)).clamp(0, 1)


def _row(labels: torch.Tensor, network: Network) -> torch.Tensor:
    """(N, …) of every head's kind, as `imaging.labels.labels_of` lays them → (N, labels of all) float32."""
    sizes = [math.prod(head.config.label_shape) if head.config.of_voxels else 1 for head in network.heads]
    if labels.dim() != 2 or labels.shape[1] != sum(sizes):
        return labels  # of one task: refused by its shape
    parts = []
    for head, own in zip(network.heads, labels.split(sizes, dim=1), strict=True):
        if head.task == "multilabel":
            each = _findings(own[:, 0].nan_to_num().long(), head.config.classes)
            parts.append(torch.where(own.isnan(), torch.nan, each))
        else:
            parts.append(_share(own, head.config.target_range) if head.task == "regression" else own.float())
    return torch.cat(parts, dim=1)


def roll_of(
    home: SiteHome, run: str, data: Loaded, plan: PrivacyPlan | None, ledger: Ledger | None
) -> Roll | None:
    """Who may be sampled; a patient without a record cannot be charged and is left out."""
    if ledger is None:
        return None
    site_key = LedgerKeys(home.site_key).digest
    keys = {
        release: [data.ledger_keys.get(patient, "") for patient in part.patient_keys]
        for release, part in ((TRAIN, data.train), (EVALUATE, data.validation))
    }
    if plan is None:
        return Roll.of_open_run(ledger, keys, site_key)
    if without := sum(own.count("") for own in keys.values()):
        remedy = "take the inputs in again, into a new home; until then they are left out"
        tell_operator(
            home.root, "loading", LedgerError("a ledger key of each patient", f"{without} without", remedy)
        )
    return Roll.enrolled(ledger, run, plan, keys, site_key)


def present(data: SiteDataset, roll: Roll | None, release: str) -> SiteDataset:
    """The data of those who may be in the release that was just charged."""
    return _only(data, roll.present(release)) if roll is not None else data


def remaining(data: SiteDataset, roll: Roll | None, release: str) -> SiteDataset:
    """The data of those who have not withdrawn, for a run without privacy."""
    return _only(data, roll.remaining(release)) if roll is not None else data


def _only(data: SiteDataset, patients: npt.NDArray[np.int64]) -> SiteDataset:
    return data if len(patients) == data.number_of_patients else data.of_patients(patients)
