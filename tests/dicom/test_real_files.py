"""Real files, deliberately strange ones among them: released clean by an independent scan, or held back."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from fedimg.crypto.keys import SiteKey
from fedimg.dicom import gate
from fedimg.dicom.deidentify import Deidentifier, Hints
from fedimg.dicom.profile import registered_uids
from fedimg.dicom.reader import parse, read_dataset
from fedimg.dicom.refusal import Quarantined

KEY = SiteKey.from_bytes(b"k" * 32)
DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "dicom"


@pytest.fixture(scope="module")
def deidentifier() -> Deidentifier:
    return Deidentifier(KEY, "project")


def identifiers_of(dataset: Dataset) -> set[bytes]:
    """An independent reading of what identifies: names' parts, numbers, UIDs; by pydicom, decoded."""
    found: set[str] = set()
    for element in dataset.iterall():
        values = element.value if element.VM > 1 else [element.value]
        if element.VR == "PN":
            parts = (part for value in values for group in str(value).split("=") for part in group.split("^"))
            found.update(part for part in parts if len(part) >= 5)
        elif element.keyword in ("PatientID", "AccessionNumber", "OtherPatientIDs", "InstitutionName"):
            found.update(str(value) for value in values if len(str(value)) >= 6)
        elif element.VR == "UI":
            found.update(
                str(value) for value in values if str(value) not in registered_uids() and len(str(value)) > 12
            )
    return {text.strip().encode("utf-8", "replace") for text in found if text.strip()}


def real_files() -> list[Path]:
    shared = sorted(path for path in DATA.rglob("*") if path.is_file()) if DATA.exists() else []
    mr = [path for path in shared if "fmri" in path.name][::20]  # 150 alike
    shipped = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))
    return [path for path in shared if "fmri" not in path.name] + mr + shipped


@pytest.mark.filterwarnings("ignore")  # pydicom's own, about what these files are made to have wrong
def test_real_files_are_released_clean_or_held_back(deidentifier):
    files, released = real_files(), 0
    if not DATA.exists():
        print("real data absent: shared/data/dicom; pydicom's own files only")
    for path in files:
        try:
            release = deidentifier.deidentify(read_dataset(path), Hints())
        except Quarantined:
            continue
        released += 1
        assert gate.structure_fault(release.data, deidentifier.profile) is None, path.name
        assert not gate.outside(gate.search(release.data, release.needles, release.pixels), release.closed), (
            path.name
        )
        judged = bytearray(release.data)
        for start, end in release.closed:  # words of closed vocabularies: a patient may be named like one
            judged[start:end] = bytes(end - start)
        lower = bytes(judged).lower()
        try:
            expected = identifiers_of(pydicom.dcmread(path, force=True))
        except Exception:  # noqa: BLE001
            continue
        left = [value for value in expected if value.lower() in lower]
        assert left == [], path.name
        again = deidentifier.deidentify(parse(release.data))
        assert again.data == release.data, path.name
    assert released >= (30 if DATA.exists() else 8)
