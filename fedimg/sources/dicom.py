"""A folder of DICOM files, with labels from a table or from DICOM SEG masks.

The table names files, instances, studies or patients; the headers say which file is whose. A file
that nothing labels comes along without label: the intake quarantines it with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fedimg.dicom.reader import read_dataset
from fedimg.dicom.refusal import Quarantined, contained
from fedimg.dicom.segmentation import SEGMENTATIONS, segmentation_masks
from fedimg.errors import DataError
from fedimg.sources.config import DataConfig
from fedimg.sources.labelled_files import (
    FoundItems,
    add_once,
    divide,
    labels_path,
    site_and_split,
)
from fedimg.sources.manifest import SourceManifest
from fedimg.sources.paths import data_folder, inside, regular_files
from fedimg.sources.said import Said, columns, groups_of, needed, or_no_class, said_of
from fedimg.sources.tabular import Table, read_table
from fedimg.subgroups import UNKNOWN, Codes
from fedimg.values import Drawn, SourceItem, Split

CARD = "DICOM files of the operator's own, with labels from "
KEYS = ("path", "sop_instance_uid", "study_instance_uid", "patient_id")
"""Columns that say what a row is about, the most specific first; the first one present is used."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the division and the labels need of one file; empty where the file does not say."""

    sop_class: str = ""
    instance: str = ""
    study: str = ""
    patient: str = ""
    issuer: str = ""
    refers_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Row:
    said: Said
    site: str | None
    split: Split
    patient: str | None
    groups: Codes


def load(config: DataConfig, sites: int, seed: int) -> Mapping[str, SourceManifest]:
    """Read every header once, label, divide by patient.

    Raises ConfigError, DataError: no folder or table, a row that names no label, site or file that can
    be used, a table that contradicts the headers.
    """
    folder = data_folder(config.path)
    table_path = labels_path(folder, config)
    files = [path for path in regular_files(folder) if path != table_path]
    headers = {path: read_header(path) for path in files}
    rows: dict[str, _Row] = {}
    key, dropped, repeated = "path", 0, 0
    if config.label_from == "csv" or config.labels is not None:
        table = _table(table_path, config)
        key = next(name for name in KEYS if name in table.columns)
        rows, repeated = _rows(table, key, folder, config)
        dropped = table.dropped_columns
    masks = _labels_by_instance(headers) if config.label_from == "seg" else None
    outlines = _outlines(headers, config)
    drawings = [row.said.drawn for row in rows.values() if row.said.drawn]
    named = {mask for drawn in drawings for mask in drawn.masks}
    items, stated = [], {}
    for path, header in headers.items():
        if path in named or (masks is not None and header.sop_class in SEGMENTATIONS):
            continue  # a mask is a label here, not an input
        row = (
            rows.pop(_key_of(path, header, key), None)
            if key == "path"
            else rows.get(_key_of(path, header, key))
        )
        _same_patient(row, header)
        stated[path] = row.patient if row is not None and not header.patient else None
        item = _item(path, header, row, masks, together=config.together)
        items.append(replace(item, drawn=outlines.get(header.instance, item.drawn)))
    if key == "path" and rows:
        raise DataError("a file for every row", f"{len(rows)} rows whose file is absent", "correct the table")
    found = FoundItems(tuple(items), dropped, repeated, stated)
    source = "a table" if config.label_from == "csv" else "DICOM SEG masks"
    return divide(found, config, sites, seed, CARD + source)


def read_header(path: Path) -> Header:
    """Identifying attributes of one file; all empty where it cannot be read (the intake will say why)."""
    try:
        dataset = read_dataset(path)
        with contained():
            text = {
                name: str(dataset.get(keyword) or "").strip()
                for name, keyword in (
                    ("sop_class", "SOPClassUID"),
                    ("instance", "SOPInstanceUID"),
                    ("study", "StudyInstanceUID"),
                    ("patient", "PatientID"),
                    ("issuer", "IssuerOfPatientID"),
                )
            }
            references = tuple(
                str(instance.ReferencedSOPInstanceUID)
                for series in dataset.get("ReferencedSeriesSequence") or ()
                for instance in series.get("ReferencedInstanceSequence") or ()
            )
    except Quarantined:
        return Header()
    # Elements are converted on access, and raise whatever the converter of their VR meets.
    except Exception:  # noqa: BLE001
        return Header()
    return Header(**text, refers_to=references)


def _table(path: Path, config: DataConfig) -> Table:
    required = needed(config) if config.label_from == "csv" else ()
    table = read_table(path, (*KEYS, "site", "split", *columns(config)), required)
    if not any(name in table.columns for name in KEYS):
        raise DataError(f"one of the columns {', '.join(KEYS)}", "none of them", "say what each row is about")
    return table


def _rows(table: Table, key: str, folder: Path, config: DataConfig) -> tuple[dict[str, _Row], int]:
    rows: dict[str, _Row] = {}
    repeated = 0
    for number, cells in enumerate(table.rows, start=2):
        name = cells[key]
        if not name:
            raise DataError(f"{key} in every row", f"none in row {number}", "fill it, or leave the row out")
        if key == "path":
            name = str(inside(folder, name, number))
        said = said_of(folder, cells, number, config)
        site, split = site_and_split(cells, number)
        patient = None if key == "patient_id" else cells.get("patient_id") or None
        repeated += add_once(rows, name, _Row(said, site, split, patient, groups_of(cells, config)), number)
    return rows, repeated


def _key_of(path: Path, header: Header, key: str) -> str:
    by_header = {
        "sop_instance_uid": header.instance,
        "study_instance_uid": header.study,
        "patient_id": header.patient,
    }
    return by_header.get(key, str(path))


def _same_patient(row: _Row | None, header: Header) -> None:
    if row is not None and row.patient and header.patient and row.patient != header.patient:
        raise DataError(
            "a table that agrees with the files on who the patient is",
            "a file whose header has another PatientID than its row",
            "correct the table: a patient under two numbers would lose part of the protection",
        )


def _item(
    path: Path, header: Header, row: _Row | None, masks: Mapping[str, bool] | None, *, together: bool
) -> SourceItem:
    """The patient number here only keeps a patient's files together; numbers are unique per issuer."""
    patient = f"{header.issuer}\x1f{header.patient}" if header.patient else (row.patient if row else None)
    said = row.said if row is not None else Said(None)
    label = said.label
    if masks is not None:
        label = int(masks[header.instance]) if header.instance in masks else None
        label = or_no_class(replace(said, label=label)).label if together else label
    site, split = (row.site, row.split) if row is not None else (None, "train")
    groups = row.groups if row is not None else UNKNOWN
    beside = (said.drawn, said.value, groups, said.features, said.modality)
    return SourceItem(path, "dicom", patient, label, site, split, *beside)


def _outlines(headers: Mapping[Path, Header], config: DataConfig) -> dict[str, Drawn]:
    """The segmentations over each image, by its SOPInstanceUID, where masks are asked for and come as SEG."""
    if config.voxels != "masks" or config.label_from != "seg":
        return {}
    found: dict[str, list[Path]] = {}
    for path, header in headers.items():
        if header.sop_class in SEGMENTATIONS:
            for instance in header.refers_to:
                found.setdefault(instance, []).append(path)
    return {name: Drawn(masks=tuple(masks), classes=len(config.classes)) for name, masks in found.items()}


def _labels_by_instance(headers: Mapping[Path, Header]) -> dict[str, bool]:
    """Is any pixel of an image segmented? By SOPInstanceUID, for every image that some mask refers to.

    An image that is referred to without a frame over it was looked at and is negative; one that no
    mask refers to is unlabelled. A mask that does not decode labels nothing.
    """
    labels: dict[str, bool] = {}
    for path, header in headers.items():
        if header.sop_class not in SEGMENTATIONS:
            continue
        try:
            masks = segmentation_masks(path)
        except Quarantined:
            continue
        for instance in header.refers_to:
            labels.setdefault(instance, False)
        for instance, mask in masks.items():
            labels[instance] = labels.get(instance, False) or bool(mask.any())
    return labels
