"""Real images: headers that devices wrote into them are covered, and what only looks like text is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from fedimg.dicom.pixels import stored_frames
from fedimg.dicom.text import Frames, TextDetector
from fedimg.dicom.text.evaluation import covered_share
from fedimg.dicom.text.views import Palette, planes

SHARED = Path(__file__).parents[4] / "shared" / "data" / "dicom"


def frames_of(name: str) -> Frames:
    """The first frame of one of the shared files."""
    path = next(SHARED.rglob(name), None) if SHARED.is_dir() else None
    if path is None:
        pytest.skip(f"needs {name} of ../shared/data/dicom, which is not here")
    dataset = pydicom.dcmread(path)
    values, photometric = stored_frames(dataset)
    return Frames(values[:1], photometric, dataset.BitsStored, palette_of(dataset))


def palette_of(dataset: pydicom.Dataset) -> Palette | None:
    if dataset.PhotometricInterpretation != "PALETTE COLOR":
        return None
    _, first, bits = dataset.RedPaletteColorLookupTableDescriptor
    kind = "<u2" if bits == 16 else "u1"
    red, green, blue = (
        np.frombuffer(dataset[f"{colour}PaletteColorLookupTableData"].value, kind).astype(np.uint16)
        for colour in ("Red", "Green", "Blue")
    )
    return red, green, blue, int(first)


@pytest.fixture(scope="module")
def detector() -> TextDetector:
    return TextDetector()


@pytest.mark.parametrize(
    ("name", "x0", "y0", "x1", "y1"),
    [
        ("jpeg-ls-Palette.dcm", 0, 0, 145, 72),  # five lines with a date, close below each other
        ("jpeg-ls-Palette.dcm", 0, 160, 130, 225),
        ("OBXXXX1A_rle_2frame.dcm", 80, 0, 800, 64),  # name of a hospital, number, date and time
        ("YBR_FULL-RLE.dcm", 20, 0, 300, 32),
        ("YBR_FULL-RLE.dcm", 510, 0, 640, 20),
    ],
)
def test_headers_of_devices_are_covered(detector, name, x0, y0, x1, y1):
    frames = frames_of(name)
    ink = np.zeros(frames.values.shape[1:3], np.bool_)
    ink[y0:y1, x0:x1] = planes(frames, 0)[0][y0:y1, x0:x1] > 128
    assert ink.sum() > 200
    assert covered_share(ink, detector.find(frames)) >= 0.98


@pytest.mark.parametrize(
    ("name", "most"),
    [  # what was measured, with room for a side marker
        ("RG1_J2KI.dcm", 0.045),  # fine structure of bone
        ("RG3_J2KI.dcm", 0.01),
        ("MR-JPEGLosslessSV1.dcm", 0.01),
        ("liver.dcm", 0.01),
        ("MR2_J2KI.dcm", 0.02),
    ],
)
def test_images_without_lines_are_hardly_touched(detector, name, most):
    frames = frames_of(name)
    touched = np.zeros(frames.values.shape[1:3], np.bool_)
    for box in detector.find(frames):
        touched[box.y0 : box.y1 + 1, box.x0 : box.x1 + 1] = True
    assert touched.mean() <= most
