"""Which data a run uses. One flat section, so that `data=medmnist data.path=…` is all it takes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from fedimg.cohort import CohortConfig
from fedimg.errors import ConfigError
from fedimg.imaging.config import check_features
from fedimg.subgroups import ATTRIBUTES

# Keys that only some sources read: setting one for another source would silently do nothing.
_READ_BY: dict[str, tuple[str, ...]] = {
    "path": ("dicom", "nifti", "images", "medmnist", "tabular"),
    "labels": ("dicom", "nifti", "images"),
    "label_from": ("dicom",),
    "classes": ("dicom", "nifti", "images", "tabular"),
    "declared_patients": ("dicom", "nifti", "images", "tabular"),
    "declared_public": ("dicom", "nifti", "images", "tabular"),
    "columns": ("tabular",),
    "subgroups": ("dicom", "nifti", "images"),
    "voxels": ("cohort", "dicom", "nifti", "images"),
    "several": ("cohort", "dicom", "nifti", "images", "tabular"),
    "value": ("cohort", "dicom", "nifti", "images", "tabular"),
    "together": ("cohort", "dicom", "nifti", "images"),
    "features": ("cohort", "dicom", "nifti", "images"),
    "modality": ("dicom", "nifti", "images"),
    "dataset": ("medmnist",),
    "use_validation": ("medmnist",),
    "options": (),
}
MOST_FINDINGS, MOST_DRAWN = 62, 128
"""A sum of 2^k fits 63 bits; a byte a voxel has classes below this, and numbers of boxes above."""
_OTHERWISE_READ = frozenset(
    {
        "path",
        "patient_id",
        "site",
        "split",
        "label",
        "mask",
        "boxes",
        "sop_instance_uid",
        "study_instance_uid",
    }
)
BUILT_IN = ("cohort", "dicom", "medmnist", "nifti", "images", "tabular")


@dataclass(frozen=True)
class DataConfig:
    """A data source and how it is divided among sites.

    Attributes:
        name: cohort, dicom, medmnist, nifti, images, tabular, or the name of an entry point in `fedimg.sources`.
        path: the folder with the files; for medmnist the npz file, or null to fetch it.
        labels: CSV of labels, by default labels.csv in the folder.
        label_from: dicom: "csv", or "seg" for DICOM SEG masks in the folder (class 1 where any pixel is set).
        voxels: what the files beside the images say of their voxels: "none", "masks" (column `mask`; the SEG
            of `label_from: seg`; of the cohort's CT and MR) or "boxes" (column `boxes`).
        several: a label cell names any of the classes, with ; between, or none (model.task=multilabel).
        value: name of the column with a number to be learnt (model.task=regression).
        together: label, number and mask of an image go together (model.task=several): a cell may be empty, and an image
            is held back where all that are asked for are.
        columns: tabular: each column of numbers with its public (least, greatest).
        subgroups: sex, age_band or scanner → the table's column that says it; it counts more than a header.
        features: columns of numbers beside the images, each with its public (least, greatest) (docs/modalities.md).
        modality: name of the column that says which of `imaging.together` an image is; null: the file's header.
        classes: names by class index; a label cell holds a name or an index.
        partition: "manifest" (the table's site column; the cohort's hospitals), "iid" or "dirichlet".
        alpha: of the Dirichlet division; small is strongly skewed.
        max_sites_per_patient: m of the privacy plan; who is at more sites is held back from the later ones.
        declared_patients: of each site, or {site: patients}, as its operator states it, for data without a public card.
        declared_public: the operator declares these files public; pictures of them may stand in reports.
        dataset: medmnist: name of the set, by default read off the file's name.
        use_validation: medmnist: the validation split goes to the "sites" too, or is left "aside".
        cohort: the generated hospitals.
        options: for a source that an entry point brings.
    """

    name: str = "cohort"
    path: str | None = None
    labels: str | None = None
    label_from: Literal["csv", "seg"] = "csv"
    voxels: Literal["none", "masks", "boxes"] = "none"
    several: bool = False
    value: str | None = None
    together: bool = False
    columns: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    subgroups: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    modality: str | None = None
    classes: tuple[str, ...] = ("negative", "positive")
    partition: Literal["manifest", "iid", "dirichlet"] = "manifest"
    alpha: float = 0.5
    max_sites_per_patient: int = 1
    declared_patients: int | Mapping[str, int] | None = None
    declared_public: bool = False
    dataset: str | None = None
    use_validation: Literal["aside", "sites"] = "aside"
    cohort: CohortConfig = field(default_factory=CohortConfig)
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("value", "modality"):
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", getattr(self, key) or "none"):
                expected = f"data.{key}: the name of a column, small letters, digits and _"
                raise ConfigError(expected, "another name", "rename the column")
        check_features("data.features", self.features)
        if taken := {*self.features, self.modality} & _OTHERWISE_READ:
            expected = "data.features and data.modality: columns that nothing else is read from"
            raise ConfigError(expected, ", ".join(sorted(map(str, taken))), "rename the column")
        if self.features and self.label_from == "seg" and self.labels is None:
            raise ConfigError("data.labels, a table with data.features", "none", "name the table")
        for name, (low, high) in self.columns.items():
            if not (re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) and -math.inf < low < high < math.inf):
                expected = "data.columns: names of small letters, digits and _, each with two numbers, the second larger"
                raise ConfigError(expected, "another entry", "correct data.columns")
        _check_subgroups(self.subgroups)
        most = MOST_FINDINGS if self.several else MOST_DRAWN if self.voxels != "none" else len(self.classes)
        if len(self.classes) > most:
            raise ConfigError(
                f"at most {most} data.classes here", f"{len(self.classes)}", "join some of them"
            )
        if len(self.classes) < (1 if self.several else 2) or len(set(self.classes)) < len(self.classes):
            raise ConfigError(
                "data.classes: two names or more, all different", str(self.classes), "change them"
            )
        if self.max_sites_per_patient < 1:
            raise ConfigError("data.max_sites_per_patient ≥ 1", str(self.max_sites_per_patient), "change it")
        stated = self.declared_patients
        if any(
            n < 1
            for n in (stated.values() if isinstance(stated, Mapping) else (1 if stated is None else stated,))
        ):
            raise ConfigError("data.declared_patients ≥ 1 or null", str(stated), "change it")
        defaults = {f.name: f.default for f in fields(self)} | {
            "cohort": CohortConfig(),
            "options": {},
            "columns": {},
            "subgroups": {},
            "features": {},
        }
        for key, readers in _READ_BY.items():
            if self.name in BUILT_IN and self.name not in readers and getattr(self, key) != defaults[key]:
                where = " or ".join(readers) or "a source that an entry point brings"
                found = f"data={self.name}, which does not read it"
                raise ConfigError(f"data.{key} for {where}", found, "leave this key out")


_TAKEN = ("path", "patient_id", "site", "split", "label", "mask", "boxes")


def _check_subgroups(subgroups: Mapping[str, str]) -> None:
    for name, column in subgroups.items():
        named = re.fullmatch(r"[a-z][a-z0-9_]{0,63}", column) and column not in _TAKEN
        if name not in ATTRIBUTES or not named:
            expected = f"data.subgroups: {', '.join(ATTRIBUTES)}, each with a column of its own"
            raise ConfigError(expected, "another entry", "correct data.subgroups")
