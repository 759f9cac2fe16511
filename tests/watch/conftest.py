"""A watcher's store, and arrivals that no file stands behind."""

from __future__ import annotations

import hashlib

import pytest
from loopback_orthanc import Orthanc

from fedimg.dicom.arrival import Arrival
from sites.watch.store.database import Database
from sites.watch.store.whole import Store
from tests.system import program


@pytest.fixture
def pacs(tmp_path):
    """A real archive; skipped where the system has none."""
    with Orthanc(program("Orthanc"), tmp_path / "orthanc") as one:
        yield one


def made_arrival(sop: int = 1, *, study: str = "1.2.3", series: str = "1.2.3.4", **changed) -> Arrival:
    values = {
        "study_uid": study,
        "series_uid": series,
        "sop_uid": f"{series}.{sop}",
        "sop_class": "1.2.840.10008.5.1.4.1.1.2",
        "transfer_syntax": "1.2.840.10008.1.2.1",
        "modality": "CT",
        "body_part": "CHEST",
        "rows": 64,
        "columns": 64,
        "frames": 1,
        "number": sop,
        "position_mm": 5.0 * sop,
        "spacing_between_mm": None,
        "patient_id": "PLANTED-4711",
        "patient_name": "PLANTED^NAME",
        "accession": "A1",
        "study_date": "20260101",
        "description": "CT THORAX",
        "stat": False,
        "size": 1000,
        "sha256": hashlib.sha256(f"{study}{series}{sop}".encode()).hexdigest(),
    }
    return Arrival(**(values | changed))


@pytest.fixture
def arrival():
    return made_arrival


@pytest.fixture
def store(tmp_path):
    database = Database(tmp_path)
    yield Store(database)
    database.close()
