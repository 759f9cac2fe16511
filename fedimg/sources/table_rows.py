"""A table whose rows are the examples: numbers of patients, without any image.

There is no file to de-identify and no pixel to search, so that such a table has no way through the identity boundary:
it is admitted where its publisher declares it public, with a receipt, as other arrays are. Of a row the columns that
`data.columns` names come along, each between its public bounds, and behind them one more a column that says whether
its cell was empty; everything else is dropped and counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fedimg.errors import ConfigError, DataError
from fedimg.imaging.partition import unit_key
from fedimg.sources.config import DataConfig
from fedimg.sources.labelled_files import FoundItems, divide, site_and_split
from fedimg.sources.manifest import PublicArrays, SourceManifest
from fedimg.sources.said import needed, number_of, said_of
from fedimg.sources.tabular import Table, read_table
from fedimg.values import SourceItem

_EMPTY = 0.5  # the middle of a column's bounds, beside its sign that nothing was there


def load(config: DataConfig, sites: int, seed: int) -> Mapping[str, SourceManifest]:
    """Rows divided by patient (column `patient_id`; without it each row is one), as (N, 1, 1, 2 · columns) in [0, 1].

    Raises ConfigError: no column named, or data that are not declared public. DataError: see `read_table`.
    """
    if not config.columns:
        raise ConfigError("data.columns, each column with its bounds", "none", "set data.columns")
    if not config.declared_public:
        raise ConfigError(
            "data.declared_public=true with data=tabular, which has no way through the identity boundary",
            "false",
            "declare the table public, or use images of patients",
        )
    path = Path(config.path or "").expanduser()
    table = read_table(
        path, (*config.columns, "patient_id", "site", "split", *_labels(config)), _required(config)
    )
    items = tuple(_item(row, number, config) for number, row in enumerate(table.rows, start=2))
    values = {
        item.path: _values(row, n, config)
        for n, (item, row) in enumerate(zip(items, table.rows, strict=True), 2)
    }
    by_patient = "patient_id" in table.columns
    manifests = divide(FoundItems(items, table.dropped_columns), config, sites, seed, _card(table, config))
    return {site: _as_arrays(one, values, by_patient=by_patient) for site, one in manifests.items()}


def _labels(config: DataConfig) -> tuple[str, ...]:
    return ("label", *((config.value,) if config.value else ()))


def _required(config: DataConfig) -> tuple[str, ...]:
    return (*config.columns, *needed(config))


def _item(row: Mapping[str, str], number: int, config: DataConfig) -> SourceItem:
    found = said_of(Path(), row, number, config)
    if found.label is None or (config.value is not None and found.value is None):
        raise DataError("a label in every row", f"none in row {number}", "fill it, or leave the row out")
    site, split = site_and_split(row, number)
    patient = row.get("patient_id") or None
    return SourceItem(
        Path(f"row-{number:07d}"), "image", patient, found.label, site, split, value=found.value
    )


def _values(row: Mapping[str, str], number: int, config: DataConfig) -> Sequence[float]:
    """Each column as a share of its bounds, then for each whether it was empty."""
    shares, empty = [], []
    for name, (low, high) in config.columns.items():
        found = number_of(row[name], number)
        empty.append(float(found is None))
        shares.append(_EMPTY if found is None else min(1.0, max(0.0, (found - low) / (high - low))))
    return [*shares, *empty]


def _as_arrays(
    manifest: SourceManifest, values: Mapping[Path, Sequence[float]], *, by_patient: bool
) -> SourceManifest:
    rows = np.array([values[item.path] for item in manifest.items], dtype=np.float32)
    numbers = [item.value for item in manifest.items]
    labels = np.array([item.label for item in manifest.items], dtype=np.int64)
    arrays = PublicArrays(
        rows.reshape(len(manifest.items), 1, 1, -1),
        labels if None in numbers else np.array(numbers, dtype=np.float32),
        tuple(_name(item) for item in manifest.items),
    )
    kind = "patient" if by_patient else "image"
    return SourceManifest(
        (),
        True,
        manifest.declared_patients,
        manifest.card,
        manifest.classes,
        "patient" if kind == "patient" else "image",
        dropped_columns=manifest.dropped_columns,
        arrays=arrays,
    )


def _name(item: SourceItem) -> str:
    """Of a unit: no number of a patient as it stands, though the table is public."""
    return hashlib.sha256(repr(unit_key(item)).encode()).hexdigest()[:32]


def _card(table: Table, config: DataConfig) -> str:
    return (
        f"a table of {len(config.columns)} numbers a row, which its operator declares public; it passes no intake, and "
        f"{table.dropped_columns} other columns were not read"
    )
