"""Files named in a table → `SourceItem`s, and their division among sites: the same for all formats."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from fedimg.errors import ConfigError, DataError
from fedimg.imaging import partition
from fedimg.sources import said
from fedimg.sources.config import DataConfig
from fedimg.sources.manifest import PUBLIC, SourceManifest, declared
from fedimg.sources.paths import data_folder, inside, regular_files
from fedimg.sources.tabular import read_table
from fedimg.values import Quarantine, SourceItem, Split

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

_SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class FoundItems:
    """What a folder and its table hold, before division.

    `stated_patients` are the numbers that the items finally carry, by path, where these differ from
    those used to keep patients together (DICOM: the header is asked again at the intake).
    """

    items: tuple[SourceItem, ...]
    dropped_columns: int = 0
    repeated_rows: int = 0
    stated_patients: Mapping[Path, str | None] | None = None


def read_listed_files(
    config: DataConfig, kind: Literal["nifti", "image"], suffixes: Sequence[str]
) -> FoundItems:
    """Files of a format without patient numbers: the table must give path, patient_id and label, or what is drawn.

    A file of the format that the table does not name comes along without label, so that the intake
    quarantines it where everybody can see; nothing is skipped in silence.
    Raises DataError: see `read_table`, `inside`, `said.said_of`; contradictory rows; an empty folder.
    """
    folder = data_folder(config.path)
    table_path = labels_path(folder, config)
    allowed = ("path", "patient_id", "site", "split", *said.columns(config))
    table = read_table(table_path, allowed, ("path", "patient_id", *said.needed(config)))
    rows: dict[Path, SourceItem] = {}
    repeated, other = 0, {table_path}
    for number, row in enumerate(table.rows, start=2):
        path = inside(folder, row["path"], number)
        other.update(said.masks_of(folder, row, number))
        of_row = said.said_of(folder, row, number, config)
        site, split = site_and_split(row, number)
        patient = row["patient_id"] or None
        groups = said.groups_of(row, config)
        beside = (of_row.drawn, of_row.value, groups, of_row.features, of_row.modality)
        item = SourceItem(path, kind, patient, of_row.label, site, split, *beside)
        repeated += add_once(rows, path, item, number)
    listed = tuple(rows.values())
    unlisted = [p for p in regular_files(folder, suffixes) if p not in rows and p not in other]
    return FoundItems(listed + tuple(SourceItem(p, kind) for p in unlisted), table.dropped_columns, repeated)


def labels_path(folder: Path, config: DataConfig) -> Path:
    """The table: `data.labels` (from the working folder), by default labels.csv in the data folder.

    Without one, the manifest.csv that `fedimg cohort` writes serves.
    """
    if config.labels is not None:
        return Path(config.labels).expanduser().resolve()
    generated = folder / "manifest.csv"
    return (
        generated if generated.is_file() and not (folder / "labels.csv").exists() else folder / "labels.csv"
    )


def site_and_split(row: Mapping[str, str], number: int) -> tuple[str | None, Split]:
    """Columns `site` and `split`, both optional; the site of a public row is nobody's.

    Raises DataError for a name that cannot be one.
    """
    site = row.get("site") or None
    if site == PUBLIC and row.get("split") == "public":
        site = None
    if site is not None and not is_site_name(site):
        expected = "site names of up to 32 letters, digits, - and _, other than `public`"
        raise DataError(expected, f"another one in row {number}", "rename the site")
    split = row.get("split") or "train"
    if split not in ("train", "public"):
        raise DataError("split to be train or public", f"another word in row {number}", "correct it")
    return site, "train" if split == "train" else "public"


def is_site_name(text: str) -> bool:
    """Names become folders and travel in messages: 1–32 letters, digits, - and _, and never "public"."""
    return bool(_SITE_NAME.fullmatch(text)) and text.lower() != PUBLIC


def add_once(rows: dict[_Key, _Value], key: _Key, value: _Value, number: int) -> bool:
    """Add, or say that the very same is there already. Raises DataError where another is."""
    if key in rows and rows[key] != value:
        found = f"row {number}, which contradicts an earlier one"
        raise DataError("one row for each file, study or patient", found, "remove one of the two")
    known = key in rows
    rows[key] = value
    return known


def divide(
    found: FoundItems, config: DataConfig, sites: int, seed: int, card: str
) -> dict[str, SourceManifest]:
    """Items → one manifest per site and, if some items are public, one called `public`.

    A patient in the public set is held back from all sites: what is tested on is not trained on. A
    patient at more sites than `max_sites_per_patient` is held back from the later ones.
    Raises DataError, ConfigError.
    """
    if not found.items:
        raise DataError("at least one input", "none", "set data.path to the folder with the data")
    public = [item for item in found.items if item.split == "public"]
    own = _with_sites([item for item in found.items if item.split == "train"], config)
    assignment = {PUBLIC: tuple(public)} if public else {}
    assignment |= partition.assign(own, config.partition, sites, config.alpha, seed)
    in_public = {partition.unit_key(item) for item in public}
    shared = partition.patients_at_further_sites(
        {site: own for site, own in assignment.items() if site != PUBLIC}, config.max_sites_per_patient
    )
    manifests: dict[str, SourceManifest] = {}
    for site, items in assignment.items():
        held = set(shared.get(site, ()))
        if site != PUBLIC:
            held |= {item for item in items if partition.unit_key(item) in in_public}
        kept = tuple(_stated(item, found) for item in items if item not in held)
        refused = tuple(_stated(item, found) for item in items if item in held)
        manifests[site] = SourceManifest(
            items=kept,
            public_data=config.declared_public or site == PUBLIC,
            declared_patients=_declared(config, site),
            card=card,
            classes=config.classes,
            unit="patient",
            held_back={Quarantine.PATIENT_AT_TWO_SITES: refused} if refused else {},
            dropped_columns=found.dropped_columns,
            repeated_rows=found.repeated_rows,
        )  # fmt: skip
    return manifests


def _declared(config: DataConfig, site: str) -> dict[str, int] | None:
    """Raises ConfigError for a site that the operators' statements leave out."""
    stated = config.declared_patients
    if stated is None or site == PUBLIC:
        return None
    if isinstance(stated, Mapping):
        if site not in stated:
            named = ", ".join(sorted(stated))
            raise ConfigError(f"data.declared_patients of {site} too", f"those of {named}", "add it")
        return {site: declared(stated[site])}
    return {site: declared(stated)}


def _with_sites(items: Sequence[SourceItem], config: DataConfig) -> list[SourceItem]:
    """Under "manifest": files that no row names go where their patient's others are, else to the first site.

    Without any site column all of them are one hospital's.
    """
    if config.partition != "manifest":
        return list(items)
    first = next((item.site for item in items if item.site is not None), "site-1")
    of_patient: dict[object, str] = defaultdict(lambda: first)
    for item in items:
        if item.site is not None:
            of_patient.setdefault(partition.unit_key(item), item.site)
    nowhere = [item for item in items if item.site is None and item.label is not None]
    if nowhere and len(nowhere) < sum(item.label is not None for item in items):
        raise DataError("a site for every labelled row", "rows without one", "fill the site column")
    return [
        item if item.site is not None else replace(item, site=of_patient[partition.unit_key(item)])
        for item in items
    ]


def _stated(item: SourceItem, found: FoundItems) -> SourceItem:
    if found.stated_patients is None:
        return item
    return replace(item, patient_id=found.stated_patients.get(item.path))
