"""Two small hospitals and a public set, generated once; read back by pydicom, not by this library."""

from __future__ import annotations

import csv
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest

from fedimg.cohort import CohortConfig, generate_cohort

CONFIG = CohortConfig(hospitals=4, patients_per_hospital=18, phantom_public_patients=16)
SEED = 3


@dataclass(frozen=True)
class Folder:
    root: Path
    rows: list[dict[str, str]]
    planted: dict

    @property
    def broken(self) -> dict[str, str]:
        return {entry["path"]: entry["fault"] for entry in self.planted["broken"]}

    @property
    def whole(self) -> list[dict[str, str]]:
        return [row for row in self.rows if self.broken.get(row["path"], "duplicate") == "duplicate"]

    def dataset(self, row: dict[str, str]) -> pydicom.Dataset:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(self.root / row["path"])


def read_folder(root: Path) -> Folder:
    with (root / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return Folder(root, rows, json.loads((root / "planted.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Folder]:
    found = generate_cohort(tmp_path_factory.mktemp("cohort"), CONFIG, SEED)
    return {site: read_folder(root) for site, root in found.items()}


@pytest.fixture(scope="session")
def hospitals(folders) -> list[Folder]:
    return [folder for site, folder in folders.items() if site != "public"]
