"""Small real folders: DICOM files written by the library's own author, PNGs and NIfTIs by name only."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedimg.dicom import authoring
from fedimg.sources import DataConfig


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.fixture
def write_table(folder) -> Callable[..., Path]:
    """A CSV from dicts; the columns are those of the first one."""

    def write(rows, name="labels.csv"):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return folder / name

    return write


@pytest.fixture
def write_files(folder) -> Callable[..., None]:
    """Files whose content no source looks at."""

    def write(*names):
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"pixels")

    return write


@pytest.fixture
def write_dicom(folder) -> Callable[..., Path]:
    """One small CR image; uids are given by short numbers."""

    def write(name, patient="P1", study=1, instance=1, **attributes):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(instance).integers(0, 255, (8, 8), dtype=np.uint8)
        authoring.write_image(
            path,
            modality=attributes.pop("modality", "CR"),
            pixels=pixels,
            attributes={
                "PatientID": patient,
                "StudyInstanceUID": f"1.2.3.{study}",
                "SeriesInstanceUID": f"1.2.3.{study}.1",
                "SOPInstanceUID": f"1.2.3.{study}.1.{instance}",
                **attributes,
            },
        )
        return path

    return write


@pytest.fixture
def config(folder) -> Callable[..., DataConfig]:
    def make(name="images", **changes):
        return DataConfig(**({"name": name, "path": str(folder), "partition": "iid"} | changes))

    return make
