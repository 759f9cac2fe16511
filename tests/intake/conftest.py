"""Small CT slices of planted patients, and an output folder whose key lies elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedimg.crypto.keys import SiteKey
from fedimg.dicom.authoring import write_image
from fedimg.home import OutFolder
from fedimg.intake import IntakeConfig

NAME, NUMBER = "QUIRRELL^ANNABETH", "MRN5550123"


def picture(seed: int, side: int = 32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wave = 1000 + 300 * np.sin(np.add.outer(np.arange(side), np.arange(side)) / 5)
    return (wave + rng.normal(0, 5, wave.shape)).astype(np.uint16)


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


@pytest.fixture
def slice_of(source) -> Callable[..., Path]:
    """Writes one CT slice below a folder named after the patient; keywords are DICOM's."""

    def write(seed: int, **attributes) -> Path:
        path = source / "Quirrell Annabeth" / f"{seed:03d}.dcm"
        path.parent.mkdir(exist_ok=True)
        known = {
            "PatientID": NUMBER,
            "PatientName": NAME,
            "StudyDate": "20120309",
            "PatientBirthDate": "19500607",
        }
        write_image(path, modality="CT", pixels=picture(seed), attributes=known | attributes)
        return path

    return write


@pytest.fixture
def key() -> SiteKey:
    return SiteKey.from_bytes(bytes(range(32)))


@pytest.fixture
def config() -> IntakeConfig:
    """Without the text detector, which none of these tests is about."""
    return IntakeConfig(project="trial")


@pytest.fixture
def out(tmp_path, key) -> OutFolder:
    return OutFolder.create(tmp_path / "out", key, "trial")
