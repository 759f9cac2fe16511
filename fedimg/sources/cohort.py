"""The generated hospitals as a data source: real DICOM files of people who do not exist.

The files are generated once per (configuration, sites, seed) and found again by a run that goes on; the
folder appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from fedimg.cohort import CohortConfig
from fedimg.cohort.beside import FEATURES
from fedimg.cohort.exams import BY_FINDING, BY_MODALITY, LESION
from fedimg.cohort.hospital import COLUMNS, columns, generate_cohort
from fedimg.errors import ConfigError, DataError
from fedimg.sources.config import DataConfig
from fedimg.sources.labelled_files import FoundItems, divide
from fedimg.sources.manifest import PUBLIC, SourceManifest, declared
from fedimg.sources.paths import inside
from fedimg.sources.said import class_index, drawn_in_row, features_of
from fedimg.sources.tabular import read_table
from fedimg.values import SourceItem, Split

CLASSES = BY_MODALITY["CT"].classes
FINDINGS = ("lesion", "large lesion")
"""With data.several. Large is what is wider than `_LARGE`, as a share of the image's side, in this very image."""
_LARGE = 0.14
_DIAMETER = "lesion_diameter_mm"
_BOX = ("box_x0", "box_y0", "box_x1", "box_y1")
CARD = (
    "generated hospitals: real DICOM files of CT, MR, CR and US with lesions of known place and size, planted "
    "identifiers and a few broken files; nobody in them exists"
)


def classes_of(config: DataConfig) -> tuple[str, ...]:
    """Names of what is learnt, by class index; with data.several of what may be there."""
    if config.several:
        return FINDINGS
    return CLASSES if config.cohort.finding == LESION else BY_FINDING[config.cohort.finding].classes


def load(config: DataConfig, workdir: Path, sites: int, seed: int) -> Mapping[str, SourceManifest]:
    """`sites` hospitals and the public set; n̄ is the configured number of patients per hospital.

    The patient numbers of the manifests only keep patients together: the intake reads the headers.
    Raises ConfigError, DataError.
    """
    numbers = (_DIAMETER, *set(columns(config.cohort)) - set(COLUMNS))
    if config.value not in (None, *numbers):
        expected = f"data.value={' or '.join(numbers)} with data=cohort"
        raise ConfigError(expected, str(config.value), "choose one of these")
    if config.several and config.cohort.finding != LESION:
        expected = "data.several=false with data.cohort.finding, which is there or not"
        raise ConfigError(expected, "true", "leave data.several out")
    if unknown := config.features.keys() - set(FEATURES):
        expected = f"data.features out of {', '.join(FEATURES)} with data=cohort"
        raise ConfigError(expected, ", ".join(sorted(unknown)), "choose these")
    settings = replace(config.cohort, hospitals=sites)
    root = workdir / f"cohort-{_digest(settings, seed)}"
    if not root.is_dir():
        _generate(root, settings, seed)
    items: list[SourceItem] = []
    dropped = 0
    for folder in sorted(path.parent for path in root.glob("*/manifest.csv")):
        found, dropped = _hospital(folder, config)
        items += found
    # What the intake is told of the patient: nothing, as in a real folder.
    everything = FoundItems(tuple(items), dropped, 0, {item.path: None for item in items})
    manifests = divide(everything, config, sites, seed, CARD)
    return {site: _stated(site, manifest, config) for site, manifest in manifests.items()}


def _hospital(folder: Path, config: DataConfig) -> tuple[list[SourceItem], int]:
    """Items of one hospital's manifest, and how many columns it has beyond ours."""
    allowed = (
        "path",
        "patient_id",
        "label",
        "site",
        "split",
        "mask",
        *_BOX,
        _DIAMETER,
        "modality",
        *FEATURES,
        *columns(config.cohort)[len(COLUMNS) :],
    )
    table = read_table(folder / "manifest.csv", allowed, allowed)
    items = []
    for number, row in enumerate(table.rows, start=2):
        split: Split = "public" if row["split"] == "public" else "train"
        items.append(
            SourceItem(
                path=inside(folder, row["path"], number),
                kind="dicom",
                patient_id=row["patient_id"] or None,
                label=_findings(row, config.cohort)
                if config.several
                else class_index(row["label"], CLASSES, number),
                site=row["site"] if split == "train" else None,
                split=split,
                drawn=drawn_in_row(folder, {**row, "boxes": _box(row)}, number, config),
                value=float(row[config.value] or 0) if config.value else None,
                features=features_of(row, config.features),
            )
        )
    return items, table.dropped_columns


def _findings(row: Mapping[str, str], settings: CohortConfig) -> int | None:
    """Σ 2^k over `FINDINGS`; None where the manifest has no label."""
    if row["label"] == "":
        return None
    wide = max(int(row[_BOX[2]]) - int(row[_BOX[0]]), 0) if row[_BOX[0]] else 0
    side = settings.image_size * (2 if row["modality"] == "US" else 1)
    return int(row["label"] == "1") + 2 * int(wide > _LARGE * side)


def _box(row: Mapping[str, str]) -> str:
    return " ".join(row[name] for name in _BOX) if row[_BOX[0]] else ""


def _generate(root: Path, settings: CohortConfig, seed: int) -> None:
    """Into a folder of another name first: a run that is stopped leaves no half cohort to go on with."""
    growing = root.with_name(f".{root.name}.{secrets.token_hex(8)}")
    try:
        growing.mkdir(mode=0o700, parents=True)
        generate_cohort(growing, settings, seed)
        growing.replace(root)
    except OSError as error:
        raise DataError(
            "space for the generated hospitals",
            error.strerror or "an error",
            "free some, or lower data.cohort",
        ) from None
    finally:
        shutil.rmtree(growing, ignore_errors=True)


def _digest(settings: CohortConfig, seed: int) -> str:
    """Names the folder by what decides its files; how many processes write them does not."""
    content = asdict(replace(settings, workers=1)) | {"seed": seed}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _stated(site: str, manifest: SourceManifest, config: DataConfig) -> SourceManifest:
    stated = None if site == PUBLIC else {site: declared(config.cohort.patients_per_hospital)}
    return replace(manifest, public_data=True, declared_patients=stated, classes=classes_of(config))
