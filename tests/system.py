"""Programs of the system that tests talk to: left out where they are not, but in continuous integration, which has them.

All at once: apt-get install chromium dcmtk dicom3tools orthanc orthanc-dicomweb
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PACKAGES = {
    "chromium": "chromium",
    "dciodvfy": "dicom3tools",
    "storescp": "dcmtk",
    "storescu": "dcmtk",
    "Orthanc": "orthanc orthanc-dicomweb",
}
_FOLDERS = (Path("/usr/bin"), Path("/usr/sbin"))  # packages of Python bring programs of the same names


def program(name):
    """Its path."""
    for folder in _FOLDERS:
        if (folder / name).exists():
            return str(folder / name)
    missing = f"needs {name}: apt-get install {PACKAGES[name]}"
    leave = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    return leave(missing)
