"""An Orthanc of its own on this machine, with DICOMweb: a PACS to send to, for tests and measurements."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from loopback_federation import free_port
from loopback_watch import wait_for

_PLUGINS = "/usr/share/orthanc/plugins"


@dataclass
class Orthanc:
    """Started while it is entered; everything below a folder.

    Attributes:
        program: its path. folder: of configuration and store. dicom, http: ports of the loopback.
    """

    program: str
    folder: Path
    dicom: int = field(default_factory=free_port)
    http: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def studies(self) -> str:
        """Of STOW-RS."""
        return f"http://127.0.0.1:{self.http}/dicom-web/studies"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = {
            "Name": "PACS",
            "StorageDirectory": str(self.folder / "store"),
            "IndexDirectory": str(self.folder / "store"),
            "Plugins": [_PLUGINS],
            "DicomAet": "PACS",
            "DicomPort": self.dicom,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "HttpPort": self.http,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "HttpServerEnabled": True,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        file = self.folder / "orthanc.json"
        file.write_text(json.dumps(configuration))
        with (self.folder / "orthanc.log").open("wb") as log:
            self._process = subprocess.Popen([self.program, str(file)], stdout=log, stderr=log)
        wait_for(self._answers, 60, "Orthanc")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)
            self._process = None

    def get(self, path: str) -> Any:
        """JSON of its own interface."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=30) as answer:
            return json.loads(answer.read())

    def file(self, instance: str) -> bytes:
        """An instance as it stores it."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.http}/instances/{instance}/file", timeout=30
        ) as answer:
            return bytes(answer.read())

    def by_modality(self) -> dict[str, list[str]]:
        """Modality → its identifiers of instances."""
        found: dict[str, list[str]] = {}
        for series in self.get("/series"):
            said = self.get(f"/series/{series}")
            found.setdefault(said["MainDicomTags"]["Modality"], []).extend(said["Instances"])
        return found

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"Orthanc ended: {(self.folder / 'orthanc.log').read_text()[-2000:]}")
        try:
            self.get("/system")
        except (urllib.error.URLError, OSError):
            return False
        return True
