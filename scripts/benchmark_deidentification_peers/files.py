"""The files that every side takes: CT slices of 512² with a real scanner's header, and the planted file.

The header is that of pydicom's own test file CT_small.dcm (230 elements, private blocks among them)
with other persons; the pixels are generated: bodies, organs, noise, no two alike.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

PLANTED = Path(__file__).resolve().parents[2] / "tests" / "deidentification"


def write_slices(folder: Path, count: int, size: int = 512) -> None:
    """`count` files, a hundred to a patient."""
    folder.mkdir(parents=True)
    template = pydicom.dcmread(Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm")
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    rng = np.random.default_rng(1)
    bodies = [_body(x, y, rng) for _ in range(12)]
    for number in range(count):
        plain = bodies[number % len(bodies)]
        noise = rng.standard_normal((size, size), np.float32) * 9
        template.PixelData = (plain + noise).clip(0, 4095).astype("<i2").tobytes()
        _identify(template, number, size)
        template.save_as(folder / f"{number:05}.dcm")


def _body(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    body = 1000 / (1 + np.exp(40 * (np.hypot(x / 0.8, y / 0.6) - 1)))
    centres = rng.uniform(-0.45, 0.45, (6, 2))
    organs = np.sum([80 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 0.03) for cx, cy in centres], axis=0)
    image: np.ndarray = 30 + body + organs * (body > 500)
    return image


def _identify(dataset: Any, number: int, size: int) -> None:
    patient, slice_ = divmod(number, 100)
    dataset.Rows = dataset.Columns = size
    dataset.PatientName = f"HALVORSEN{patient:03}^INGRIDA"
    dataset.PatientID = f"MRN{5550000 + patient}"
    dataset.PatientBirthDate, dataset.StudyDate = "19500607", "20180309"
    dataset.ReferringPhysicianName, dataset.AccessionNumber = "OYELARAN^BABATUNDE", f"{77120000 + patient}"
    dataset.InstitutionName = "St. Ephrem Infirmary"
    dataset.StudyInstanceUID = f"1.2.826.0.1.3680043.77.{patient + 1}"
    dataset.SeriesInstanceUID = dataset.StudyInstanceUID + ".1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = (
        f"{dataset.SeriesInstanceUID}.{number + 1}"
    )
    dataset.InstanceNumber, dataset.ImagePositionPatient = slice_ + 1, [-170, -170, 2.5 * slice_]
    dataset.SliceLocation = 2.5 * slice_


def write_planted(folder: Path, seed: int) -> dict[str, Any]:
    """One CT with an identifier in each of some 240 places; returns place → secret."""
    tools = _tools()
    folder.mkdir(parents=True)
    plant = tools["planting"].Plant(seed)
    file = tools["planting"].everywhere(tools["images"].ct(), plant)
    (folder / "planted.dcm").write_bytes(file.to_bytes())
    secrets: dict[str, Any] = plant.secrets
    return secrets


def left_behind(folder: Path, secrets: dict[str, Any]) -> list[str]:
    """Places whose value is still in any file of the folder."""
    scan = _tools()["scanner"].left_behind
    found: set[str] = set()
    for path in folder.rglob("*"):
        if path.is_file():
            found.update(scan(path.read_bytes(), secrets))
    return sorted(found)


def _tools() -> dict[str, Any]:
    """The scanner and the planted set of the tests, which share nothing with the engine."""
    import importlib

    if str(PLANTED) not in sys.path:
        sys.path.insert(0, str(PLANTED))
    return {name: importlib.import_module(name) for name in ("scanner", "images", "planting")}
