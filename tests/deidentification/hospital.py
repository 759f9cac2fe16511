"""A hospital's files into the station by its front door, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from rawdicom import File
from scanner import Secret, left_behind

from fedimg.dicom.profile import PROFILES
from fedimg.home import SiteHome
from fedimg.intake import IntakeConfig, IntakeResult, run_intake
from fedimg.values import SourceItem

__all__ = ["PROFILES", "RETAINED", "Taken", "intake", "take"]


# What a profile says that it keeps: ps315-research has the Retain Device Identity Option (PS3.15 E.3.8).
RETAINED: Mapping[str, frozenset[str]] = {
    "ps315-research": frozenset(
        {"DeviceSerialNumber", "PlateID", "CassetteID", "GantryID", "GeneratorID", "DetectorID"}
    )
}


@dataclass(frozen=True)
class Taken:
    """What one run released and held back. `released` in the order of the inputs."""

    home: SiteHome
    result: IntakeResult
    released: tuple[bytes, ...]
    reasons: tuple[str, ...]
    profile: str = "train"

    @property
    def only(self) -> bytes:
        """The one released file; a message of reasons where there is none."""
        assert len(self.released) == 1, self.reasons
        return self.released[0]

    @property
    def dataset(self) -> pydicom.Dataset:
        return pydicom.dcmread(BytesIO(self.only))

    def leaks(self, planted: Mapping[str, Secret | str]) -> list[str]:
        """Places whose value is in a released file, or anywhere else in the site's folder but its key."""
        secrets = {k: v if isinstance(v, Secret) else Secret(v) for k, v in planted.items()}
        for place in RETAINED.get(self.profile, ()):
            secrets.pop(place, None)
        found = [place for data in self.released for place in left_behind(data, secrets)]
        for path in self.home.root.rglob("*"):
            if path.is_file() and self.home.released not in path.parents:
                found += [f"{place} (in {path.name})" for place in left_behind(path.read_bytes(), secrets)]
            name = str(path.relative_to(self.home.root)).encode()
            found += [f"{place} (in a name)" for place in left_behind(name, secrets)]
        return found


def take(
    folder: Path, *files: File | bytes, profile: str = "train", names: tuple[str, ...] = (), **options: Any
) -> Taken:
    """Files (or their bytes) through `run_intake` into a fresh home with a fixed key."""
    source = folder / "in"
    items = []
    for index, file in enumerate(files):
        path = source / (names[index] if names else f"{index}.dcm")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.to_bytes() if isinstance(file, File) else file)
        items.append(SourceItem(path, "dicom", label=0))
    return intake(folder, items, profile=profile, **options)


def intake(
    folder: Path,
    items: list[SourceItem],
    *,
    profile: str = "train",
    key: str = "cases",
    config: type = IntakeConfig,
    **options: Any,
) -> Taken:
    root = folder / "home"
    home = SiteHome.open(root) if root.exists() else SiteHome.create(root, simulated=True, insecure_seed=key)
    result = run_intake(items, home, config(profile=profile, **options))
    released = tuple((home.released / record.path).read_bytes() for record in result.records)
    reasons = tuple(reason.value for reason, count in result.quarantined.items() for _ in range(count))
    return Taken(home, result, released, reasons, profile)
