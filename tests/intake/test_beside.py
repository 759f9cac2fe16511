"""What a table says beside an image goes into the home's index with its label, and is made good without a new release."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fedimg.home import SiteHome
from fedimg.intake import IntakeConfig, admitted, run_intake
from fedimg.values import SourceItem


@pytest.fixture
def home(tmp_path):
    return SiteHome.create(tmp_path / "home", simulated=True)


@pytest.fixture
def item(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (24, 24)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    beside = {"features": (("age", 63.0),), "modality": "FLAIR"}
    return SourceItem(tmp_path / "one.png", "image", "PATIENT-7", 1, **beside)


def test_features_and_modality_come_with_the_record(home, item):
    run_intake([item], home, IntakeConfig())
    (record,) = admitted(home)
    assert record.features == (("age", 63.0),) and record.modality == "FLAIR"
    receipts = b"".join(p.read_bytes() for p in home.receipts.parent.rglob("*receipt*") if p.is_file())
    assert receipts and b"FLAIR" not in receipts and b"63.0" not in receipts


def test_a_corrected_cell_counts_from_the_next_intake_and_the_release_stands(home, item):
    run_intake([item], home, IntakeConfig())
    before = admitted(home)[0]
    corrected = replace(item, features=(("age", 36.0), ("marker", 2.0)), modality="")
    again = run_intake([corrected], home, IntakeConfig())
    (after,) = admitted(home)
    assert again.resumed == 1 and after.sha256 == before.sha256 and after.path == before.path
    assert dict(after.features) == {"age": 36.0, "marker": 2.0}
    assert after.modality != "FLAIR"
